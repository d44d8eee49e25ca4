//! Which rollup server owns a counter: rendezvous hashing, so that a change of servers moves only what has to move.

use std::net::{IpAddr, SocketAddr};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::model::CounterKey;

/// The index of the server in `servers` that owns `counter`; `None` when there is none. The order of `servers` does not matter
/// to which name is chosen.
pub fn owner<'a>(servers: impl IntoIterator<Item = &'a str>, counter: &CounterKey) -> Option<usize> {
    let key = format!("{counter}");
    let weights = servers.into_iter().enumerate().map(|(index, server)| {
        let weight = xxh3_64_with_seed(key.as_bytes(), xxh3_64(server.as_bytes()));
        ((weight, server), index)
    });
    weights.max().map(|(_, index)| index)
}

/// The name of the rollup server at `host:port`: the first label of a host's name, which in a StatefulSet is the pod's name;
/// where the host is an IP address, which names no server, the whole. Sidecars and rollup servers must agree on it.
#[must_use]
pub fn server_name(endpoint: &str) -> &str {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    if endpoint.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return endpoint;
    }
    host.split_once('.').map_or(host, |(label, _)| label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CounterName, NamespaceName};

    fn counters() -> impl Iterator<Item = CounterKey> {
        let namespace = NamespaceName::new("n").unwrap();
        (0..2_000)
            .map(move |i| CounterKey { namespace: namespace.clone(), name: CounterName::new(&i.to_string()).unwrap() })
    }

    #[test]
    fn a_server_that_leaves_moves_only_its_own_counters() {
        let (three, two) = (["r-0", "r-1", "r-2"], ["r-0", "r-2"]);
        for counter in counters() {
            let before = three[owner(three, &counter).unwrap()];
            let after = two[owner(two, &counter).unwrap()];
            assert!(before == after || before == "r-1");
        }
    }

    #[test]
    fn counters_are_spread_over_the_servers() {
        let servers = ["r-0", "r-1", "r-2", "r-3"];
        let mut owned = [0; 4];
        for counter in counters() {
            owned[owner(servers, &counter).unwrap()] += 1;
        }
        assert!(owned.iter().all(|n| (400..600).contains(n)), "{owned:?}");
        assert_eq!(owner([], &counters().next().unwrap()), None);
    }

    #[test]
    fn a_server_is_named_by_the_first_label_of_its_host_or_by_its_whole_address() {
        for (endpoint, name) in [
            ("rollup-0.rollup:7787", "rollup-0"),
            ("rollup-0.rollup.ns.svc.cluster.local:7787", "rollup-0"),
            ("localhost:7787", "localhost"),
            ("rollup-1", "rollup-1"),
            ("127.0.0.1:7787", "127.0.0.1:7787"),
            ("[::1]:7787", "[::1]:7787"),
        ] {
            assert_eq!(server_name(endpoint), name);
        }
    }
}
