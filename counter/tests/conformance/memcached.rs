//! Best-effort counters and cached checkpoints in real memcached clusters of several shapes, which the tests start on free
//! ports of loopback.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::backend::memcached::{BestEffort, Cache, Cluster};
use tallyman_counter::clock::SystemClock;
use tallyman_counter::store::conformance::{BestEffortFactory, RollupCacheFactory};
use tallyman_counter::store::{BestEffortStore, RollupCache};

#[path = "../memcached/server.rs"]
#[allow(dead_code)] // What the fault tests do to servers.
mod server;

use server::Server;

struct Shape(Vec<Vec<Server>>);

impl Shape {
    fn new(replicas: usize, shards: usize) -> Self {
        let shards = || std::iter::repeat_with(Server::start).take(shards).collect();
        Self(std::iter::repeat_with(shards).take(replicas).collect())
    }

    fn cluster(&self) -> Cluster {
        let replicas: Vec<Vec<String>> =
            self.0.iter().map(|shards| shards.iter().map(Server::address).collect()).collect();
        Cluster::new(&replicas, Arc::new(SystemClock::new()))
    }
}

#[async_trait]
impl BestEffortFactory for Shape {
    async fn fresh(&self) -> Arc<dyn BestEffortStore> {
        Arc::new(BestEffort::new(&self.cluster()))
    }

    async fn pass(&self, span: Duration) {
        // The servers' clock is the machine's.
        tokio::time::sleep(span).await;
    }
}

#[async_trait]
impl RollupCacheFactory for Shape {
    const EXPIRY: Duration = Duration::from_secs(2);

    async fn fresh(&self) -> Arc<dyn RollupCache> {
        Arc::new(Cache::new(&self.cluster(), "a-dataset", Self::EXPIRY))
    }

    async fn pass(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

macro_rules! shapes {
    ($($name:ident: $replicas:literal x $shards:literal)*) => { $(
        mod $name {
            use super::Shape;

            mod best_effort {
                use super::Shape;
                tallyman_counter::best_effort_conformance! {
                    Shape::new($replicas, $shards); #[ignore = "needs memcached: cargo xtask test"]
                }
            }

            mod cache {
                use super::Shape;
                tallyman_counter::rollup_cache_conformance! {
                    Shape::new($replicas, $shards); #[ignore = "needs memcached: cargo xtask test"]
                }
            }
        }
    )* };
}

shapes! {
    one_server: 1 x 1
    three_shards: 1 x 3
    two_replicas: 2 x 1
    two_replicas_of_two_shards: 2 x 2
}
