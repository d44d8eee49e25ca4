//! Whether a table that is listed can be used: a node that is creating one lists it a moment before it can be read or written there,
//! and tells the other nodes after that.

use std::fmt;
use std::time::Duration;

use futures::future::join_all;
use scylla::client::session::Session;
use scylla::cluster::NodeRef;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::Consistency;
use tokio::time::Instant;

use super::tables::{Column, Part};
use super::{Error, Result, query};

/// How long a table may be listed before it can be used.
const LIMIT: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_millis(20);
/// How long a node may take to say whether a table can be used.
const ASK_TIME_MAX: Duration = Duration::from_secs(2);

/// Waits until every node that answers can use a table that one of them lists: the next statement may go to any of them. One that
/// cannot use it in time is ill, and keeps nobody from the others: a statement that goes to it can be tried again.
///
/// # Errors
/// When none can use it in time. To be tried again.
pub(super) async fn usable(
    session: &Session,
    keyspace: &str,
    table: &str,
    columns: impl IntoIterator<Item = &Column>,
) -> Result<()> {
    let doing = format!("use {keyspace}.{table}, which is listed");
    let question = question(keyspace, table, columns);
    let until = Instant::now() + LIMIT;
    loop {
        let state = session.get_cluster_state();
        let nodes = state.get_nodes_info().iter().filter(|node| node.is_connected());
        let answers = join_all(nodes.map(|node| ask(session, node, &question))).await;
        match judged(answers) {
            Verdict::Usable => return Ok(()),
            Verdict::Not { .. } if Instant::now() < until => tokio::time::sleep(EVERY).await,
            Verdict::Not { by_some: true, reason } => {
                tracing::warn!(table = %format!("{keyspace}.{table}"), %reason, "a node cannot use a table that others use");
                return Ok(());
            }
            Verdict::Not { by_some: false, reason } => return Err(Error::Unavailable { doing, reason }),
        }
    }
}

/// What a node says of a table.
#[derive(Debug, Clone)]
enum Answer {
    /// It can be used through this node.
    Usable,
    /// It cannot be used yet.
    NotYet(String),
    /// The node has not answered.
    Silent(String),
}

/// Whether the nodes that answered can use a table.
#[derive(Debug)]
enum Verdict {
    Usable,
    /// Not by all that answered; but `by_some`.
    Not {
        by_some: bool,
        reason: String,
    },
}

/// One that does not answer is no reason to wait: no statement gets far with it either.
fn judged(answers: Vec<Answer>) -> Verdict {
    let (mut by_some, mut not_yet, mut silent) = (false, None, None);
    for answer in answers {
        match answer {
            Answer::Usable => by_some = true,
            Answer::NotYet(reason) => not_yet = Some(reason),
            Answer::Silent(reason) => silent = Some(reason),
        }
    }
    match not_yet.or(silent.filter(|_| !by_some)) {
        Some(reason) => Verdict::Not { by_some, reason },
        None if by_some => Verdict::Usable,
        None => Verdict::Not { by_some, reason: "no node has answered".to_owned() },
    }
}

async fn ask(session: &Session, node: NodeRef<'_>, question: &str) -> Answer {
    let mut statement = query::once(question, Consistency::One);
    let this_node = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node.clone()), None);
    statement.set_load_balancing_policy(Some(this_node));
    statement.set_request_timeout(Some(ASK_TIME_MAX));
    match session.query_unpaged(statement, ()).await {
        Ok(_) => Answer::Usable,
        Err(error) => heard(&node.address, &error),
    }
}

/// What an error of a node says of a table.
fn heard(node: &dyn fmt::Display, error: &ExecutionError) -> Answer {
    let what = format!("node {node}: {error}");
    let ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) = error else {
        return Answer::Silent(what);
    };
    match error {
        // Permissions are looked at once the definition is found, and how many replicas are alive once the node's files are.
        DbError::Unauthorized | DbError::Unavailable { .. } => Answer::Usable,
        DbError::ReadTimeout { .. } | DbError::Overloaded | DbError::IsBootstrapping => Answer::Silent(what),
        // Where its definition is not there the node says so. Where its files are not, the node fails, or a replica does.
        _ => Answer::NotYet(what),
    }
}

/// A statement for which a node has to have the table's files, and which reads next to nothing: the one row of one token, if there is
/// one. A node looks into its own files first, whoever the replicas are, to estimate the answer (Cassandra's `RangeCommands`). A range
/// that is empty by itself would be answered from the table's definition alone, which comes before its files.
fn question<'a>(keyspace: &str, table: &str, columns: impl IntoIterator<Item = &'a Column>) -> String {
    let partition = |column: &'a Column| match column.part {
        Part::Partition(place) => Some((place, column.name.as_str())),
        _ => None,
    };
    let mut key: Vec<_> = columns.into_iter().filter_map(partition).collect();
    key.sort_unstable();
    let key = key.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(", ");
    format!("SELECT {key} FROM {keyspace}.{table} WHERE token({key}) = 0 LIMIT 1")
}

#[cfg(test)]
mod tests {
    use super::super::tables::Table;
    use super::*;
    use crate::model::Timestamp;

    fn says(error: DbError, message: &str) -> Answer {
        heard(
            &"127.0.0.2:9042",
            &ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, message.to_owned())),
        )
    }

    /// Its definition is not there.
    fn unknown() -> Answer {
        says(DbError::Invalid, "table rollup does not exist")
    }

    /// Its files are not there; and the same of a replica, as the node that asked it says it.
    fn unopened() -> [Answer; 2] {
        let failure = DbError::ReadFailure {
            consistency: Consistency::One,
            received: 0,
            required: 1,
            numfailures: 1,
            data_present: false,
        };
        [
            says(DbError::ServerError, "java.lang.IllegalArgumentException: Unknown CF 1b255f4d"),
            says(failure, "Operation failed - received 0 responses and 1 failures: UNKNOWN from /127.0.1.2:7000"),
        ]
    }

    fn silent() -> Answer {
        heard(&"127.0.0.2:9042", &ExecutionError::RequestTimeout(ASK_TIME_MAX))
    }

    fn few_replicas() -> Answer {
        says(DbError::Unavailable { consistency: Consistency::One, required: 1, alive: 0 }, "Cannot achieve ONE")
    }

    /// Seen where four applied to three nodes at once: the statement after the look went to the node that had not heard, or whose
    /// files were not there.
    #[test]
    fn a_table_is_usable_once_every_node_that_answers_can_use_it() {
        let unauthorized = || says(DbError::Unauthorized, "no SELECT");
        for usable in [
            vec![Answer::Usable, Answer::Usable],
            vec![Answer::Usable, silent()],
            vec![unauthorized(), Answer::Usable],
            vec![few_replicas(), silent()],
        ] {
            assert!(matches!(judged(usable.clone()), Verdict::Usable), "{usable:?}");
        }
        let [by_itself, by_replica] = unopened();
        for (by_some, not_usable) in [
            (true, vec![Answer::Usable, unknown(), Answer::Usable]),
            (true, vec![Answer::Usable, by_itself]),
            (true, vec![by_replica, Answer::Usable]),
            (false, vec![unknown(), silent()]),
            (false, vec![silent()]),
            (false, vec![]),
        ] {
            match judged(not_usable.clone()) {
                Verdict::Not { by_some: some, .. } => assert_eq!(some, by_some, "{not_usable:?}"),
                Verdict::Usable => panic!("{not_usable:?}"),
            }
        }
    }

    #[test]
    fn nodes_are_asked_by_the_whole_partition_key_in_its_order() {
        let events = Table::events("k", Timestamp::EPOCH, Timestamp::from_micros(3_600_000_000));
        let mut columns = events.columns().to_vec();
        columns.reverse();
        let key = "namespace, counter_name, region, time_bucket, event_bucket";
        assert_eq!(
            question("k", "events_0", &columns),
            format!("SELECT {key} FROM k.events_0 WHERE token({key}) = 0 LIMIT 1")
        );
    }
}
