//! One dataset: its slices, events and rollup rows under one lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{CounterKey, EventItem, Partition, SliceRecord, Timestamp, Token};
use crate::store::RollupRow;

/// A dataset's events of one partition, in the order of their keys. One entry per token, whatever its operation: a token
/// names one mutation.
pub(super) type PartitionEvents = BTreeMap<(Timestamp, Token), EventItem>;

/// All that a dataset holds.
#[derive(Debug, Default)]
pub(super) struct State {
    pub slices: BTreeMap<Timestamp, SliceRecord>,
    pub events: BTreeMap<Partition, PartitionEvents>,
    pub rows: BTreeMap<CounterKey, RollupRow>,
    /// The highest `last_rollup_ts` written; no event at or before it is taken any more.
    pub boundary: Option<Timestamp>,
}

/// A dataset in memory: an event store and a rollup store. Clones share their contents.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    state: Arc<Mutex<State>>,
}

impl Dataset {
    /// An empty dataset.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The contents. A panic of another holder left every map whole (no change spans a panic), so its poison is ignored.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
