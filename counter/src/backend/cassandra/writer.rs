//! Writes rows through lanes: unlogged batches that form while others are under way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfileHandle;
use scylla::client::session::Session;
use scylla::cluster::ClusterState;
use scylla::errors::ExecutionError;
use scylla::frame::response::result::TableSpec;
use scylla::routing::Token;
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::batch::{Batch as CqlBatch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::error::{self, Extent};
use super::lanes::{Batch, Lane, PartitionToken, Waiting};
use super::schema::tables::ROLLUP;
use super::statements::{EventStatements, RowStatements, Statements};
use super::{ring, values};
use crate::model::{Checkpoint, CounterKey, CounterName, Event, Partition, Timestamp};
use crate::store::{Append, Error, Result, Touch};

/// The most memory that waiting writes take; from then on writes are refused.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a waiting write takes besides its names.
const WRITE_OVERHEAD_BYTES: usize = 384;
/// How long a write may take, waiting included. Each request of it ends sooner.
const WRITE_TIME_MAX: Duration = Duration::from_secs(5);
/// What a row and its cells add to a batch besides what varies, as Cassandra counts it.
const ROW_BYTES: usize = 64;

/// The replicas that a lane is for: their host ids, added without carry.
type LaneKey = u128;
type Reply = oneshot::Sender<Result<()>>;

/// Memory that is given back when it is dropped.
#[derive(Debug)]
struct Held {
    room: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// What is written.
enum What {
    Event { statements: Arc<EventStatements>, partition: Partition, event: Event },
    Touch { statements: Arc<RowStatements>, counter: CounterKey, touch: Touch },
    Checkpoint { statements: Arc<RowStatements>, counter: CounterKey, checkpoint: Checkpoint },
}

/// What is written, and who waits for it.
struct Write {
    what: What,
    replies: Vec<Reply>,
    _held: Held,
}

impl Write {
    fn answer(self, result: &Result<()>) {
        for reply in self.replies {
            // A caller that has gone away wants no answer.
            drop(reply.send(result.clone()));
        }
    }
}

impl Waiting for Write {
    fn bytes(&self) -> usize {
        match &self.what {
            What::Event { event, .. } => ROW_BYTES + event.event_id.as_str().len(),
            What::Touch { .. } => 2 * ROW_BYTES,
            What::Checkpoint { .. } => ROW_BYTES + Checkpoint::ENCODED_LENGTH,
        }
    }

    fn rows(&self) -> usize {
        match &self.what {
            What::Touch { .. } => 2,
            What::Event { .. } | What::Checkpoint { .. } => 1,
        }
    }

    fn is_abandoned(&self) -> bool {
        self.replies.iter().all(Reply::is_closed)
    }

    /// Touches of one counter are one touch of both times.
    fn absorb(&mut self, later: Self) -> std::result::Result<(), Self> {
        match (&mut self.what, &later.what) {
            (What::Touch { counter, touch, .. }, What::Touch { counter: other, touch: later_touch, .. })
                if counter == other =>
            {
                *touch = merged(*touch, *later_touch);
                self.replies.extend(later.replies);
                Ok(())
            }
            _ => Err(later),
        }
    }
}

/// The touch that does what both do.
fn merged(one: Touch, other: Touch) -> Touch {
    let first_write_ts = match (one.first_write_ts, other.first_write_ts) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    Touch { last_write_ts: one.last_write_ts.max(other.last_write_ts), first_write_ts }
}

/// The values of one statement.
enum Row<'a> {
    Event { partition: &'a Partition, event: &'a Event, region: &'a str },
    Time { timestamp: i64, time: Timestamp, counter: &'a CounterKey, region: &'a str },
    Checkpoint { checkpoint: &'a Checkpoint, counter: &'a CounterKey, region: &'a str },
}

impl SerializeRow for Row<'_> {
    fn serialize(
        &self,
        context: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> std::result::Result<(), SerializationError> {
        match self {
            Self::Event { partition, event, region } => {
                let value = values::item_value(event.item);
                let row = (
                    partition.counter.namespace.as_str(),
                    partition.counter.name.as_str(),
                    region,
                    i64::from(partition.time_bucket),
                    i32::from(partition.event_bucket),
                    event.event_time.as_micros(),
                    event.event_id.as_str(),
                    values::item_key(event.item.key()),
                    value.as_bytes(),
                    values::keeps_latest(event.event_time),
                );
                row.serialize(context, writer)
            }
            Self::Time { timestamp, time, counter, region } => {
                let (namespace, name) = (counter.namespace.as_str(), counter.name.as_str());
                (*timestamp, time.as_micros(), namespace, name, region).serialize(context, writer)
            }
            Self::Checkpoint { checkpoint, counter, region } => {
                let timestamp = values::keeps_latest(checkpoint.last_rollup_ts);
                let (namespace, name) = (counter.namespace.as_str(), counter.name.as_str());
                (timestamp, checkpoint.encode().as_slice(), namespace, name, region).serialize(context, writer)
            }
        }
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// The statements that a write becomes, with their values.
fn rows<'a>(what: &'a What, region: &'a str, add: &mut impl FnMut(&'a PreparedStatement, Row<'a>)) {
    match what {
        What::Event { statements, partition, event } => {
            add(&statements.insert, Row::Event { partition, event, region });
        }
        What::Touch { statements, counter, touch } => {
            if let Some(time) = touch.last_write_ts {
                let timestamp = values::keeps_latest(time);
                add(&statements.last_write, Row::Time { timestamp, time, counter, region });
            }
            if let Some(time) = touch.first_write_ts {
                let timestamp = values::keeps_earliest(time);
                add(&statements.first_write, Row::Time { timestamp, time, counter, region });
            }
        }
        What::Checkpoint { statements, counter, checkpoint } => {
            add(&statements.checkpoint, Row::Checkpoint { checkpoint, counter, region });
        }
    }
}

/// How many requests have been sent, and how many rows in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteStatistics {
    /// Requests: batches, and statements that went alone.
    pub requests: u64,
    /// Statements in them.
    pub rows: u64,
}

/// Writes a dataset's rows.
pub(super) struct Writer {
    cluster: Cluster,
    keyspace: String,
    region: String,
    statements: Arc<Statements>,
    writing: ExecutionProfileHandle,
    lanes: Mutex<HashMap<LaneKey, Lane<Write>, foldhash::fast::RandomState>>,
    /// Bytes that further waiting writes may take.
    room: Arc<AtomicUsize>,
    requests: AtomicU64,
    rows: AtomicU64,
}

impl Writer {
    pub fn new(cluster: Cluster, keyspace: String, region: String, statements: Arc<Statements>) -> Self {
        let writing = cluster.profiles().writing.clone();
        let room = Arc::new(AtomicUsize::new(WAITING_BYTES_MAX));
        let (requests, rows) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { cluster, keyspace, region, statements, writing, lanes: Mutex::default(), room, requests, rows }
    }

    pub fn statistics(&self) -> WriteStatistics {
        WriteStatistics { requests: self.requests.load(Ordering::Relaxed), rows: self.rows.load(Ordering::Relaxed) }
    }

    /// Appends events, each with its own result.
    pub async fn append(self: &Arc<Self>, session: &Session, appends: Vec<Append>) -> Vec<Result<()>> {
        let mut answers = Vec::with_capacity(appends.len());
        let mut writes = Vec::with_capacity(appends.len());
        // Nearly always all events of a call lie in one slice.
        let mut last: Option<(Timestamp, Result<Arc<EventStatements>>)> = None;
        for Append { partition, event } in appends {
            let slice_start = partition.slice_start;
            let statements = match &last {
                Some((start, statements)) if *start == slice_start => statements.clone(),
                _ => {
                    let statements = self.statements.events(session, slice_start).await;
                    last = Some((slice_start, statements.clone()));
                    statements
                }
            };
            let token = ring::of_events(&partition, &self.region);
            let named = partition.counter.name.as_str().len() + event.event_id.as_str().len();
            let write =
                statements.and_then(|statements| self.write_of(What::Event { statements, partition, event }, named));
            answers.push(write.map(|(write, answer)| {
                writes.push((token, write));
                answer
            }));
        }
        self.enqueue(session, writes);
        let until = Instant::now() + WRITE_TIME_MAX;
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            results.push(match answer {
                Ok(answer) => answered(answer, until).await,
                Err(error) => Err(error),
            });
        }
        results
    }

    pub async fn touch(self: &Arc<Self>, session: &Session, counter: &CounterKey, touch: Touch) -> Result<()> {
        if touch == Touch::default() {
            return Ok(());
        }
        let (statements, counter) = (self.statements.rows(session).await?, counter.clone());
        self.write_row(session, ring::of_row(&counter), What::Touch { statements, counter, touch }).await
    }

    pub async fn checkpoint(
        self: &Arc<Self>,
        session: &Session,
        counter: &CounterKey,
        checkpoint: Checkpoint,
    ) -> Result<()> {
        let (statements, counter) = (self.statements.rows(session).await?, counter.clone());
        self.write_row(session, ring::of_row(&counter), What::Checkpoint { statements, counter, checkpoint }).await
    }

    async fn write_row(self: &Arc<Self>, session: &Session, token: Token, what: What) -> Result<()> {
        let (write, answer) = self.write_of(what, CounterName::BYTES_MAX)?;
        self.enqueue(session, vec![(token, write)]);
        answered(answer, Instant::now() + WRITE_TIME_MAX).await
    }

    /// A write and its answer, if there is room for it.
    fn write_of(&self, what: What, named_bytes: usize) -> Result<(Write, oneshot::Receiver<Result<()>>)> {
        let bytes = WRITE_OVERHEAD_BYTES + named_bytes;
        let taken = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes));
        if taken.is_err() {
            return Err(Error::Overloaded);
        }
        let (reply, answer) = oneshot::channel();
        Ok((Write { what, replies: vec![reply], _held: Held { room: self.room.clone(), bytes } }, answer))
    }

    /// A panic of another holder left the lanes whole, so its poison is ignored.
    fn lanes(&self) -> MutexGuard<'_, HashMap<LaneKey, Lane<Write>, foldhash::fast::RandomState>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(self: &Arc<Self>, session: &Session, writes: Vec<(Token, Write)>) {
        let state = session.get_cluster_state();
        let mut touched: Vec<LaneKey> = Vec::new();
        let mut lanes = self.lanes();
        for (token, write) in writes {
            let lane = self.lane_of(&state, token);
            lanes.entry(lane).or_default().push(token.value(), write);
            if touched.last() != Some(&lane) {
                touched.push(lane);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|lane| lanes.get_mut(lane).is_some_and(Lane::start_sender));
        drop(lanes);
        for lane in touched {
            self.spawn_sender(lane);
        }
    }

    /// The lane of the replicas of a token in the local datacenter.
    fn lane_of(&self, state: &ClusterState, token: Token) -> LaneKey {
        let Some(keyspace) = state.get_keyspace(&self.keyspace) else {
            // Created a moment ago: one lane until the driver knows how it is replicated.
            return 0;
        };
        let datacenter = Some(self.cluster.local_datacenter());
        let table = TableSpec::borrowed(&self.keyspace, ROLLUP);
        let replicas = state.replica_locator().replicas_for_token(token, &keyspace.strategy, datacenter, &table);
        replicas.into_iter().fold(0, |key, (node, _)| key ^ node.host_id.as_u128())
    }

    fn spawn_sender(self: &Arc<Self>, lane: LaneKey) {
        tokio::spawn(self.clone().send(lane));
    }

    /// Sends a lane's batches one after the other until there is nothing for it to send.
    async fn send(self: Arc<Self>, lane_key: LaneKey) {
        let mut landed: Vec<PartitionToken> = Vec::new();
        loop {
            let (batch, another) = {
                let mut lanes = self.lanes();
                let Some(lane) = lanes.get_mut(&lane_key) else { return };
                lane.landed(&landed);
                let batch = lane.take();
                let another = batch.is_some() && lane.start_sender();
                if lane.is_idle() {
                    lanes.remove(&lane_key);
                }
                (batch, another)
            };
            if another {
                self.spawn_sender(lane_key);
            }
            let Some(Batch { writes, partitions }) = batch else { return };
            match self.execute(&writes, partitions.len()).await {
                Ok(()) => writes.into_iter().for_each(|write| write.answer(&Ok(()))),
                Err(errors) => writes.into_iter().zip(errors).for_each(|(write, error)| write.answer(&Err(error))),
            }
            landed = partitions;
        }
    }

    /// Sends writes as one request. An error for each, when it failed.
    async fn execute(&self, writes: &[Write], partitions: usize) -> std::result::Result<(), Vec<Error>> {
        let all = |error: Error| vec![error; writes.len()];
        let session = self.cluster.session().map_err(all)?;
        let mut values = Vec::with_capacity(writes.len());
        let mut statements = Vec::with_capacity(writes.len());
        for write in writes {
            rows(&write.what, &self.region, &mut |statement, row| {
                statements.push(statement);
                values.push(row);
            });
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(values.len() as u64, Ordering::Relaxed);
        let executed = match (statements.as_slice(), values.as_slice()) {
            ([statement], [row]) => session.execute_unpaged(statement, row).await,
            _ => {
                let statements = statements.iter().map(|&statement| statement.clone().into()).collect();
                let mut batch = CqlBatch::new_with_statements(BatchType::Unlogged, statements);
                batch.set_is_idempotent(true);
                batch.set_execution_profile_handle(Some(self.writing.clone()));
                session.batch(&batch, &values).await
            }
        };
        match executed {
            Ok(_) => Ok(()),
            Err(error) if error::extent(&error) == Extent::NothingForTheSchema => {
                Err(self.mismatches(&session, writes, &error).await)
            }
            Err(error) => Err(all(error::of_write(&error, partitions))),
        }
    }

    /// After a request that did not fit the schema: for each write, whether it was that one's table.
    async fn mismatches(&self, session: &Session, writes: &[Write], error: &ExecutionError) -> Vec<Error> {
        let error = error.to_string();
        let mut found: HashMap<Option<Timestamp>, Error> = HashMap::new();
        let mut errors = Vec::with_capacity(writes.len());
        for write in writes {
            let table = match &write.what {
                What::Event { statements, .. } => Some(statements.slice_start),
                What::Touch { .. } | What::Checkpoint { .. } => None,
            };
            let mismatch = match found.entry(table) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(unknown) => {
                    let mismatch = match table {
                        Some(slice_start) => self.statements.events_mismatch(session, slice_start, &error).await,
                        None => self.statements.rows_mismatch(session, &error).await,
                    };
                    unknown.insert(mismatch).clone()
                }
            };
            errors.push(mismatch);
        }
        errors
    }
}

async fn answered(answer: oneshot::Receiver<Result<()>>, until: Instant) -> Result<()> {
    let unknown = |reason: &str| Err(Error::Timeout { reason: reason.to_owned() });
    match tokio::time::timeout_at(until, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => unknown("the write was given up as the process stopped"),
        Err(_) => unknown("the write waited too long for others before it"),
    }
}
