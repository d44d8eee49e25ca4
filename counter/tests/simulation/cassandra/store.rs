//! The cluster behind the engine's traits: one handle a process, so that each has its own network and its own faults.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tallyman_counter::model::{
    Checkpoint, CounterKey, CounterName, NamespaceName, Partition, SliceRecord, SliceState, Timestamp,
};
use tallyman_counter::store::{
    Append, Capabilities, Cursor, Error, EventPage, EventStore, NodeClock, Result, RollupRow, RollupStore, RowPage,
    Scan, Share, Touch,
};

use super::cells::{Cell, RowCells, event_cell, merge};
use super::replica::{EventCell, RowPosition, Write, event};
use super::{Cluster, unavailable};
use crate::coverage::State;
use crate::process::Process;
use crate::random::Random;

/// What a checkpoint is written USING TIMESTAMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointTimestamp {
    LastRollup,
    /// What the design forbids; for deliberate breaks.
    TimeOfWrite,
}

/// One process's connection to the cluster.
pub struct Handle {
    cluster: Arc<Cluster>,
    process: Arc<Process>,
    random: Mutex<Random>,
    checkpoint_timestamp: CheckpointTimestamp,
}

impl Handle {
    pub fn new(cluster: &Arc<Cluster>, process: &Arc<Process>, random: Random) -> Self {
        let (cluster, process) = (cluster.clone(), process.clone());
        Self { cluster, process, random: Mutex::new(random), checkpoint_timestamp: CheckpointTimestamp::LastRollup }
    }

    pub fn with_checkpoint_timestamp(self, checkpoint_timestamp: CheckpointTimestamp) -> Self {
        Self { checkpoint_timestamp, ..self }
    }

    async fn write(&self, write: Write) -> Result<()> {
        self.process.gate().await;
        let result = self.cluster.write(&self.process, &self.random, write).await;
        self.process.gate().await;
        result
    }

    async fn read_both<T: Send + 'static>(
        &self,
        look: impl Fn(&super::Replica) -> T + Send + Sync + 'static,
    ) -> Result<[(usize, T); 2]> {
        self.process.gate().await;
        let result = self.cluster.read(&self.process, &self.random, look).await;
        self.process.gate().await;
        result
    }

    /// Brings the replicas that were read up to date before the read is answered, as Cassandra does by default
    /// (`read_repair = 'BLOCKING'`): what one quorum read has shown, every later one shows.
    async fn repair(&self, stale: Vec<(usize, Write)>) -> Result<()> {
        if stale.is_empty() {
            return Ok(());
        }
        self.cluster.world.reached(State::ReadSawStaleReplica);
        let timeout = Duration::from_millis(self.cluster.faults().request_timeout_ms);
        let repairs = stale.into_iter().map(|(replica, write)| {
            let mut random = self.random.lock().unwrap();
            self.cluster.send_one(replica, write, &mut random)
        });
        let repaired = tokio::time::timeout(timeout, join_all(repairs.collect::<Vec<_>>())).await;
        self.process.gate().await;
        match repaired {
            Ok(_) => {
                self.cluster.world.reached(State::ReadRepair);
                Ok(())
            }
            Err(_) => Err(Error::Timeout { reason: "a stale replica could not be repaired".into() }),
        }
    }

    /// What happens at all nodes at one instant, after a message has come there.
    async fn at_all_nodes(&self, write: Write) -> Result<()> {
        self.process.gate().await;
        let delay = {
            let mut random = self.random.lock().unwrap();
            let faults = self.cluster.faults();
            if random.chance(faults.unavailable) || self.process.is_cut_off() {
                return Err(unavailable("the schema cannot be changed now"));
            }
            faults.latency(&mut random)
        };
        tokio::time::sleep(delay).await;
        self.process.gate().await;
        for replica in 0..super::REPLICAS {
            self.cluster.apply(replica, &write);
        }
        Ok(())
    }

    async fn write_row(&self, counter: &CounterKey, cells: RowCells) -> Result<()> {
        self.write(Write::Row { counter: counter.clone(), cells }).await
    }
}

#[async_trait]
impl EventStore for Handle {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>> {
        let mut batches: BTreeMap<Partition, Vec<(usize, EventCell)>> = BTreeMap::new();
        let count = appends.len();
        for (index, append) in appends.into_iter().enumerate() {
            let cell = (append.event.key(), event_cell(append.event.event_time, append.event.item));
            batches.entry(append.partition).or_default().push((index, cell));
        }
        let writes = batches.into_iter().map(|(partition, cells)| async move {
            let (indices, cells): (Vec<usize>, Vec<EventCell>) = cells.into_iter().unzip();
            (indices, self.write(Write::Events { partition, cells }).await)
        });
        let mut results = vec![Err(unavailable("nothing was tried")); count];
        for (indices, result) in join_all(writes).await {
            for index in indices {
                results[index] = result.clone();
            }
        }
        results
    }

    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        let scan = Scan { limit: scan.limit.min(self.cluster.faults().page_rows_max), ..scan };
        if scan.resume.is_some() {
            self.cluster.world.reached(State::ScanPaged);
        }
        let asked = scan.clone();
        let [(one, mut first), (two, mut second)] = self.read_both(move |replica| replica.scan(&asked)).await?;
        let (Some(first), Some(second)) = (first.take(), second.take()) else {
            return Err(Error::MissingSlice { slice_start: scan.partition.slice_start });
        };
        let full = first.len() >= scan.limit || second.len() >= scan.limit;
        let mut merged = BTreeMap::new();
        for (key, cell) in first.iter().chain(&second) {
            let mut stored = merged.get(key).copied();
            if merge(&mut stored, Some(*cell)) {
                merged.insert(key.clone(), *cell);
            }
        }
        let page: Vec<EventCell> = merged.into_iter().rev().take(scan.limit).collect();
        let stale = |seen: &[EventCell]| {
            let missing = |cell: &&EventCell| !seen.contains(cell);
            page.iter().filter(missing).cloned().collect::<Vec<_>>()
        };
        let repairs = [(one, stale(&first)), (two, stale(&second))].into_iter().filter(|(_, cells)| !cells.is_empty());
        let partition = &scan.partition;
        let repair = |(node, cells)| (node, Write::Events { partition: partition.clone(), cells });
        self.repair(repairs.map(repair).collect()).await?;
        let next = if full { page.last().map(|(key, _)| key.clone()) } else { None };
        Ok(EventPage { events: page.into_iter().map(|(key, cell)| event(key, cell)).collect(), next })
    }

    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        let [(_, first), (_, second)] = self.read_both(|replica| replica.slice_records()).await?;
        let mut merged: BTreeMap<Timestamp, SliceRecord> = BTreeMap::new();
        for record in first.into_iter().chain(second) {
            let known = merged.entry(record.start).or_insert_with(|| record.clone());
            known.state = known.state.max(record.state);
        }
        Ok(merged.into_values().collect())
    }

    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        self.process.gate().await;
        let slice_start = record.start;
        let delay = self.cluster.faults().latency(&mut self.random.lock().unwrap());
        tokio::time::sleep(delay).await;
        // A Paxos round chooses one record for good; whoever comes later only helps to spread it.
        let known = self.cluster.nodes().chosen.get(&slice_start).cloned();
        let chosen = known.unwrap_or_else(|| {
            self.cluster.history.slice_created(&record);
            self.cluster.nodes().chosen.insert(slice_start, record.clone());
            record
        });
        self.write(Write::Slice { record: chosen }).await?;
        let [(_, first), (_, second)] = self.read_both(move |replica| replica.slice_state(slice_start)).await?;
        if first.max(second) == SliceState::Dropped {
            return Ok(());
        }
        self.at_all_nodes(Write::CreateTable { slice_start }).await
    }

    async fn set_slice_state(&self, slice_start: Timestamp, state: SliceState) -> Result<()> {
        let Some(record) = self.cluster.nodes().chosen.get(&slice_start).cloned() else {
            return Err(Error::MissingSlice { slice_start });
        };
        self.process.gate().await;
        self.cluster.history.slice_moved(record, state, self.cluster.certain_checkpoints());
        self.write(Write::SliceState { slice_start, state }).await?;
        if state == SliceState::Dropped {
            self.at_all_nodes(Write::DropTable { slice_start }).await?;
        }
        Ok(())
    }

    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        self.process.gate().await;
        let (there, back, fails) = {
            let mut random = self.random.lock().unwrap();
            let faults = self.cluster.faults();
            let fails = random.chance(faults.node_clocks) || self.process.is_cut_off();
            (faults.latency(&mut random), faults.latency(&mut random), fails)
        };
        tokio::time::sleep(there).await;
        let now = self.cluster.world.now().timestamp().as_micros();
        let clocks: Vec<NodeClock> = {
            let nodes = self.cluster.nodes();
            let up = (0..super::REPLICAS).filter(|node| !nodes.replicas[*node].down);
            let clock = |node| NodeClock {
                node: format!("node-{node}"),
                time: Timestamp::from_micros(now + nodes.clock_offsets_us[node]),
            };
            up.map(clock).collect()
        };
        tokio::time::sleep(back).await;
        self.process.gate().await;
        if fails || clocks.len() * 2 <= super::REPLICAS {
            self.cluster.world.reached(State::NodeClocksFailed);
            return Err(unavailable("too few nodes told their time"));
        }
        Ok(clocks)
    }
}

#[async_trait]
impl RollupStore for Handle {
    async fn touch(&self, counter: &CounterKey, touch: Touch) -> Result<()> {
        self.write_row(counter, RowCells::touch(touch)).await
    }

    async fn read(&self, counter: &CounterKey) -> Result<Option<RollupRow>> {
        self.cluster.history.row_read(&self.process, counter);
        let asked = counter.clone();
        let [(one, first), (two, second)] = self.read_both(move |replica| replica.row(&asked)).await?;
        let (Some(mut merged), other) = (first.or(second), second) else { return Ok(None) };
        merged.merge(&other.unwrap_or_default());
        let stale = [(one, first), (two, second)].into_iter().filter(|(_, seen)| *seen != Some(merged));
        let repair = |(node, _)| (node, Write::Row { counter: counter.clone(), cells: merged });
        self.repair(stale.map(repair).collect()).await?;
        Ok(Some(merged.row()))
    }

    async fn write_checkpoint(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        self.process.gate().await;
        self.cluster.history.checkpoint_offered(&self.process, counter, checkpoint);
        let timestamp = match self.checkpoint_timestamp {
            CheckpointTimestamp::LastRollup => checkpoint.last_rollup_ts.as_micros(),
            CheckpointTimestamp::TimeOfWrite => self.cluster.world.now().timestamp().as_micros(),
        };
        self.write_row(counter, RowCells::checkpoint(checkpoint, timestamp)).await
    }

    async fn list(&self, share: Share, from: Option<Cursor>, limit: usize) -> Result<RowPage> {
        let limit = limit.min(self.cluster.faults().page_rows_max);
        if from.is_some() {
            self.cluster.world.reached(State::ListingPaged);
        }
        let token_of = |index: u32| (u128::from(index) << 64) / u128::from(share.count);
        let last_token = (token_of(share.index + 1) - 1) as u64;
        let from = match from {
            Some(cursor) => Bound::Excluded(position_of(&cursor)?),
            None => Bound::Included(RowPosition {
                token: token_of(share.index) as u64,
                counter: CounterKey { namespace: name_min(), name: CounterName::new(" ").expect("a space is a name") },
            }),
        };
        let [(one, first), (two, second)] =
            self.read_both(move |replica| replica.list(&from, last_token, limit)).await?;
        let full = first.len() >= limit || second.len() >= limit;
        let mut merged: BTreeMap<RowPosition, RowCells> = BTreeMap::new();
        for (position, cells) in first.iter().chain(&second) {
            merged.entry(position.clone()).or_default().merge(cells);
        }
        let page: Vec<(RowPosition, RowCells)> = merged.into_iter().take(limit).collect();
        let missing = |node: usize, seen: &[(RowPosition, RowCells)]| {
            let stale = page.iter().filter(|row| !seen.contains(row));
            let write = |(position, cells): &(RowPosition, RowCells)| Write::Row {
                counter: position.counter.clone(),
                cells: *cells,
            };
            stale.map(|row| (node, write(row))).collect::<Vec<_>>()
        };
        self.repair([missing(one, &first), missing(two, &second)].concat()).await?;
        let next = if full { page.last().map(|(position, _)| cursor_of(position)) } else { None };
        Ok(RowPage { rows: page.into_iter().map(|(position, cells)| (position.counter, cells.row())).collect(), next })
    }
}

fn name_min() -> NamespaceName {
    NamespaceName::new("0").expect("a digit is a namespace name")
}

fn cursor_of(position: &RowPosition) -> Cursor {
    let name = position.counter.name.as_str();
    Cursor(format!("{}\n{}\n{name}", position.token, position.counter.namespace).into_bytes())
}

fn position_of(cursor: &Cursor) -> Result<RowPosition> {
    let corrupt = || Error::Corrupt { reason: "a cursor of another store".into() };
    let text = std::str::from_utf8(&cursor.0).map_err(|_| corrupt())?;
    let mut parts = text.splitn(3, '\n');
    let mut part = || parts.next().ok_or_else(corrupt);
    let token = part()?.parse().map_err(|_| corrupt())?;
    let namespace = NamespaceName::new(part()?).map_err(|_| corrupt())?;
    let name = CounterName::new(part()?).map_err(|_| corrupt())?;
    Ok(RowPosition { token, counter: CounterKey { namespace, name } })
}

/// The union of a counter's events over all replicas.
pub fn union_of_events(
    cluster: &Cluster,
) -> BTreeMap<(CounterKey, tallyman_counter::model::EventKey), (Cell<u64>, usize)> {
    cluster.inspect(|replicas| {
        let mut union = BTreeMap::new();
        for (partition, events) in replicas.iter().flat_map(|replica| &replica.events) {
            for (key, cell) in events {
                let entry = union.entry((partition.counter.clone(), key.clone())).or_insert((*cell, 0));
                entry.0 = entry.0.max(*cell);
                entry.1 += 1;
            }
        }
        union
    })
}
