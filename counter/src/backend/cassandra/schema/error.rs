//! What can go wrong with schemas, and whether to try again.

use std::time::Duration;

use scylla::errors::{DbError, ExecutionError, PagerExecutionError, RequestAttemptError, SchemaAgreementError};

use super::ddl::AGREEMENT_LIMIT;
use super::plan::Refusal;
use crate::backend::cassandra::trouble;
use crate::model::Timestamp;
use crate::store;

/// An answer about schemas.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a schema could not be read or changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No answer in time: a change may have been made, or be made yet. To be tried again.
    #[error("cannot {doing}: no answer in time ({reason}); try again")]
    Timeout {
        /// What was tried.
        doing: String,
        /// What the driver or server says.
        reason: String,
    },
    /// The cluster could not be asked, or too few nodes answer. To be tried again.
    #[error("cannot {doing}: {reason}")]
    Unavailable {
        /// What was tried.
        doing: String,
        /// What the driver or server says.
        reason: String,
    },
    /// A node lists a table without its columns: it is creating or dropping it. To be tried again.
    #[error("{keyspace}.{table} has no columns yet, or no more: a node is creating or dropping it; try again")]
    InPieces {
        /// Its keyspace.
        keyspace: String,
        /// Its name.
        table: String,
    },
    /// A node says that a table or keyspace is not there: it may not have heard of it yet. To be tried again.
    #[error("cannot {doing}: {reason}, as far as the node knows that was asked; try again")]
    UnknownYet {
        /// What was tried.
        doing: String,
        /// What the server says.
        reason: String,
    },
    /// The role that is logged in may not do it.
    #[error("cannot {doing}: the role that is logged in lacks the permission: {reason}")]
    Unauthorized {
        /// What was tried.
        doing: String,
        /// What the server says.
        reason: String,
    },
    /// The server does not take the statement.
    #[error("cannot {doing}: the server refuses it: {reason}")]
    Rejected {
        /// What was tried.
        doing: String,
        /// What the server says.
        reason: String,
    },
    /// The nodes that answer did not agree on the schema in time. To be tried again.
    #[error(
        "the cluster's nodes do not agree on the schema {when}, after {limit:?}: {reason}; try again, and look for a node that is overloaded or cut off (nodetool describecluster)"
    )]
    NoAgreement {
        /// Before or after which statement.
        when: String,
        /// How long was waited.
        limit: Duration,
        /// What the nodes said last.
        reason: String,
    },
    /// This process may not change schemas now: another one does.
    #[error("no schema change is made: {0}")]
    NotPermitted(String),
    /// Something is there that Tallyman may not touch.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no record of such a slice.
    #[error("there is no record of the slice that starts at {slice_start}")]
    MissingSlice {
        /// The slice's start.
        slice_start: Timestamp,
    },
    /// What is stored cannot be read by this version.
    #[error("{what} cannot be read: {reason}")]
    Unreadable {
        /// What was read.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Whether the same may succeed later without anybody's doing.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Unavailable { .. }
            | Self::InPieces { .. }
            | Self::UnknownYet { .. }
            | Self::NoAgreement { .. } => true,
            Self::Refused(refusal) => refusal.is_temporary(),
            _ => false,
        }
    }

    pub(super) fn of_execution(doing: &str, error: &ExecutionError) -> Self {
        let (doing, reason) = (doing.to_owned(), error.to_string());
        match error {
            ExecutionError::RequestTimeout(_) => Self::Timeout { doing, reason },
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, message)) => {
                Self::of_server(doing, error, message)
            }
            // The connection went while the answer was awaited.
            ExecutionError::LastAttemptError(RequestAttemptError::BrokenConnectionError(_)) => {
                Self::Timeout { doing, reason }
            }
            ExecutionError::SchemaAgreementError(error) => {
                Self::of_agreement(&format!("after: {doing}"), AGREEMENT_LIMIT, error)
            }
            _ => Self::Unavailable { doing, reason },
        }
    }

    pub(super) fn of_pager(doing: &str, error: &PagerExecutionError) -> Self {
        match error {
            PagerExecutionError::NextPageError(error) => Self::of_page(doing, error),
            error => Self::Unavailable { doing: doing.to_owned(), reason: error.to_string() },
        }
    }

    pub(super) fn of_page(doing: &str, error: &scylla::errors::NextPageError) -> Self {
        use scylla::errors::{NextPageError, RequestError};
        let (doing, reason) = (doing.to_owned(), error.to_string());
        match error {
            NextPageError::RequestFailure(RequestError::RequestTimeout(_)) => Self::Timeout { doing, reason },
            NextPageError::RequestFailure(RequestError::LastAttemptError(RequestAttemptError::DbError(
                error,
                message,
            ))) => Self::of_server(doing, error, message),
            _ => Self::Unavailable { doing, reason },
        }
    }

    pub(super) fn of_agreement(when: &str, limit: Duration, error: &SchemaAgreementError) -> Self {
        Self::NoAgreement { when: when.to_owned(), limit, reason: error.to_string() }
    }

    fn of_server(doing: String, error: &DbError, message: &str) -> Self {
        let reason = message.to_owned();
        match error {
            DbError::WriteTimeout { .. } | DbError::ReadTimeout { .. } => Self::Timeout { doing, reason },
            DbError::Unauthorized if trouble::is_of_logins(message) => Self::Unavailable { doing, reason },
            DbError::Unauthorized => Self::Unauthorized { doing, reason },
            DbError::Invalid if is_unknown(message) => Self::UnknownYet { doing, reason },
            DbError::SyntaxError | DbError::Invalid | DbError::ConfigError | DbError::AlreadyExists { .. } => {
                Self::Rejected { doing, reason }
            }
            error => Self::Unavailable { doing, reason: format!("{error}: {message}") },
        }
    }
}

/// Whether this is what a server says of a table or keyspace that it does not know. It has no code of its own, and its words differ
/// from version to version. Of a role it says the same, and means it: roles are rows.
fn is_unknown(message: &str) -> bool {
    let message = message.to_lowercase();
    let of_what = ["table ", "keyspace ", "<table ", "<keyspace ", "resource <table ", "resource <keyspace "];
    let is_missing = message.contains("does not exist") || message.contains("doesn't exist");
    message.starts_with("unconfigured table ") || (is_missing && of_what.iter().any(|what| message.starts_with(what)))
}

impl From<Error> for store::Error {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error {
            Error::Timeout { .. } | Error::NoAgreement { .. } => Self::Timeout { reason },
            Error::MissingSlice { slice_start } => Self::MissingSlice { slice_start },
            Error::Unreadable { .. } => Self::Corrupt { reason },
            Error::Unavailable { .. }
            | Error::InPieces { .. }
            | Error::UnknownYet { .. }
            | Error::Unauthorized { .. }
            | Error::Rejected { .. }
            | Error::NotPermitted(_)
            | Error::Refused(_) => Self::Unavailable { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_or_keyspace_that_a_node_does_not_know_may_be_known_later_and_nothing_else() {
        let of = |message: &str| Error::of_server("claim it".to_owned(), &DbError::Invalid, message);
        for unknown in [
            "table dataset_owner does not exist",
            "keyspace plays does not exist",
            "Keyspace 'plays' doesn't exist",
            "<keyspace plays> doesn't exist",
            "Resource <keyspace plays> doesn't exist",
            "unconfigured table slices",
        ] {
            assert!(of(unknown).is_retryable(), "{unknown}");
        }
        for wrong in ["Role keyspace doesn't exist", "Undefined column name keyspace", "Table name 'a-b' is invalid"] {
            let error = of(wrong);
            assert!(matches!(error, Error::Rejected { .. }), "{wrong}: {error:?}");
        }
    }

    /// Seen by nobody yet, but in Cassandra's `CassandraAuthorizer`: permissions are rows, whose replicas may be away.
    #[test]
    fn a_permission_that_cannot_be_looked_up_may_be_there_later_and_one_that_is_not_there_may_not() {
        let of = |message: &str| Error::of_server("claim it".to_owned(), &DbError::Unauthorized, message);
        let away = "Unable to perform authorization of permissions: Cannot achieve consistency level LOCAL_ONE";
        assert!(of(away).is_retryable());
        assert!(
            !of("User plays has no MODIFY permission on <table plays.dataset_owner> or any of its parents")
                .is_retryable()
        );
    }
}
