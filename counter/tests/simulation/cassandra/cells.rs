//! Cells as Cassandra resolves them: the greater timestamp wins, and at equal timestamps the greater value.

use tallyman_counter::model::{Checkpoint, EventItem, EventItemKey, Timestamp};
use tallyman_counter::store::{RollupRow, Touch};

/// One cell. Its order is its precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell<V> {
    pub timestamp: i64,
    pub value: V,
}

/// Takes `new` where it wins; says whether that changed anything.
pub fn merge<V: Ord + Copy>(cell: &mut Option<Cell<V>>, new: Option<Cell<V>>) -> bool {
    let wins = new > *cell;
    if wins {
        *cell = new;
    }
    wins
}

/// What an add or a clear stores. Values compare as unsigned bytes, most significant first, as Cassandra's do.
pub fn event_cell(event_time: Timestamp, item: EventItem) -> Cell<u64> {
    let value = match item {
        EventItem::Add(delta) => delta as u64,
        EventItem::Clear => 0,
    };
    Cell { timestamp: event_time.as_micros(), value }
}

pub fn event_item(key: EventItemKey, cell: Cell<u64>) -> EventItem {
    match key {
        EventItemKey::Add => EventItem::Add(cell.value as i64),
        EventItemKey::Clear => EventItem::Clear,
    }
}

type CheckpointBytes = [u8; Checkpoint::ENCODED_LENGTH];

/// A counter's row, cell by cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowCells {
    pub checkpoint: Option<Cell<CheckpointBytes>>,
    pub last_write: Option<Cell<i64>>,
    pub first_write: Option<Cell<i64>>,
}

impl RowCells {
    /// The first write's timestamp falls as its value grows, so that the minimum wins.
    pub fn touch(touch: Touch) -> Self {
        let cell = |timestamp: i64, value: Timestamp| Cell { timestamp, value: value.as_micros() };
        Self {
            checkpoint: None,
            last_write: touch.last_write_ts.map(|ts| cell(ts.as_micros(), ts)),
            first_write: touch.first_write_ts.map(|ts| cell(ts.as_micros().saturating_neg(), ts)),
        }
    }

    pub fn checkpoint(checkpoint: Checkpoint, timestamp: i64) -> Self {
        let cell = Cell { timestamp, value: checkpoint.encode() };
        Self { checkpoint: Some(cell), ..Self::default() }
    }

    pub fn merge(&mut self, other: &Self) -> bool {
        let checkpoint = merge(&mut self.checkpoint, other.checkpoint);
        let last = merge(&mut self.last_write, other.last_write);
        let first = merge(&mut self.first_write, other.first_write);
        checkpoint || last || first
    }

    pub fn decoded_checkpoint(&self) -> Option<Checkpoint> {
        // The simulation stores only what `Checkpoint::encode` wrote.
        self.checkpoint.map(|cell| Checkpoint::decode(&cell.value).expect("a stored checkpoint decodes"))
    }

    pub fn row(&self) -> RollupRow {
        RollupRow {
            checkpoint: self.decoded_checkpoint(),
            last_write_ts: self.last_write.map(|cell| Timestamp::from_micros(cell.value)),
            first_write_ts: self.first_write.map(|cell| Timestamp::from_micros(cell.value)),
        }
    }
}
