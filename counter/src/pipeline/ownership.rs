//! Which counters of a namespace a rollup server owns: those that rendezvous hashing over the namespace's servers gives it.

use crate::forward::{owner, server_name};
use crate::model::CounterKey;
use crate::store::Share;

/// A server among the servers of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ownership {
    server: String,
    /// All servers' names, in order, each once.
    servers: Vec<String>,
}

impl Ownership {
    /// The server of this name among those at `endpoints`; alone, where there are none.
    pub fn new(server: &str, endpoints: &[String]) -> Self {
        let mut servers: Vec<_> = endpoints.iter().map(|endpoint| server_name(endpoint).to_owned()).collect();
        if servers.is_empty() {
            servers.push(server.to_owned());
        }
        servers.sort();
        servers.dedup();
        Self { server: server.to_owned(), servers }
    }

    /// Whether the counter is this server's. A server that is not among the namespace's (yet, or any more) owns none.
    pub fn owns(&self, counter: &CounterKey) -> bool {
        match self.servers.as_slice() {
            [only] => *only == self.server,
            servers => {
                owner(servers.iter().map(String::as_str), counter).is_some_and(|index| servers[index] == self.server)
            }
        }
    }

    /// What this server sweeps.
    pub fn share(&self) -> Share {
        match self.servers.iter().position(|server| *server == self.server) {
            Some(index) => Share {
                index: u32::try_from(index).unwrap_or(0),
                count: u32::try_from(self.servers.len()).unwrap_or(u32::MAX),
            },
            // Not among the servers: sweeping all is more work and never wrong.
            None => Share::ALL,
        }
    }

    /// The share of another server that this one looks through in its `turn`th sweep, should that one not be there: each of
    /// the others has its turn, and in the same turn each server takes another one.
    pub fn share_of_another(&self, turn: u64) -> Option<Share> {
        let own = self.servers.iter().position(|server| *server == self.server)?;
        let others = u64::try_from(self.servers.len()).ok()?.checked_sub(1).filter(|others| *others > 0)?;
        // Less than the number of others, which came from a usize.
        let after = usize::try_from(turn % others).ok()? + 1;
        let index = (own + after) % self.servers.len();
        Some(Share { index: u32::try_from(index).ok()?, ..self.share() })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::{CounterName, NamespaceName};

    fn counter(i: usize) -> CounterKey {
        CounterKey { namespace: NamespaceName::new("n").unwrap(), name: CounterName::new(&i.to_string()).unwrap() }
    }

    fn endpoints(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("{name}.rollup:7787")).collect()
    }

    #[test]
    fn every_counter_has_one_owner_and_every_row_one_sweeper_however_the_servers_are_listed() {
        let orders = [["r-0", "r-1", "r-2"], ["r-2", "r-0", "r-1"], ["r-1", "r-2", "r-0"]];
        let servers: Vec<_> =
            orders.iter().enumerate().map(|(i, order)| Ownership::new(&format!("r-{i}"), &endpoints(order))).collect();
        for i in 0..300 {
            assert_eq!(servers.iter().filter(|server| server.owns(&counter(i))).count(), 1);
        }
        let shares: Vec<_> = servers.iter().map(Ownership::share).collect();
        assert_eq!(shares, [0, 1, 2].map(|index| Share { index, count: 3 }));
    }

    #[test]
    fn in_turn_a_server_looks_through_the_share_of_every_other_one_and_no_two_through_the_same() {
        let servers: Vec<_> =
            (0..4).map(|i| Ownership::new(&format!("r-{i}"), &endpoints(&["r-0", "r-1", "r-2", "r-3"]))).collect();
        let looked = |server: &Ownership, turn| server.share_of_another(turn).unwrap().index;
        for first_turn in [0, 7, u64::MAX - 2] {
            let of_one: BTreeSet<_> = (0..3).map(|turn| looked(&servers[1], first_turn + turn)).collect();
            assert_eq!(of_one, BTreeSet::from([0, 2, 3]));
            let of_all: BTreeSet<_> = servers.iter().map(|server| looked(server, first_turn)).collect();
            assert_eq!(of_all.len(), 4);
        }
        assert_eq!(Ownership::new("r-0", &endpoints(&["r-0"])).share_of_another(1), None);
        assert_eq!(Ownership::new("stranger", &endpoints(&["r-0", "r-1"])).share_of_another(1), None, "it sweeps all");
    }

    #[test]
    fn without_endpoints_a_server_is_alone_and_a_stranger_owns_nothing_and_sweeps_all() {
        let alone = Ownership::new("here", &[]);
        assert!(alone.owns(&counter(1)) && alone.share() == Share::ALL);
        for names in [&["r-0"][..], &["r-0", "r-1"]] {
            let stranger = Ownership::new("elsewhere", &endpoints(names));
            assert!((0..100).all(|i| !stranger.owns(&counter(i))) && stranger.share() == Share::ALL);
        }
    }
}
