//! The rollup store: one row per counter with its checkpoint and the bounds of what was written to it, one store per dataset.

use async_trait::async_trait;

use super::Result;
use crate::model::{Checkpoint, CounterKey, NamespaceName, Timestamp};

/// What is known of a counter. Each part has its own merge rule, so that writers never need to read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RollupRow {
    /// The last rollup. The greater [`Checkpoint`] wins: a late or slow server never moves it back.
    pub checkpoint: Option<Checkpoint>,
    /// No acknowledged event has a later event time. The greater wins.
    pub last_write_ts: Option<Timestamp>,
    /// No acknowledged event has an earlier event time, as long as there is no checkpoint. The smaller wins.
    pub first_write_ts: Option<Timestamp>,
}

impl RollupRow {
    /// Whether the counter may have acknowledged events that its checkpoint does not cover.
    #[must_use]
    pub fn is_unrolled(&self) -> bool {
        match (self.last_write_ts, self.checkpoint) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(last_write), Some(checkpoint)) => last_write > checkpoint.last_rollup_ts,
        }
    }
}

/// What a mutation says about its counter before it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Touch {
    /// Raises `last_write_ts` to at least this.
    pub last_write_ts: Option<Timestamp>,
    /// Lowers `first_write_ts` to at most this.
    pub first_write_ts: Option<Timestamp>,
}

/// One of `count` disjoint parts of a listing, so that several servers can read a table together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Share {
    /// Which part, from 0.
    pub index: u32,
    /// How many parts there are; at least one.
    pub count: u32,
}

impl Share {
    /// The whole.
    pub const ALL: Self = Self { index: 0, count: 1 };
}

/// Where a listing goes on; opaque, and valid for the store that made it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(pub Vec<u8>);

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowPage {
    /// Counters with their rows, in the store's order.
    pub rows: Vec<(CounterKey, RollupRow)>,
    /// Where the next page starts; `None` when this was the last one.
    pub next: Option<Cursor>,
}

/// The rollup rows of one dataset in one region.
#[async_trait]
pub trait RollupStore: Send + Sync + 'static {
    /// Merges a touch into the counter's row. `Ok` means durable, and seen by every later read and listing.
    ///
    /// # Errors
    /// When it may not be durable.
    async fn touch(&self, counter: &CounterKey, touch: Touch) -> Result<()>;

    /// The counter's row, or `None` where nothing was ever written to it. Sees everything that was durable when it began.
    ///
    /// # Errors
    /// When the row cannot be read whole.
    async fn read(&self, counter: &CounterKey) -> Result<Option<RollupRow>>;

    /// Offers a checkpoint: kept where it is greater than the stored one, without effect otherwise.
    ///
    /// # Errors
    /// When it may not be durable.
    async fn write_checkpoint(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()>;

    /// Lists a share of the dataset's rows, a page of at most `limit` (at least one) at a time. Every row that was durable
    /// before the first page was asked for, and stays, is in exactly one page of exactly one share.
    ///
    /// # Errors
    /// When a page cannot be read whole.
    async fn list(&self, share: Share, from: Option<Cursor>, limit: usize) -> Result<RowPage>;

    /// Up to when nothing of the namespace counts, because it was deleted and created again: a checkpoint that a cache remembers from
    /// before is none. `None` while it is not known; [`Timestamp::MIN`] for one that was never deleted. Rows that are read
    /// and listed are without what is at or before it.
    fn removed_until(&self, _namespace: &NamespaceName) -> Option<Timestamp> {
        Some(Timestamp::MIN)
    }
}
