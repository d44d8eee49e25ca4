//! What can go wrong in a store, and what that says about the write that was tried.

use crate::model::{DecodeError, Timestamp};

/// A store's answer.
pub type Result<T> = std::result::Result<T, Error>;

/// A store's failure. Backends turn their own errors into this one at their edge.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No answer in time. A write may have been applied, may be applied later, or never.
    #[error("the store did not answer in time: {reason}")]
    Timeout {
        /// What was waited for.
        reason: String,
    },
    /// The store could not be asked, or said no before anything was written.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// The store's own queue is full; nothing was written.
    #[error("the store has too much in flight")]
    Overloaded,
    /// The token is stored with another delta or operation. Only from a store with
    /// [`Capabilities::detects_token_reuse`](super::Capabilities::detects_token_reuse).
    #[error("the token was used for another mutation")]
    TokenReused,
    /// The event time lies at or before the highest checkpoint that the store has written; nothing was written. Only from
    /// a store with [`Capabilities::refuses_behind_boundary`](super::Capabilities::refuses_behind_boundary).
    #[error("the event time lies at or before {boundary}, up to which counters are rolled up")]
    BehindBoundary {
        /// The highest `last_rollup_ts` written.
        boundary: Timestamp,
    },
    /// No table for the slice that starts here.
    #[error("there is no events table for the slice that starts at {slice_start}")]
    MissingSlice {
        /// The slice's start.
        slice_start: Timestamp,
    },
    /// Stored data that cannot be read.
    #[error("stored data is damaged: {reason}")]
    Corrupt {
        /// What was found, and where.
        reason: String,
    },
}

impl Error {
    /// Whether a write that ended so may have been applied, or may be applied yet.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Unavailable { .. } | Self::Overloaded)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Corrupt { reason: error.to_string() }
    }
}
