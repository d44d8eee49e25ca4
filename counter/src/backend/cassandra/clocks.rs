//! What the nodes' clocks say.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use scylla::client::session::Session;
use scylla::cluster::NodeRef;
use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::statement::Consistency;
use scylla::statement::unprepared::Statement;
use scylla::value::CqlTimestamp;

use crate::model::Timestamp;
use crate::store::{Error, NodeClock, Result};

/// How long a node may take to tell its time; an answer that took longer would say too little.
const ASK_TIME_MAX: Duration = Duration::from_secs(1);
/// How long the others are waited for once most have answered. All that time is uncertainty of every answer.
const GRACE: Duration = Duration::from_millis(10);
/// A node tells its time cut off to the millisecond: it was as much as this later.
const CUT_OFF_MAX: Duration = Duration::from_micros(999);

/// Asks each node of a datacenter for its time; more than half have to answer.
pub(super) async fn ask(session: &Session, datacenter: &str) -> Result<Vec<NodeClock>> {
    let state = session.get_cluster_state();
    let local = state.get_nodes_info().iter().filter(|node| node.datacenter.as_deref() == Some(datacenter));
    let mut asked: FuturesUnordered<_> = local.map(|node| ask_node(session, node)).collect();
    let (all, mut answers, mut failure) = (asked.len(), Vec::new(), None);
    let is_enough = |answered: usize| answered > all / 2;
    while !is_enough(answers.len())
        && let Some(answer) = asked.next().await
    {
        match answer {
            Ok(clock) => answers.push(clock),
            Err(reason) => failure = Some(reason),
        }
    }
    if !is_enough(answers.len()) {
        let failure = failure.unwrap_or_else(|| "it has no nodes".to_owned());
        let reason = format!("{} of {all} nodes of datacenter {datacenter} told their time: {failure}", answers.len());
        return Err(Error::Unavailable { reason });
    }
    let rest = async {
        while let Some(answer) = asked.next().await {
            answers.extend(answer);
        }
    };
    // Those that take longer are left out.
    let _ = tokio::time::timeout(GRACE, rest).await;
    Ok(answers.into_iter().flat_map(both_ends).collect())
}

/// A time that was cut off lies between two: whoever compares it with a clock has to look at both.
fn both_ends(clock: NodeClock) -> [NodeClock; 2] {
    let latest = NodeClock { node: clock.node.clone(), time: clock.time.plus(CUT_OFF_MAX) };
    [clock, latest]
}

async fn ask_node(session: &Session, node: NodeRef<'_>) -> std::result::Result<NodeClock, String> {
    let address = format!("{}:{}", node.address.ip(), node.address.port());
    let failed = |what: &dyn std::fmt::Display| format!("{address}: {what}");
    // The clock itself: now() never goes back, not even when the clock does.
    let mut statement = Statement::new("SELECT currentTimestamp() FROM system.local");
    let this_node = SingleTargetLoadBalancingPolicy::new(NodeIdentifier::Node(node.clone()), None);
    statement.set_load_balancing_policy(Some(this_node));
    statement.set_consistency(Consistency::LocalOne);
    statement.set_request_timeout(Some(ASK_TIME_MAX));
    let answer = session.query_unpaged(statement, ()).await.map_err(|error| failed(&error))?;
    let rows = answer.into_rows_result().map_err(|error| failed(&error))?;
    let (CqlTimestamp(millis),) = rows.single_row::<(CqlTimestamp,)>().map_err(|error| failed(&error))?;
    Ok(NodeClock { node: address, time: Timestamp::from_micros(millis.saturating_mul(1_000)) })
}
