//! Why a count cannot be made now.

use crate::clock::Untrusted;
use crate::model::{CounterKey, Timestamp};
use crate::store;

/// The answer of an aggregation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a counter cannot be aggregated now. Its checkpoint stays as it is.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The store failed; trying again may help.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The clock is not trusted; no boundary can be computed from it.
    #[error(transparent)]
    Clock(#[from] Untrusted),
    /// The dataset's slices are not known (yet).
    #[error("the dataset has no time slices yet")]
    NoSlices,
    /// The checkpoint is older than everything the dataset knows about: events may have been between them. An older backup
    /// of the rollup table was restored, or slice records were removed by hand; somebody has to look.
    #[error(
        "the last rollup of {counter} is of {checkpoint}, and no slice before {oldest} is known: events between the two would be missing"
    )]
    HistoryMissing {
        /// Whose.
        counter: CounterKey,
        /// The checkpoint's time.
        checkpoint: Timestamp,
        /// The start of the oldest slice on record.
        oldest: Timestamp,
    },
}
