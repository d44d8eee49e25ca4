//! Every refusal of the counter API, before it is put into a transport's words.

use std::borrow::Cow;
use std::time::Duration;

use crate::aggregation;
use crate::clock::Untrusted;
use crate::model::{Timestamp, Token};
use crate::store;

/// An answer of the counter API.
pub type Result<T> = std::result::Result<T, Error>;

/// A field of a request, as a path into it: `adds[3].counter_name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field(Cow<'static, str>);

impl Field {
    /// `list[index].name`.
    #[must_use]
    pub fn in_batch(list: &str, index: usize, name: &str) -> Self {
        Self(format!("{list}[{index}].{name}").into())
    }

    /// `list[index]`.
    #[must_use]
    pub fn at(list: &str, index: usize) -> Self {
        Self(format!("{list}[{index}]").into())
    }

    /// `field.name`.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0).into())
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&'static str> for Field {
    fn from(field: &'static str) -> Self {
        Self(field.into())
    }
}

/// Why the counter API does not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No such namespace in this process.
    #[error("namespace {namespace:?} is not served here")]
    NamespaceUnknown {
        /// The name asked for.
        namespace: String,
    },
    /// The request itself is wrong.
    #[error("{}: {reason}", field.as_str())]
    Invalid {
        /// Which field.
        field: Field,
        /// What is wrong with it, and what is allowed.
        reason: String,
    },
    /// The event time lies too far from now. It says nothing of earlier attempts with the same token.
    #[error("generation_time {event_time} is not within {accept_limit:?} of now, {now}")]
    EventTimeOutOfRange {
        /// The event time.
        event_time: Timestamp,
        /// How far it may lie from now.
        accept_limit: Duration,
        /// This process's now.
        now: Timestamp,
    },
    /// The token was seen with another delta or operation.
    #[error("token {token:?} was used for another delta or operation")]
    TokenReused {
        /// The token.
        token: Token,
    },
    /// The sum has left the range of signed 64-bit integers. Adds go on being counted.
    #[error("the count {count} does not fit in 64 bits")]
    CountOverflow {
        /// The sum.
        count: i128,
    },
    /// It may have been applied, now or later. Safe to try again with the same token.
    #[error("the outcome is unknown: {reason}")]
    OutcomeUnknown {
        /// What happened.
        reason: String,
    },
    /// This process's clock is not trusted; nothing was applied.
    #[error("the clock is not trusted: {reason}")]
    ClockSkew {
        /// What was measured.
        reason: String,
    },
    /// Too much is in flight; nothing was applied.
    #[error("too much is in flight")]
    Overloaded {
        /// How soon it may be worth to try again.
        retry_after: Duration,
    },
    /// The store cannot be asked; nothing was applied.
    #[error("{reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// Stored data is damaged or missing; waiting does not help, somebody has to look.
    #[error("{reason}")]
    Damaged {
        /// What was found.
        reason: String,
    },
}

impl Error {
    /// A wrong field.
    pub fn invalid(field: impl Into<Field>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    /// What a store's failure says about a mutation that was tried once.
    pub(super) fn of_mutation(error: store::Error) -> Self {
        match error {
            store::Error::Timeout { reason } => Self::OutcomeUnknown { reason },
            store::Error::Overloaded => Self::Overloaded { retry_after: super::RETRY_AFTER },
            store::Error::BehindBoundary { .. } => Self::ClockSkew { reason: error.to_string() },
            error => Self::of_read(error),
        }
    }

    /// What a store's failure says about a read, or about a mutation of which nothing was written.
    pub(super) fn of_read(error: store::Error) -> Self {
        match error {
            store::Error::Corrupt { .. } => Self::Damaged { reason: error.to_string() },
            store::Error::Overloaded => Self::Overloaded { retry_after: super::RETRY_AFTER },
            error => Self::Unavailable { reason: error.to_string() },
        }
    }
}

impl From<aggregation::Error> for Error {
    fn from(error: aggregation::Error) -> Self {
        match error {
            aggregation::Error::Store(error) => Self::of_read(error),
            aggregation::Error::Clock(error) => error.into(),
            error @ aggregation::Error::NoSlices => Self::Unavailable { reason: error.to_string() },
            error @ aggregation::Error::MarkMissing { .. } => Self::Damaged { reason: error.to_string() },
        }
    }
}

impl From<Untrusted> for Error {
    fn from(error: Untrusted) -> Self {
        match error {
            // The store has not answered yet: that is what to look at.
            Untrusted::NotMeasured => Self::Unavailable { reason: error.to_string() },
            error => Self::ClockSkew { reason: error.to_string() },
        }
    }
}
