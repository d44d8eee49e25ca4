//! Whether a table that is listed can be used: a node that is creating one lists it a moment before it knows it, and tells the other
//! nodes after that.

use std::time::Duration;

use futures::future::join_all;
use scylla::client::session::Session;
use scylla::cluster::NodeRef;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::Consistency;
use tokio::time::Instant;

use super::tables::{Column, Part};
use super::{Error, Result, query};

/// How long a table may be listed before it can be used.
const LIMIT: Duration = Duration::from_secs(10);
const EVERY: Duration = Duration::from_millis(20);
/// How long a node may take to say whether it knows a table.
const ASK_TIME_MAX: Duration = Duration::from_secs(2);

/// Waits until every node that answers knows a table that one of them lists: the next statement may go to any of them.
///
/// # Errors
/// When one does not know it in time, or none answers.
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
        let answers = join_all(nodes.map(|node| ask(session, node, &doing, &question))).await;
        match known(&doing, answers) {
            Err(_) if Instant::now() < until => tokio::time::sleep(EVERY).await,
            known => return known,
        }
    }
}

/// Whether those of the nodes that answered know a table. One that does not answer is no reason to wait: no statement gets far
/// with it either.
fn known(doing: &str, answers: Vec<Result<()>>) -> Result<()> {
    let (mut knows, mut silent) = (false, None);
    for answer in answers {
        match answer {
            // Permissions are looked at once the table is found.
            Ok(()) | Err(Error::Unauthorized { .. }) => knows = true,
            Err(unknown @ Error::UnknownYet { .. }) => return Err(unknown),
            Err(error) => silent = Some(error),
        }
    }
    let nobody = || Error::Unavailable { doing: doing.to_owned(), reason: "no node has answered".to_owned() };
    if knows { Ok(()) } else { Err(silent.unwrap_or_else(nobody)) }
}

async fn ask(session: &Session, node: NodeRef<'_>, doing: &str, question: &str) -> Result<()> {
    let mut statement = query::once(question, Consistency::One);
    let this_node = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node.clone()), None);
    statement.set_load_balancing_policy(Some(this_node));
    statement.set_request_timeout(Some(ASK_TIME_MAX));
    query::run(session, doing, statement).await.map(drop)
}

/// A statement for which a node has to know the table and reads nothing: no token is greater and less than another (Cassandra does
/// not even look, CASSANDRA-5573).
fn question<'a>(keyspace: &str, table: &str, columns: impl IntoIterator<Item = &'a Column>) -> String {
    let partition = |column: &'a Column| match column.part {
        Part::Partition(place) => Some((place, column.name.as_str())),
        _ => None,
    };
    let mut key: Vec<_> = columns.into_iter().filter_map(partition).collect();
    key.sort_unstable();
    let key = key.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(", ");
    format!("SELECT {key} FROM {keyspace}.{table} WHERE token({key}) > 0 AND token({key}) < 0")
}

#[cfg(test)]
mod tests {
    use super::super::tables::Table;
    use super::*;
    use crate::model::Timestamp;

    fn unknown() -> Result<()> {
        Err(Error::UnknownYet { doing: "use k.rollup".to_owned(), reason: "table rollup does not exist".to_owned() })
    }

    fn silent() -> Result<()> {
        Err(Error::Timeout { doing: "use k.rollup".to_owned(), reason: "2 s".to_owned() })
    }

    fn unauthorized() -> Result<()> {
        Err(Error::Unauthorized { doing: "use k.rollup".to_owned(), reason: "no SELECT".to_owned() })
    }

    /// Seen where four applied to three nodes at once: the statement after the look went to the node that had not heard.
    #[test]
    fn a_table_is_usable_once_every_node_that_answers_knows_it() {
        for known_by in [vec![Ok(()), Ok(())], vec![Ok(()), silent()], vec![unauthorized(), Ok(())]] {
            assert!(known("use k.rollup", known_by.clone()).is_ok(), "{known_by:?}");
        }
        for unknown_to in [vec![Ok(()), unknown(), Ok(())], vec![unknown(), silent()], vec![silent()], vec![]] {
            let error = known("use k.rollup", unknown_to.clone()).unwrap_err();
            assert!(error.is_retryable(), "{unknown_to:?}: {error}");
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
            format!("SELECT {key} FROM k.events_0 WHERE token({key}) > 0 AND token({key}) < 0")
        );
    }
}
