//! The one writer: takes all that waits, checks it, commits it as one batch with one sync, and answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fjall::{Keyspace, OwnedWriteBatch, PersistMode};
use tokio::sync::oneshot;

use super::database::Shared;
use super::dataset::{DatasetState, Slice};
use super::error::of_read;
use super::keys::{self, DatasetId};
use super::queue::{EncodedEvent, Request};
use super::recent::RecentEvents;
use super::tables::Tables;
use super::values::{self, Progress};
use crate::model::{Checkpoint, SliceRecord, SliceState, Timestamp};
use crate::store::{Error, Result, RollupRow, Touch};

/// How far ahead of the events the horizon is raised. After a restart, tokens are looked up in the tables until event times
/// have passed it.
const HORIZON_STEP: Duration = Duration::from_secs(1);

/// What only the committer knows of a dataset.
struct Writing {
    progress: Progress,
    /// The progress has changed since it was last staged.
    has_progressed: bool,
    recent: RecentEvents,
}

struct StagedEvent {
    hash: u64,
    table: Keyspace,
    key: fjall::Slice,
    value: fjall::Slice,
}

/// An answer that waits for the commit, and what it will be when that succeeds.
enum Answer {
    Events(oneshot::Sender<Vec<Result<()>>>, Vec<Result<()>>),
    Row(oneshot::Sender<Result<()>>),
}

impl Answer {
    fn send(self, committed: &Result<()>) {
        // A caller that has gone away wants no answer.
        match (self, committed) {
            (Self::Events(reply, results), Ok(())) => drop(reply.send(results)),
            (Self::Events(reply, mut results), Err(error)) => {
                // Those that were refused stay so; the others share the commit's fate.
                results.iter_mut().filter(|result| result.is_ok()).for_each(|result| *result = Err(error.clone()));
                drop(reply.send(results));
            }
            (Self::Row(reply), committed) => drop(reply.send(committed.clone())),
        }
    }
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    tables: Tables,
    /// The last commit's number.
    sequence: u64,
    datasets: HashMap<(String, String), Arc<DatasetState>>,
    writing: HashMap<DatasetId, Writing, foldhash::fast::RandomState>,
    /// What the next commit writes: events, rows, and the progress of the datasets that have any.
    events: Vec<StagedEvent>,
    rows: HashMap<Vec<u8>, RollupRow, foldhash::fast::RandomState>,
    answers: Vec<Answer>,
}

/// When the committer's thread ends, however it does, nobody waits for it any more.
struct EndOfThread(Arc<Shared>);

impl Drop for EndOfThread {
    fn drop(&mut self) {
        if thread::panicking() {
            // The first failure is the one to report.
            let _ = self.0.failure.set("the committer has failed; restart the process".to_owned());
        }
        self.0.queue.abandon();
    }
}

impl Committer {
    pub fn new(shared: Arc<Shared>, tables: Tables, sequence: u64) -> Self {
        Self {
            shared,
            tables,
            sequence,
            datasets: HashMap::new(),
            writing: HashMap::default(),
            events: Vec::new(),
            rows: HashMap::default(),
            answers: Vec::new(),
        }
    }

    /// Serves until the queue is closed and empty. The body of the committer's thread.
    pub fn run(mut self) {
        let _end = EndOfThread(self.shared.clone());
        let shared = self.shared.clone();
        let mut requests = Vec::new();
        while shared.queue.take(&mut requests) {
            for request in requests.drain(..) {
                self.handle(request);
            }
            self.commit();
        }
        for dataset in self.datasets.values() {
            *dataset.slices_mut() = None;
        }
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Append { dataset, events, reply } => {
                let results = self.stage_events(&dataset, events);
                self.answers.push(Answer::Events(reply, results));
            }
            Request::Touch { key, touch, reply } => {
                let staged = self.stage_row(key, |row| touched(row, touch));
                self.answer_row(reply, staged);
            }
            Request::Checkpoint { dataset, key, checkpoint, reply } => {
                let staged = self.stage_checkpoint(&dataset, key, checkpoint);
                self.answer_row(reply, staged);
            }
            // What changes the tables themselves is rare and goes by itself, behind what came before it.
            Request::OpenDataset { name, region, reply } => {
                self.commit();
                drop(reply.send(self.open_dataset(name, region)));
            }
            Request::CreateSlice { dataset, record, reply } => {
                self.commit();
                drop(reply.send(self.create_slice(&dataset, record)));
            }
            Request::SetSliceState { dataset, start, state, reply } => {
                self.commit();
                drop(reply.send(self.set_slice_state(&dataset, start, state)));
            }
        }
    }

    fn answer_row(&mut self, reply: oneshot::Sender<Result<()>>, staged: Result<()>) {
        match staged {
            Ok(()) => self.answers.push(Answer::Row(reply)),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn stage_events(&mut self, dataset: &DatasetState, events: Vec<EncodedEvent>) -> Vec<Result<()>> {
        // Nearly always all events of a call lie in one slice.
        let mut table: Option<(Timestamp, Keyspace)> = None;
        let mut results = Vec::with_capacity(events.len());
        for event in events {
            let found = match &table {
                Some((start, table)) if *start == event.slice_start => Ok(table.clone()),
                _ => events_table(&self.tables, dataset, event.slice_start),
            };
            results.push(found.and_then(|found| {
                table = Some((event.slice_start, found.clone()));
                self.stage_event(dataset.id, found, event)
            }));
        }
        results
    }

    fn stage_event(&mut self, dataset: DatasetId, table: Keyspace, event: EncodedEvent) -> Result<()> {
        let EncodedEvent { event_time, key, value, .. } = event;
        let Some(writing) = self.writing.get_mut(&dataset) else {
            return Err(Error::Corrupt { reason: format!("dataset {dataset} was never opened") });
        };
        if let Some(boundary) = writing.progress.boundary.filter(|boundary| event_time <= *boundary) {
            return Err(Error::BehindBoundary { boundary });
        }
        let hash = xxhash_rust::xxh3::xxh3_64(&key);
        if !writing.recent.is_surely_new(hash, event_time) {
            let staged =
                self.events.iter().find(|staged| staged.hash == hash && staged.key == key && staged.table == table);
            let known = match staged {
                Some(staged) => Some(staged.value.clone()),
                None => table.get(&key).map_err(|error| of_read(&error))?,
            };
            match known {
                Some(known) if known == value => return Ok(()),
                Some(_) => return Err(Error::TokenReused),
                None => {}
            }
        }
        writing.recent.remember(hash, event_time);
        if event_time > writing.progress.horizon {
            writing.progress.horizon = event_time.plus(HORIZON_STEP);
            writing.has_progressed = true;
        }
        self.events.push(StagedEvent { hash, table, key, value });
        Ok(())
    }

    /// Stages the row of `key` with `change` made to it, where that makes a difference.
    fn stage_row(&mut self, key: Vec<u8>, change: impl FnOnce(RollupRow) -> RollupRow) -> Result<()> {
        if let Some(row) = self.rows.get_mut(&key) {
            *row = change(*row);
            return Ok(());
        }
        let stored = self.tables.rollups.get(&key).map_err(|error| of_read(&error))?;
        let stored = stored.map(|bytes| values::row_from(&bytes)).transpose()?;
        let changed = change(stored.unwrap_or_default());
        if stored != Some(changed) {
            self.rows.insert(key, changed);
        }
        Ok(())
    }

    fn stage_checkpoint(&mut self, dataset: &DatasetState, key: Vec<u8>, checkpoint: Checkpoint) -> Result<()> {
        self.stage_row(key, |row| RollupRow { checkpoint: row.checkpoint.max(Some(checkpoint)), ..row })?;
        if let Some(writing) = self.writing.get_mut(&dataset.id)
            && writing.progress.boundary < Some(checkpoint.last_rollup_ts)
        {
            writing.progress.boundary = Some(checkpoint.last_rollup_ts);
            writing.has_progressed = true;
        }
        Ok(())
    }

    /// Commits what is staged, and answers all that wait for it.
    fn commit(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        let mut batch =
            OwnedWriteBatch::with_capacity(self.tables.database.clone(), self.events.len() + self.rows.len() + 2);
        for StagedEvent { table, key, value, .. } in self.events.drain(..) {
            batch.insert(&table, key, value);
        }
        for (key, row) in self.rows.drain() {
            batch.insert(&self.tables.rollups, key.as_slice(), values::row(&row).as_slice());
        }
        for (dataset, writing) in self.writing.iter_mut().filter(|(_, writing)| writing.has_progressed) {
            let value = values::progress(&writing.progress);
            batch.insert(&self.tables.meta, keys::progress(*dataset).as_slice(), value.as_slice());
            writing.has_progressed = false;
        }
        // All that was asked may be there already; then it is durable already, for only what is synced is read.
        let committed = if batch.is_empty() { self.check_failure() } else { self.sync(batch) };
        for answer in self.answers.drain(..) {
            answer.send(&committed);
        }
    }

    fn check_failure(&self) -> Result<()> {
        match self.shared.failure.get() {
            Some(reason) => Err(Error::Unavailable { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Writes a batch with the next commit's number, synced. `fdatasync` is enough: it also writes what is needed to read the
    /// data back, the file's size and blocks among it, and leaves out only times; the journal's name was synced when fjall made it.
    fn sync(&mut self, mut batch: OwnedWriteBatch) -> Result<()> {
        self.check_failure()?;
        self.sequence += 1;
        batch.insert(&self.tables.meta, keys::COMMIT, self.sequence.to_le_bytes().as_slice());
        let committed = batch.durability(Some(PersistMode::SyncData)).commit();
        let Err(error) = committed else {
            self.shared.synced.advance(self.sequence);
            return Ok(());
        };
        let reason = format!("a write could not be synced ({error}); restart the process when its disk is well");
        tracing::error!(%error, "the embedded store takes no more writes");
        // The first failure is the one to report.
        let _ = self.shared.failure.set(reason.clone());
        Err(match error {
            // fjall had failed before, on its own threads, and wrote nothing of this batch.
            fjall::Error::Poisoned => Error::Unavailable { reason },
            _ => Error::Timeout { reason },
        })
    }

    fn open_dataset(&mut self, name: String, region: String) -> Result<Arc<DatasetState>> {
        let names = (name, region);
        if let Some(known) = self.datasets.get(&names) {
            return Ok(known.clone());
        }
        let key = keys::dataset(&names.0, &names.1);
        let read = |error| of_read(&error);
        let id = match self.tables.meta.get(&key).map_err(read)? {
            Some(bytes) => id_from(&bytes)?,
            None => {
                let mut next = 0;
                for guard in self.tables.meta.prefix(keys::DATASETS) {
                    next = next.max(id_from(&guard.value().map_err(read)?)? + 1);
                }
                let mut batch = self.tables.database.batch();
                batch.insert(&self.tables.meta, key.as_slice(), next.to_le_bytes().as_slice());
                self.sync(batch)?;
                next
            }
        };
        let progress = self.tables.meta.get(keys::progress(id)).map_err(read)?;
        let progress = progress.map_or(Ok(Progress::NONE), |bytes| values::progress_from(&bytes))?;
        let state = Arc::new(DatasetState::new(id, self.read_slices(id)?));
        let recent = RecentEvents::after(progress.horizon);
        self.writing.insert(id, Writing { progress, has_progressed: false, recent });
        self.datasets.insert(names, state.clone());
        Ok(state)
    }

    fn read_slices(&self, dataset: DatasetId) -> Result<BTreeMap<Timestamp, Slice>> {
        let read = |error| of_read(&error);
        let mut slices = BTreeMap::new();
        for guard in self.tables.meta.prefix(keys::slices(dataset)) {
            let (key, value) = guard.into_inner().map_err(read)?;
            let start = keys::slice_start(&key)?;
            let record = values::slice_from(start, &value)?;
            let table = keys::slice_table(dataset, start);
            let events = if !self.tables.database.keyspace_exists(&table) {
                None
            } else if record.state == SliceState::Dropped {
                // A crash came between the record and the drop.
                drop_table(&self.tables, dataset, start)?;
                None
            } else {
                Some(self.tables.events(&table).map_err(read)?)
            };
            slices.insert(start, Slice { record, events });
        }
        Ok(slices)
    }

    fn create_slice(&mut self, dataset: &DatasetState, record: SliceRecord) -> Result<()> {
        if dataset.slices().as_ref().is_some_and(|slices| slices.contains_key(&record.start)) {
            return self.check_failure();
        }
        self.write_slice(dataset.id, &record)?;
        if let Some(slices) = dataset.slices_mut().as_mut() {
            slices.insert(record.start, Slice { record, events: None });
        }
        Ok(())
    }

    fn set_slice_state(&mut self, dataset: &DatasetState, start: Timestamp, to: SliceState) -> Result<()> {
        let known = dataset.slices().as_ref().and_then(|slices| slices.get(&start)).map(|slice| slice.record.clone());
        let mut record = known.ok_or(Error::MissingSlice { slice_start: start })?;
        if record.state < to {
            record.state = to;
            self.write_slice(dataset.id, &record)?;
        }
        let is_dropped = record.state == SliceState::Dropped;
        let events = match dataset.slices_mut().as_mut().and_then(|slices| slices.get_mut(&start)) {
            Some(slice) => {
                slice.record = record;
                slice.events.take_if(|_| is_dropped)
            }
            None => None,
        };
        drop(events);
        if is_dropped { drop_table(&self.tables, dataset.id, start) } else { self.check_failure() }
    }

    fn write_slice(&mut self, dataset: DatasetId, record: &SliceRecord) -> Result<()> {
        let mut batch = self.tables.database.batch();
        let key = keys::slice(dataset, record.start);
        batch.insert(&self.tables.meta, key.as_slice(), values::slice(record).as_slice());
        self.sync(batch)
    }
}

fn id_from(bytes: &[u8]) -> Result<DatasetId> {
    let bytes =
        bytes.try_into().map_err(|_| Error::Corrupt { reason: "a dataset's number cannot be read".to_owned() })?;
    Ok(DatasetId::from_le_bytes(bytes))
}

fn touched(row: RollupRow, touch: Touch) -> RollupRow {
    let first_write_ts = match (row.first_write_ts, touch.first_write_ts) {
        (Some(stored), Some(offered)) => Some(stored.min(offered)),
        (stored, offered) => stored.or(offered),
    };
    RollupRow { last_write_ts: row.last_write_ts.max(touch.last_write_ts), first_write_ts, ..row }
}

/// The events' table of a slice that takes events, made where this is its first.
fn events_table(tables: &Tables, dataset: &DatasetState, slice_start: Timestamp) -> Result<Keyspace> {
    {
        let slices = dataset.slices();
        let slice = slices.as_ref().and_then(|slices| slices.get(&slice_start));
        match slice.filter(|slice| slice.record.state != SliceState::Dropped) {
            Some(Slice { events: Some(events), .. }) => return Ok(events.clone()),
            Some(Slice { events: None, .. }) => {}
            None => return Err(Error::MissingSlice { slice_start }),
        }
    }
    let made = tables.events(&keys::slice_table(dataset.id, slice_start)).map_err(|error| Error::Unavailable {
        reason: format!("cannot make the table of the slice that starts at {slice_start}: {error}"),
    })?;
    if let Some(slice) = dataset.slices_mut().as_mut().and_then(|slices| slices.get_mut(&slice_start)) {
        slice.events = Some(made.clone());
    }
    Ok(made)
}

/// Drops a slice's table, where there is one. Its files go when the last scan of it ends.
fn drop_table(tables: &Tables, dataset: DatasetId, slice_start: Timestamp) -> Result<()> {
    let name = keys::slice_table(dataset, slice_start);
    if !tables.database.keyspace_exists(&name) {
        return Ok(());
    }
    let dropped = tables.events(&name).and_then(|table| tables.database.delete_keyspace(table));
    dropped.map_err(|error| Error::Unavailable {
        reason: format!("cannot drop the table of the slice that starts at {slice_start}: {error}"),
    })
}
