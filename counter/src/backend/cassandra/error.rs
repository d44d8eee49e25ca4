//! What a driver's error says about the request that was tried. Pure.

use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};

use crate::store::Error;

/// What a failed request may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// Nothing was written.
    Nothing,
    /// Nothing was written, because a statement does not fit the schema: a table may be missing.
    NothingForTheSchema,
    /// Nothing of the partition that the node was at; others of the same request may have been written before.
    NotThisPartition,
    /// Anything.
    Unknown,
}

/// What an error of an executed statement or batch leaves.
pub(super) fn extent(error: &ExecutionError) -> Extent {
    match error {
        ExecutionError::LastAttemptError(attempt) => of_attempt(attempt),
        ExecutionError::PrepareError(error) => match of_prepare(error) {
            true => Extent::NothingForTheSchema,
            false => Extent::Nothing,
        },
        // There was no node to send it to. (A write is sent to one node only.)
        ExecutionError::BadQuery(_)
        | ExecutionError::EmptyPlan
        | ExecutionError::ConnectionPoolError(_)
        | ExecutionError::UseKeyspaceError(_) => Extent::Nothing,
        _ => Extent::Unknown,
    }
}

fn of_attempt(error: &RequestAttemptError) -> Extent {
    match error {
        RequestAttemptError::DbError(error, _) => of_answer(error),
        // It did not leave this process.
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_)
        | RequestAttemptError::UnableToAllocStreamId => Extent::Nothing,
        // A node said that it does not know the statement, and now knows it as another one.
        RequestAttemptError::RepreparedIdChanged { .. } | RequestAttemptError::RepreparedIdMissingInBatch => {
            Extent::NothingForTheSchema
        }
        _ => Extent::Unknown,
    }
}

/// What a node's answer says. The coordinator checks a request as a whole, and whether enough replicas are alive partition by
/// partition, on the way.
fn of_answer(error: &DbError) -> Extent {
    match error {
        DbError::Invalid => Extent::NothingForTheSchema,
        DbError::SyntaxError
        | DbError::Unauthorized
        | DbError::AuthenticationError
        | DbError::ConfigError
        | DbError::IsBootstrapping
        | DbError::ProtocolError
        | DbError::Unprepared { .. } => Extent::Nothing,
        DbError::Unavailable { .. } | DbError::Overloaded => Extent::NotThisPartition,
        _ => Extent::Unknown,
    }
}

/// Whether a statement could not be prepared because it does not fit the schema, rather than for want of a node.
pub(super) fn of_prepare(error: &PrepareError) -> bool {
    match error {
        PrepareError::AllAttemptsFailed { first_attempt } => of_attempt(first_attempt) == Extent::NothingForTheSchema,
        PrepareError::PreparedStatementIdsMismatch => true,
        _ => false,
    }
}

/// The store's error for a write of `partitions` partitions.
pub(super) fn of_write(error: &ExecutionError, partitions: usize) -> Error {
    let reason = error.to_string();
    match extent(error) {
        Extent::Nothing | Extent::NothingForTheSchema => Error::Unavailable { reason },
        Extent::NotThisPartition if partitions <= 1 => Error::Unavailable { reason },
        Extent::NotThisPartition | Extent::Unknown => Error::Timeout { reason },
    }
}

/// The store's error for a read.
pub(super) fn of_read(error: &ExecutionError) -> Error {
    let reason = error.to_string();
    match error {
        ExecutionError::RequestTimeout(_)
        | ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::ReadTimeout { .. }, _)) => {
            Error::Timeout { reason }
        }
        _ => Error::Unavailable { reason },
    }
}

/// Rows that are not what their statement asked for.
pub(super) fn damaged(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Corrupt { reason: format!("{what} cannot be read: {error}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scylla::errors::WriteType;
    use scylla::statement::Consistency;

    use super::*;

    fn answer(error: DbError) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, "said the node".to_owned()))
    }

    fn unavailable() -> ExecutionError {
        answer(DbError::Unavailable { consistency: Consistency::LocalQuorum, required: 2, alive: 1 })
    }

    fn write_timeout() -> ExecutionError {
        let (consistency, write_type) = (Consistency::LocalQuorum, WriteType::UnloggedBatch);
        answer(DbError::WriteTimeout { consistency, received: 1, required: 2, write_type })
    }

    #[test]
    fn what_was_refused_before_it_was_written_is_known_not_to_be() {
        let refused = [
            answer(DbError::Unauthorized),
            answer(DbError::IsBootstrapping),
            answer(DbError::Invalid),
            ExecutionError::EmptyPlan,
            ExecutionError::LastAttemptError(RequestAttemptError::UnableToAllocStreamId),
        ];
        for error in refused {
            assert!(matches!(of_write(&error, 1), Error::Unavailable { .. }), "{error}");
            assert!(matches!(of_write(&error, 5), Error::Unavailable { .. }), "{error}");
        }
    }

    #[test]
    fn without_enough_replicas_one_partition_is_not_written_and_of_several_nobody_knows() {
        for error in [unavailable(), answer(DbError::Overloaded)] {
            assert!(!of_write(&error, 1).is_outcome_unknown(), "{error}");
            assert!(of_write(&error, 2).is_outcome_unknown(), "{error}");
        }
    }

    #[test]
    fn a_write_that_was_cut_off_may_have_happened() {
        let cut_off = [
            write_timeout(),
            answer(DbError::ServerError),
            answer(DbError::Other(0x1234)),
            ExecutionError::RequestTimeout(Duration::from_secs(2)),
        ];
        for error in cut_off {
            assert!(of_write(&error, 1).is_outcome_unknown(), "{error}");
        }
    }

    #[test]
    fn a_failed_write_can_be_tried_again() {
        for error in [unavailable(), write_timeout(), answer(DbError::Overloaded), ExecutionError::EmptyPlan] {
            assert!(of_write(&error, 1).is_retryable() && of_read(&error).is_retryable(), "{error}");
        }
    }
}
