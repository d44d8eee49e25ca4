//! A cluster of memcached servers: replicas, each with all keys, and in each replica shards, each with its share of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::server::Server;
use crate::clock::Clock;

/// Another replica is nearer than the first only when it is so in a way that noise is not: by this factor, and by this much.
const NEARER_FACTOR: u32 = 2;
const NEARER_BY: Duration = Duration::from_micros(250);

/// A server's place in a cluster, whatever its replica.
pub(super) type Place = usize;

/// A memcached cluster, used for best-effort counters ([`BestEffort`](super::BestEffort)) and for checkpoints
/// ([`Cache`](super::Cache)). Clones share its connections, which end with the last of them.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    servers: Vec<Server>,
    /// The places of each replica's shards.
    replicas: Vec<Vec<Place>>,
    clock: Arc<dyn Clock>,
}

/// What happened to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its address (host:port).
    pub address: String,
    /// Whether its last exchange succeeded.
    pub answers: bool,
    /// Exchanges that failed since this process began to use it.
    pub failures: u64,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("servers", &self.status()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster of these replicas, each the list of its shards (host:port). The servers need not be there yet. Spawns its
    /// tasks on the current runtime.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn new(replicas: &[Vec<String>], clock: Arc<dyn Clock>) -> Self {
        let mut servers = Vec::new();
        let replicas = replicas.iter().filter(|shards| !shards.is_empty()).map(|shards| {
            let place = |address: &String| {
                servers.push(Server::new(address, &clock));
                servers.len() - 1
            };
            shards.iter().map(place).collect()
        });
        let replicas = replicas.collect();
        Self { shared: Arc::new(Shared { servers, replicas, clock }) }
    }

    /// What is known of each server.
    #[must_use]
    pub fn status(&self) -> Vec<ServerStatus> {
        let status = |server: &Server| ServerStatus {
            address: server.address().to_owned(),
            answers: !server.health().is_down(),
            failures: server.health().failures(),
        };
        self.shared.servers.iter().map(status).collect()
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    pub(super) fn server(&self, place: Place) -> &Server {
        &self.shared.servers[place]
    }

    pub(super) fn servers(&self) -> &[Server] {
        &self.shared.servers
    }

    /// The servers that have `key`, one of each replica, in the order of the configuration.
    pub(super) fn places(&self, key: &str) -> Vec<Place> {
        let shard = |shards: &Vec<Place>| match shards.as_slice() {
            [] => None,
            [only] => Some(*only),
            several => several.iter().copied().max_by_key(|&place| self.shared.servers[place].weight(key)),
        };
        self.shared.replicas.iter().filter_map(shard).collect()
    }

    /// Sorts places by where to read first: those that answer, then those with the least `doubt`, then the nearest, and of
    /// equals the first.
    pub(super) fn nearest_first<D: Ord>(&self, places: &mut [Place], doubt: impl Fn(Place) -> D) {
        let round_trip = |place: Place| self.server(place).health().round_trip();
        let nearest = places.iter().filter_map(|&place| round_trip(place)).min();
        let is_far = |place: Place| match (nearest, round_trip(place)) {
            (Some(nearest), Some(round_trip)) => round_trip > nearest * NEARER_FACTOR + NEARER_BY,
            _ => false,
        };
        places.sort_by_cached_key(|&place| (self.server(place).health().is_down(), doubt(place), is_far(place)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn cluster(replicas: &[&[&str]]) -> Cluster {
        let replicas: Vec<Vec<String>> =
            replicas.iter().map(|shards| shards.iter().map(|&shard| shard.to_owned()).collect()).collect();
        Cluster::new(&replicas, Arc::new(SystemClock::new()))
    }

    fn shard(cluster: &Cluster, key: &str) -> String {
        cluster.server(cluster.places(key)[0]).address().to_owned()
    }

    // Nothing listens on port 9 of loopback; these tests send nothing but probes.
    const A: &str = "127.0.0.1:9";
    const B: &str = "127.0.0.2:9";
    const C: &str = "127.0.0.3:9";

    #[tokio::test]
    async fn a_shard_that_leaves_moves_only_its_own_keys_whatever_the_order() {
        let (three, two) = (cluster(&[&[A, B, C]]), cluster(&[&[C, A]]));
        let mut owned = std::collections::HashMap::new();
        for key in (0..3_000).map(|nth| format!("n:{nth}")) {
            let before = shard(&three, &key);
            assert!(before == B || before == shard(&two, &key), "{key}");
            *owned.entry(before).or_insert(0) += 1;
        }
        assert!(owned.values().all(|count| (850..1150).contains(count)), "{owned:?}");
    }

    #[tokio::test]
    async fn every_replica_has_every_key_on_one_of_its_shards() {
        let cluster = cluster(&[&[A, B], &[C]]);
        for key in (0..100).map(|nth| format!("n:{nth}")) {
            let places = cluster.places(&key);
            assert!(places == [0, 2] || places == [1, 2], "{places:?}");
        }
    }

    #[tokio::test]
    async fn reads_go_to_what_answers_then_to_what_is_not_doubted_then_to_the_nearest_then_to_the_first() {
        let cluster = cluster(&[&[A], &[B], &[C]]);
        let order = |doubted: Option<Place>| {
            let mut places = vec![0, 1, 2];
            cluster.nearest_first(&mut places, |place| Some(place) == doubted);
            places
        };
        assert_eq!(order(None), [0, 1, 2]);
        for (place, micros) in [(0, 2_000), (1, 100), (2, 150)] {
            for _ in 0..3 {
                cluster.server(place).health().measured(Duration::from_micros(micros));
            }
        }
        assert_eq!(order(None), [1, 2, 0]);
        assert_eq!(order(Some(1)), [2, 0, 1]);
        cluster.server(2).health().failed();
        assert_eq!(order(Some(1)), [0, 1, 2]);
    }
}
