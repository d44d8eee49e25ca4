//! Why a count cannot be made now.

use crate::clock::Untrusted;
use crate::model::Timestamp;
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
    #[error("the dataset has no time slices (yet), or the record of its first one is missing")]
    NoSlices,
    /// The counter's row says up to when it was written, and not since when.
    #[error(
        "the counter was written until {last_write_ts}, and its row has neither a checkpoint nor first_write_ts: \
         part of the row was deleted"
    )]
    MarkMissing {
        /// Up to when it was written.
        last_write_ts: Timestamp,
    },
}
