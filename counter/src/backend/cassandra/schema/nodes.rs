//! What nodes there are, as they list each other, and which of them are not connected to.
//!
//! The driver's own list may be short: where a node says which datacenter it is in, and has no time to say what others there are, the
//! driver goes on with that one. How many replicas there can be, and whether all have heard of an end, is no matter for a short list.

use std::collections::BTreeMap;

use scylla::client::session::Session;
use scylla::statement::Consistency;
use uuid::Uuid;

use super::{Error, Result, query};

/// A node that one of them lists.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    datacenter: Option<String>,
    address: String,
    is_connected: bool,
}

/// Nodes per datacenter.
///
/// # Errors
/// When they do not all say which datacenter they are in, or cannot be asked.
pub async fn per_datacenter(session: &Session) -> Result<BTreeMap<String, usize>> {
    counted(listed(session).await?.values())
}

/// A node of the datacenter that is not connected to, if there is one, by its address.
///
/// # Errors
/// When no node says what others there are.
pub(super) async fn away(session: &Session, datacenter: &str) -> Result<Option<String>> {
    Ok(first_away(listed(session).await?.values(), datacenter))
}

fn counted<'a>(nodes: impl Iterator<Item = &'a Node>) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for node in nodes {
        let Some(datacenter) = &node.datacenter else {
            let reason = format!("node {} has not said yet which datacenter it is in", node.address);
            return Err(Error::Unavailable { doing: "count the nodes".to_owned(), reason });
        };
        *counts.entry(datacenter.clone()).or_default() += 1;
    }
    Ok(counts)
}

/// One that does not say where it is may be anywhere.
fn first_away<'a>(mut nodes: impl Iterator<Item = &'a Node>, datacenter: &str) -> Option<String> {
    let may_be_there = |node: &Node| node.datacenter.as_deref().is_none_or(|its| its == datacenter);
    nodes.find(|node| may_be_there(node) && !node.is_connected).map(|node| node.address.clone())
}

/// What the driver knows, and what the node that is asked knows besides: all others, where the driver knows that one alone.
async fn listed(session: &Session) -> Result<BTreeMap<Uuid, Node>> {
    let text = "SELECT host_id, data_center, rpc_address FROM system.peers";
    let statement = query::repeatable(text, Consistency::One);
    type Row = (Option<Uuid>, Option<String>, Option<std::net::IpAddr>);
    let rows: Vec<Row> = query::rows(session, "read system.peers", statement).await?;
    let state = session.get_cluster_state();
    let known = state.get_nodes_info().iter().map(|node| {
        let (datacenter, address) = (node.datacenter.clone(), node.address.to_string());
        (node.host_id, Node { datacenter, address, is_connected: node.is_connected() })
    });
    Ok(merged(known, rows))
}

fn merged(
    known: impl Iterator<Item = (Uuid, Node)>,
    rows: impl IntoIterator<Item = (Option<Uuid>, Option<String>, Option<std::net::IpAddr>)>,
) -> BTreeMap<Uuid, Node> {
    let mut nodes: BTreeMap<_, _> = known.collect();
    for (host_id, datacenter, address) in rows {
        // A row without an id is of a node that is about to join, or has left: the driver knows none of them either.
        let Some(host_id) = host_id else { continue };
        let address = address.map_or_else(|| host_id.to_string(), |address| address.to_string());
        nodes.entry(host_id).or_insert(Node { datacenter, address, is_connected: false });
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(host_id: u128, datacenter: Option<&str>, is_connected: bool) -> (Uuid, Node) {
        let (datacenter, address) = (datacenter.map(str::to_owned), format!("127.0.0.{host_id}:9042"));
        (Uuid::from_u128(host_id), Node { datacenter, address, is_connected })
    }

    fn row(host_id: u128) -> (Option<Uuid>, Option<String>, Option<std::net::IpAddr>) {
        let address = format!("127.0.0.{host_id}").parse().unwrap();
        (Some(Uuid::from_u128(host_id)), Some("dc1".to_owned()), Some(address))
    }

    /// The driver knows one node of three, as where a node answers for itself and not for the others in time.
    #[test]
    fn nodes_that_only_another_node_lists_count_and_are_away() {
        let nodes = merged([known(1, Some("dc1"), true)].into_iter(), [row(2), row(3)]);
        assert_eq!(counted(nodes.values()).unwrap(), BTreeMap::from([("dc1".to_owned(), 3)]));
        assert_eq!(first_away(nodes.values(), "dc1").as_deref(), Some("127.0.0.2"));
        assert_eq!(first_away(nodes.values(), "dc2"), None);
    }

    #[test]
    fn a_node_that_both_list_is_one_and_here_where_it_is_connected_to() {
        let all = [1, 2, 3].map(|host_id| known(host_id, Some("dc1"), true));
        let nodes = merged(all.into_iter(), [row(2), row(3), (None, Some("dc1".to_owned()), None)]);
        assert_eq!(counted(nodes.values()).unwrap(), BTreeMap::from([("dc1".to_owned(), 3)]));
        assert_eq!(first_away(nodes.values(), "dc1"), None);
    }

    /// What the driver goes on with where no node has described itself.
    #[test]
    fn nodes_of_no_datacenter_are_not_counted_and_may_be_away_from_any() {
        let nodes = merged([known(1, None, false)].into_iter(), []);
        assert!(counted(nodes.values()).unwrap_err().is_retryable());
        assert_eq!(first_away(nodes.values(), "dc1").as_deref(), Some("127.0.0.1:9042"));
    }
}
