//! Reads of durable counters: the last rollup, or the last rollup and every event since.

use super::rollup::{CACHE_TIMEOUT, covered, offer};
use super::window::tally;
use super::{Error, Result, ScanBudget};
use crate::dataset::Dataset;
use crate::model::{CounterKey, Slices, Timestamp};
use crate::store::{self, RollupCache};

/// A count and what it promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The count.
    pub count: i128,
    /// For the last rollup: every acknowledged event up to this time is in the count, and no later one. For an accurate
    /// count: every mutation that was acknowledged before this time is in it, and it is the time of the read, unless the clock
    /// is not trusted.
    pub as_of: Timestamp,
    /// Whether anything was ever written to the counter, as far as this read saw.
    pub written: bool,
}

/// The counter as last rolled up: from the cache, else from the rollup store (which then fills the cache).
///
/// # Errors
/// When the rollup store does not answer.
pub async fn last_rollup(dataset: &Dataset, cache: Option<&dyn RollupCache>, counter: &CounterKey) -> Result<Reading> {
    if let Some(cache) = cache {
        match tokio::time::timeout(CACHE_TIMEOUT, cache.get(counter)).await {
            // One of a namespace that was deleted since is none.
            Ok(Ok(Some(checkpoint)))
                if dataset
                    .rollups
                    .removed_until(&counter.namespace)
                    .is_some_and(|until| checkpoint.last_rollup_ts > until) =>
            {
                let (count, as_of) = (checkpoint.last_rollup_count, checkpoint.last_rollup_ts);
                return Ok(Reading { count, as_of, written: true });
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%counter, %error, "the cache does not answer"),
            Err(_) => tracing::debug!(%counter, "the cache does not answer in time"),
        }
    }
    let slices = dataset.slices();
    let never = never_rolled_up_as_of(dataset, &slices);
    let row = dataset.rollups.read(counter).await?;
    if let Some(checkpoint) = row.and_then(|row| row.checkpoint) {
        offer(cache, counter, checkpoint).await;
        let (count, as_of) = (checkpoint.last_rollup_count, checkpoint.last_rollup_ts);
        return Ok(Reading { count, as_of, written: true });
    }
    let as_of = match row {
        None => never,
        // Written, and without a mark of since when: its mark was deleted, or is on its way. Nothing is known.
        Some(row) => row.first_write_ts.map_or(Timestamp::EPOCH, |first| never.min(first.previous())),
    };
    Ok(Reading { count: 0, as_of, written: row.is_some() })
}

/// Up to when a counter without a checkpoint is known to be empty. An acknowledged event before the boundary would have left
/// its mark in the row, which is read after the time. Without a trusted clock nothing is known.
fn never_rolled_up_as_of(dataset: &Dataset, slices: &Slices) -> Timestamp {
    let now = slices.max_clock_skew().and_then(|skew| dataset.clock.now(skew).ok());
    now.map_or(Timestamp::EPOCH, |now| slices.boundary(now).previous().max(Timestamp::EPOCH))
}

/// The counter with every mutation that was acknowledged before the call: its checkpoint and the events since.
///
/// # Errors
/// When a store does not answer, or the counter's history is missing.
pub async fn count_accurately(dataset: &Dataset, budget: &ScanBudget, counter: &CounterKey) -> Result<Reading> {
    match count_accurately_once(dataset, budget, counter).await {
        // The slice was closed and dropped behind our back: its events are in a newer checkpoint by now.
        Err(Error::Store(store::Error::MissingSlice { .. })) => {
            dataset.refresh_slices().await?;
            count_accurately_once(dataset, budget, counter).await
        }
        reading => reading,
    }
}

async fn count_accurately_once(dataset: &Dataset, budget: &ScanBudget, counter: &CounterKey) -> Result<Reading> {
    let mut slices = dataset.slices();
    if slices.is_empty() {
        slices = dataset.refresh_slices().await?;
    }
    let skew = slices.max_clock_skew().ok_or(Error::NoSlices)?;
    let now = dataset.clock.now(skew);
    let Some(row) = dataset.rollups.read(counter).await? else {
        let as_of = now.unwrap_or(Timestamp::EPOCH);
        return Ok(Reading { count: 0, as_of, written: false });
    };
    let after = covered(&slices, &row)?;
    // By a clock that is not trusted, "now" might promise what is yet to come; what the row covers is true by any clock.
    let as_of = now.unwrap_or(row.checkpoint.map_or(Timestamp::EPOCH, |checkpoint| checkpoint.last_rollup_ts));
    let base_count = row.checkpoint.map_or(0, |checkpoint| checkpoint.last_rollup_count);
    let (Some(last_write_ts), true) = (row.last_write_ts, row.is_unrolled()) else {
        return Ok(Reading { count: base_count, as_of, written: true });
    };
    if slices.end().is_none_or(|end| last_write_ts >= end) {
        // Written in a slice that is newer than our view. What the row covers was decided by the older view above.
        slices = dataset.refresh_slices().await?;
    }
    let window = tally(dataset.events.as_ref(), &slices, budget, counter, after, last_write_ts).await?;
    Ok(Reading { count: window.after(base_count), as_of, written: true })
}
