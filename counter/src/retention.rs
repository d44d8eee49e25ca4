//! The life of slices: created ahead of time, closed behind a sweep, dropped when closed.
//!
//! Only one process does this for a dataset: the operator's leader, or `standalone`. Each step is idempotent, so that a late
//! or repeated one harms nothing.

mod ahead;
mod due;

use std::time::Duration;

use crate::aggregation::{self, RolledUp, ScanBudget, roll_up};
use crate::configuration::{Retention, TimePartition};
use crate::dataset::Dataset;
use crate::model::{CounterKey, SliceState, Timestamp};
use crate::pipeline::Sweep;
use crate::store::{RollupRow, Share};

pub use ahead::missing;
pub use due::due;

/// How far ahead slices are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// At least so far, and…
    pub span: Duration,
    /// …no more than so many: short slices reach less far.
    pub slices_max: usize,
}

impl Ahead {
    /// Three days: long enough for somebody to mend what keeps slices from being created.
    pub const USUAL: Self = Self { span: Duration::from_secs(3 * 24 * 3600), slices_max: 100 };
}

/// Events of scans in memory at once, while closing.
const SCANNED_EVENTS: u32 = 16_384;

/// Why a slice's life does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed, a counter could not be rolled up, or the clock is not trusted. The slice stays as it is; the next
    /// run tries again.
    #[error(transparent)]
    Aggregation(#[from] aggregation::Error),
    /// A counter written in the slice could not be brought past its end. The slice is kept.
    #[error("the slice that starts at {slice_start} is kept: {counter} is not rolled up past its end")]
    NotCovered {
        /// The slice.
        slice_start: Timestamp,
        /// One such counter.
        counter: CounterKey,
    },
    /// The sweep that is to show that every counter written in the slice is rolled up past its end did not finish. The slice
    /// is kept.
    #[error("the slice that starts at {slice_start} is kept: {source}")]
    SweepUnfinished {
        /// The slice.
        slice_start: Timestamp,
        /// Why.
        source: aggregation::Error,
    },
    /// The settings make no slice.
    #[error(transparent)]
    InvalidSlice(#[from] crate::model::InvalidSlice),
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Self {
        Self::Aggregation(error.into())
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Slices created.
    pub created: usize,
    /// Slices closed.
    pub closed: usize,
    /// Slices dropped.
    pub dropped: usize,
}

/// Creates the slices that are missing ahead of now, with these settings.
///
/// # Errors
/// When the store fails, or the settings make no slice.
pub async fn create_ahead(dataset: &Dataset, partition: TimePartition, ahead: Ahead) -> Result<usize, Error> {
    let slices = dataset.refresh_slices().await?;
    // A slice lasts, and so would the mistake of a wrong clock.
    let skew = slices.max_clock_skew().unwrap_or(partition.settings.max_clock_skew);
    let now = dataset.clock.now(skew).map_err(aggregation::Error::from)?;
    // A creation that was cut short left a record without its table. However old the slice is by now: no rollup of any
    // counter gets past a table that is not there.
    for record in slices.records().iter().filter(|record| record.state == SliceState::Open) {
        dataset.events.create_slice(record.clone()).await?;
    }
    let missing = ahead::missing(slices.end(), now, partition, ahead)?;
    let created = missing.len();
    for record in missing {
        dataset.events.create_slice(record).await?;
    }
    if created > 0 {
        dataset.refresh_slices().await?;
    }
    Ok(created)
}

/// Closes and drops the slices whose time has come.
///
/// # Errors
/// When one could not be closed or dropped: it is kept, and so are those after it.
pub async fn close_and_drop(dataset: &Dataset, retention: Retention) -> Result<Report, Error> {
    let slices = dataset.refresh_slices().await?;
    let skew = slices.max_clock_skew().ok_or(aggregation::Error::NoSlices)?;
    // Before any row is read: what was acknowledged in a slice whose end the boundary has passed shows in the rows.
    let now = dataset.clock.now(skew).map_err(aggregation::Error::from)?;
    let boundary = slices.boundary(now);
    let mut report = Report::default();
    // A drop that was cut short is finished: as drops go in order and stop at a failure, it can only be the last one.
    if let Some(last) = slices.records().iter().rfind(|slice| slice.state == SliceState::Dropped) {
        dataset.events.set_slice_state(last.start, SliceState::Dropped).await?;
    }
    // Oldest first: a certificate speaks of everything before the slice's end.
    for slice in slices.records() {
        let mut state = slice.state;
        if state == SliceState::Open {
            if !due::may_close(slice, now, boundary, retention) {
                break;
            }
            cover(dataset, slice.start, slice.end).await?;
            dataset.events.set_slice_state(slice.start, SliceState::Closed).await?;
            report.closed += 1;
            state = SliceState::Closed;
        }
        if state == SliceState::Closed && due::may_drop(slice, now, retention) {
            dataset.events.set_slice_state(slice.start, SliceState::Dropped).await?;
            report.dropped += 1;
        }
    }
    if report.closed + report.dropped > 0 {
        dataset.refresh_slices().await?;
    }
    Ok(report)
}

/// Makes sure that every counter with acknowledged events before `end` has a checkpoint past it. One pass is enough: no event
/// before `end` can be acknowledged any more, and no checkpoint ever goes back.
async fn cover(dataset: &Dataset, slice_start: Timestamp, end: Timestamp) -> Result<(), Error> {
    let unfinished = |source| Error::SweepUnfinished { slice_start, source };
    let budget = ScanBudget::new(SCANNED_EVENTS);
    let mut sweep = Sweep::new(dataset.rollups.as_ref(), Share::ALL);
    while let Some(unrolled) = sweep.next().await.map_err(|error| unfinished(error.into()))? {
        for (counter, _) in unrolled {
            if !cover_counter(dataset, &budget, &counter, end).await.map_err(unfinished)? {
                return Err(Error::NotCovered { slice_start, counter });
            }
        }
    }
    Ok(())
}

/// Whether the counter's checkpoint, moved on if need be, covers what was acknowledged before `end`.
async fn cover_counter(
    dataset: &Dataset,
    budget: &ScanBudget,
    counter: &CounterKey,
    end: Timestamp,
) -> aggregation::Result<bool> {
    let row = dataset.rollups.read(counter).await?.unwrap_or_default();
    if covers(&row, end) {
        return Ok(true);
    }
    Ok(match roll_up(dataset, None, budget, counter).await? {
        RolledUp::NeverWritten => true,
        RolledUp::Unchanged { checkpoint, unrolled } | RolledUp::Advanced { checkpoint, unrolled, .. } => {
            !unrolled || checkpoint.last_rollup_ts >= end.previous()
        }
    })
}

fn covers(row: &RollupRow, end: Timestamp) -> bool {
    !row.is_unrolled() || row.checkpoint.is_some_and(|checkpoint| checkpoint.last_rollup_ts >= end.previous())
}
