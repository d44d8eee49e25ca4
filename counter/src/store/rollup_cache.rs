//! The rollup cache: a convenience for reads. Nothing correct depends on an entry being there, or being new.

use async_trait::async_trait;

use super::Result;
use crate::model::{Checkpoint, CounterKey};

/// Checkpoints, quickly.
#[async_trait]
pub trait RollupCache: Send + Sync + 'static {
    /// The cached checkpoint, if there is one.
    ///
    /// # Errors
    /// When the cache does not answer; readers go to the rollup store then.
    async fn get(&self, counter: &CounterKey) -> Result<Option<Checkpoint>>;

    /// Offers a checkpoint: kept where it is greater than the cached one (compare-and-set, count and time as one value),
    /// without effect otherwise. Entries expire, so that a lost offer does not stay.
    ///
    /// # Errors
    /// When the cache may not have taken it; the next rollup offers again.
    async fn offer(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()>;
}
