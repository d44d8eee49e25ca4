//! One replica: what it holds, and how writes and reads apply to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use tallyman_counter::model::{CounterKey, Event, EventKey, Partition, SliceRecord, SliceState, Timestamp};
use tallyman_counter::store::Scan;
use xxhash_rust::xxh3::xxh3_64;

use super::cells::{Cell, RowCells, event_item, merge};

/// Where a row lies in the order of tokens, as listings read it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowPosition {
    pub token: u64,
    pub counter: CounterKey,
}

impl RowPosition {
    pub fn of(counter: &CounterKey) -> Self {
        let token = xxh3_64(counter.to_string().as_bytes());
        Self { token, counter: counter.clone() }
    }
}

/// One event's cell with its key.
pub type EventCell = (EventKey, Cell<u64>);

/// A write as it travels to a replica; it applies whole.
#[derive(Debug, Clone)]
pub enum Write {
    Events { partition: Partition, cells: Vec<EventCell> },
    Row { counter: CounterKey, cells: RowCells },
    Slice { record: SliceRecord },
    SliceState { slice_start: Timestamp, state: SliceState },
    CreateTable { slice_start: Timestamp },
    DropTable { slice_start: Timestamp },
}

/// What a replica answered to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    Changed,
    Unchanged,
    /// The table was dropped while the write was under way: the replica fails.
    NoTable,
}

/// One replica's data.
#[derive(Default)]
pub struct Replica {
    pub down: bool,
    pub events: BTreeMap<Partition, BTreeMap<EventKey, Cell<u64>>>,
    pub rows: BTreeMap<RowPosition, RowCells>,
    slices: BTreeMap<Timestamp, SliceRecord>,
    slice_states: BTreeMap<Timestamp, SliceState>,
    tables: BTreeSet<Timestamp>,
}

impl Replica {
    pub fn apply(&mut self, write: &Write) -> Applied {
        let changed = match write {
            Write::Events { partition, cells } => {
                if !self.tables.contains(&partition.slice_start) {
                    return Applied::NoTable;
                }
                let stored = self.events.entry(partition.clone()).or_default();
                let mut changed = false;
                for (key, cell) in cells {
                    let mut merged = stored.get(key).copied();
                    if merge(&mut merged, Some(*cell)) {
                        changed = true;
                        stored.insert(key.clone(), *cell);
                    }
                }
                changed
            }
            Write::Row { counter, cells } => self.rows.entry(RowPosition::of(counter)).or_default().merge(cells),
            Write::Slice { record } => {
                let known = self.slices.contains_key(&record.start);
                self.slices.entry(record.start).or_insert_with(|| record.clone());
                !known
            }
            Write::SliceState { slice_start, state } => {
                let stored = self.slice_states.entry(*slice_start).or_insert(SliceState::Open);
                let changed = *stored < *state;
                *stored = (*stored).max(*state);
                changed
            }
            Write::CreateTable { slice_start } => self.tables.insert(*slice_start),
            Write::DropTable { slice_start } => {
                self.events.retain(|partition, _| partition.slice_start != *slice_start);
                self.tables.remove(slice_start)
            }
        };
        if changed { Applied::Changed } else { Applied::Unchanged }
    }

    /// The newest `scan.limit` events of the scan, or `None` where there is no such table.
    pub fn scan(&self, scan: &Scan) -> Option<Vec<EventCell>> {
        if !self.tables.contains(&scan.partition.slice_start) {
            return None;
        }
        let Some(events) = self.events.get(&scan.partition) else { return Some(Vec::new()) };
        let below = scan.resume.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let newest_first = events.range::<EventKey, _>((Bound::Unbounded, below)).rev();
        let inside = newest_first
            .skip_while(|(key, _)| key.event_time > scan.through)
            .take_while(|(key, _)| key.event_time > scan.after);
        Some(inside.take(scan.limit).map(|(key, cell)| (key.clone(), *cell)).collect())
    }

    pub fn row(&self, counter: &CounterKey) -> Option<RowCells> {
        self.rows.get(&RowPosition::of(counter)).copied()
    }

    /// Up to `limit` rows at or after `from` with tokens up to and including `last_token`.
    pub fn list(&self, from: &Bound<RowPosition>, last_token: u64, limit: usize) -> Vec<(RowPosition, RowCells)> {
        let rows = self.rows.range((from.clone(), Bound::Unbounded));
        let inside = rows.take_while(|(position, _)| position.token <= last_token);
        inside.take(limit).map(|(position, cells)| (position.clone(), *cells)).collect()
    }

    /// All slice records, each with the state known here.
    pub fn slice_records(&self) -> Vec<SliceRecord> {
        let with_state = |record: &SliceRecord| {
            let state = self.slice_states.get(&record.start).copied().unwrap_or(SliceState::Open);
            SliceRecord { state, ..record.clone() }
        };
        self.slices.values().map(with_state).collect()
    }

    pub fn slice_state(&self, slice_start: Timestamp) -> SliceState {
        self.slice_states.get(&slice_start).copied().unwrap_or(SliceState::Open)
    }

    pub fn has_table(&self, slice_start: Timestamp) -> bool {
        self.tables.contains(&slice_start)
    }
}

/// An event out of its stored form.
pub fn event(key: EventKey, cell: Cell<u64>) -> Event {
    let item = event_item(key.event_item_key, cell);
    Event { event_time: key.event_time, event_id: key.event_id, item }
}
