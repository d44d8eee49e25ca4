//! What a call can end in.

use crate::{
    proto::IdempotencyToken,
    status::{Reason, Status},
};

/// Why a call failed. But for [`Error::OutcomeUnknown`], [`Error::CountOverflow`] and [`Error::TokenReused`], a mutation
/// that failed was certainly not applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The address is none that the client can connect to.
    #[error("address `{address}`: {why}; allowed are http://HOST:PORT and unix:/PATH")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The namespace is not served there.
    #[error("{0}")]
    NamespaceUnknown(Status),
    /// A field of the request is wrong; [`Status::field_violations`] names it.
    #[error("{0}")]
    Invalid(Status),
    /// The token's generation_time lies outside the accept limit: the token is too old, or the clocks differ. No earlier
    /// attempt was applied either.
    #[error("{0}")]
    EventTimeOutOfRange(Status),
    /// The token was sent before with another delta or operation; one of them counts.
    #[error("{0}")]
    TokenReused(Status),
    /// The count does not fit 64 bits. Of an add-and-get: the add is applied.
    #[error("{0}")]
    CountOverflow(Status),
    /// The server did not trust its clock until the deadline.
    #[error("{0}")]
    ClockSkew(Status),
    /// The server had too much in flight in every attempt.
    #[error("{0}")]
    Overloaded(Status),
    /// No answer in time: of a read, or of a mutation that was certainly not applied.
    #[error("{0}")]
    Unavailable(Status),
    /// A mutation that may or may not have been applied.
    #[error("the mutation may or may not have been applied, token `{}`: {last}", .token.token)]
    OutcomeUnknown {
        /// Sending the same mutation with this token again counts it once, if the namespace honours tokens.
        token: IdempotencyToken,
        /// Whether the namespace honours tokens: `Some(false)` for best-effort ones, `None` if no reply ever said.
        token_honoured: Option<bool>,
        /// How the last attempt ended.
        last: Box<Status>,
    },
    /// Another answer of the server, or one that makes no sense.
    #[error("{0}")]
    Other(Status),
}

impl Error {
    /// The error for a call whose last attempt ended with `status` and that has certainly changed nothing, or whose
    /// status tells what it changed.
    pub(super) fn from_status(status: Status) -> Self {
        use tonic::Code;
        match status.reason() {
            Some(Reason::NamespaceUnknown) => Self::NamespaceUnknown(status),
            Some(Reason::EventTimeOutOfRange) => Self::EventTimeOutOfRange(status),
            Some(Reason::TokenReused) => Self::TokenReused(status),
            Some(Reason::CountOverflow) => Self::CountOverflow(status),
            Some(Reason::ClockSkew) => Self::ClockSkew(status),
            Some(Reason::Overloaded) => Self::Overloaded(status),
            // OUTCOME_UNKNOWN of a read: there was nothing to be applied.
            Some(Reason::OutcomeUnknown) => Self::Unavailable(status),
            None => match status.code() {
                Code::InvalidArgument => Self::Invalid(status),
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unavailable(status),
                _ => Self::Other(status),
            },
        }
    }

    /// Whether the mutation may have been applied without that being known.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::OutcomeUnknown { .. })
    }

    /// Whether the same request, of a mutation with the same token, may be sent again and may then succeed. Where the
    /// outcome is unknown, only if the namespace is known to honour tokens.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::ClockSkew(_) | Self::Overloaded(_) | Self::Unavailable(_) => true,
            Self::OutcomeUnknown { token_honoured, .. } => *token_honoured == Some(true),
            Self::Address { .. }
            | Self::NamespaceUnknown(_)
            | Self::Invalid(_)
            | Self::EventTimeOutOfRange(_)
            | Self::TokenReused(_)
            | Self::CountOverflow(_)
            | Self::Other(_) => false,
        }
    }

    /// The server's last answer; `None` if there was no server to ask.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Address { .. } => None,
            Self::OutcomeUnknown { last, .. } => Some(last),
            Self::NamespaceUnknown(status)
            | Self::Invalid(status)
            | Self::EventTimeOutOfRange(status)
            | Self::TokenReused(status)
            | Self::CountOverflow(status)
            | Self::ClockSkew(status)
            | Self::Overloaded(status)
            | Self::Unavailable(status)
            | Self::Other(status) => Some(status),
        }
    }
}
