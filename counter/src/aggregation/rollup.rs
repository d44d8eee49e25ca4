//! The rollup of one counter: the window between its checkpoint and the immutable boundary becomes the next checkpoint.

use std::time::Duration;

use super::window::{Tally, tally};
use super::{Error, Result, ScanBudget};
use crate::dataset::Dataset;
use crate::model::{Checkpoint, CounterKey, Slices, Timestamp};
use crate::store::{RollupCache, RollupRow};

/// How long a cache may take to answer; reads and rollups go on without it.
pub(super) const CACHE_TIMEOUT: Duration = Duration::from_millis(250);

/// What a rollup found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolledUp {
    /// Nothing was ever written to the counter: there is nothing to roll up, and nothing was stored.
    NeverWritten,
    /// The checkpoint stands at the boundary already, or past it.
    Unchanged {
        /// The checkpoint.
        checkpoint: Checkpoint,
        /// Whether there may be acknowledged events after it.
        unrolled: bool,
    },
    /// The checkpoint moved on.
    Advanced {
        /// The new checkpoint, durable.
        checkpoint: Checkpoint,
        /// The `last_rollup_ts` that it went on from; `None` for a first checkpoint.
        from: Option<Timestamp>,
        /// Whether there may be acknowledged events after it.
        unrolled: bool,
        /// Events read.
        events: u64,
    },
}

impl RolledUp {
    /// The counter's checkpoint now, if it has one.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        match self {
            Self::NeverWritten => None,
            Self::Unchanged { checkpoint, .. } | Self::Advanced { checkpoint, .. } => Some(*checkpoint),
        }
    }

    /// Whether the counter may have acknowledged events that its checkpoint does not cover.
    #[must_use]
    pub fn is_unrolled(&self) -> bool {
        match self {
            Self::NeverWritten => false,
            Self::Unchanged { unrolled, .. } | Self::Advanced { unrolled, .. } => *unrolled,
        }
    }
}

/// Rolls a counter up to the immutable boundary. Any number of servers may do so at once, fast or slow: each writes a
/// checkpoint that is true of its own time, and stores keep the latest.
///
/// # Errors
/// When the checkpoint could not be moved on; it is as it was, or as a rollup that was not acknowledged left it.
pub async fn roll_up(
    dataset: &Dataset,
    cache: Option<&dyn RollupCache>,
    budget: &ScanBudget,
    counter: &CounterKey,
) -> Result<RolledUp> {
    let slices = dataset.slices();
    let now = dataset.clock.now(slices.max_clock_skew().ok_or(Error::NoSlices)?)?;
    let through = slices.boundary(now).previous();
    let Some(row) = dataset.rollups.read(counter).await? else {
        return Ok(RolledUp::NeverWritten);
    };
    if let Some(checkpoint) = row.checkpoint
        && checkpoint.last_rollup_ts >= through
    {
        dataset.clock.at_least(checkpoint.last_rollup_ts);
        offer(cache, counter, checkpoint).await;
        return Ok(RolledUp::Unchanged { checkpoint, unrolled: row.is_unrolled() });
    }
    let after = covered(&slices, &row)?;
    // Beyond last_write_ts nothing was acknowledged before the boundary.
    let until = row.last_write_ts.map_or(after, |last_write_ts| last_write_ts.min(through));
    let window = if until > after {
        tally(dataset.events.as_ref(), &slices, budget, counter, after, until).await?
    } else {
        Tally::default()
    };
    let base_count = row.checkpoint.map_or(0, |checkpoint| checkpoint.last_rollup_count);
    let checkpoint = Checkpoint { last_rollup_ts: through, last_rollup_count: window.after(base_count) };
    dataset.rollups.write_checkpoint(counter, checkpoint).await?;
    offer(cache, counter, checkpoint).await;
    let unrolled = RollupRow { checkpoint: Some(checkpoint), ..row }.is_unrolled();
    let from = row.checkpoint.map(|checkpoint| checkpoint.last_rollup_ts);
    Ok(RolledUp::Advanced { checkpoint, from, unrolled, events: window.events })
}

/// The time up to which every acknowledged event of the counter is covered: by its checkpoint, by the certificate of a closed
/// slice, or because nothing was acknowledged before its mark. Without a touch nothing was acknowledged at all.
///
/// # Errors
/// [`Error::MarkMissing`]: every touch writes both its times at once, so somebody has deleted one of them. Where to begin is not
/// known, and a count made of a guess would be wrong for good.
pub(super) fn covered(slices: &Slices, row: &RollupRow) -> Result<Timestamp> {
    let by_row = match (row.checkpoint, row.first_write_ts, row.last_write_ts) {
        (Some(checkpoint), _, _) => checkpoint.last_rollup_ts,
        (None, Some(first_write_ts), _) => first_write_ts.previous(),
        (None, None, None) => Timestamp::MAX,
        (None, None, Some(last_write_ts)) => return Err(Error::MarkMissing { last_write_ts }),
    };
    Ok(by_row.max(slices.certified_until().previous()))
}

/// Every rollup offers its checkpoint, changed or not, so that a lost cache write does not stay.
pub(super) async fn offer(cache: Option<&dyn RollupCache>, counter: &CounterKey, checkpoint: Checkpoint) {
    let Some(cache) = cache else { return };
    match tokio::time::timeout(CACHE_TIMEOUT, cache.offer(counter, checkpoint)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%counter, %error, "the cache did not take a checkpoint"),
        Err(_) => tracing::debug!(%counter, "the cache does not answer"),
    }
}
