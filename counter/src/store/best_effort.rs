//! Best-effort counters: counted where they are kept, without events or rollups.

use std::time::Duration;

use async_trait::async_trait;

use super::Result;
use crate::model::CounterKey;

/// Counters that live in a cache: fast, regional, gone when they expire or their servers are lost.
#[async_trait]
pub trait BestEffortStore: Send + Sync + 'static {
    /// Adds `delta`, creating the counter at it with a life of `ttl` from then on, and answers the new count. The count
    /// wraps around at the ends of 64 bits.
    ///
    /// # Errors
    /// [`Error::Timeout`](super::Error::Timeout) when the add may or may not have been applied: it must never be sent again. Otherwise nothing was applied.
    async fn add(&self, counter: &CounterKey, delta: i64, ttl: Duration) -> Result<i64>;

    /// The count, or `None` where there is no such counter (any more).
    ///
    /// # Errors
    /// When no replica answers.
    async fn get(&self, counter: &CounterKey) -> Result<Option<i64>>;

    /// Removes the counter from all replicas.
    ///
    /// # Errors
    /// When any replica may still have it; clearing again is safe.
    async fn clear(&self, counter: &CounterKey) -> Result<()>;
}
