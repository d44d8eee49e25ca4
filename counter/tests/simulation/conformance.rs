//! The simulated stores, without faults, through the conformance suites that every backend passes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::store::RollupCache;
use tallyman_counter::store::conformance::{Dataset, DatasetFactory, RollupCacheFactory};

use crate::cache::{self, CacheServers};
use crate::cassandra::Cluster;
use crate::cassandra::faults::Faults;
use crate::cassandra::store::Handle;
use crate::clock::SimClock;
use crate::history::History;
use crate::process::Process;
use crate::random::Random;
use crate::world::World;

/// A world of its own, and one process in it.
fn process() -> (Arc<World>, Arc<History>, Arc<Process>) {
    let world = World::new(false);
    tokio::spawn(world.clone().deliver());
    let history = History::new(&world, Vec::new());
    let process = Process::new(&world, 0, SimClock::new(&world, 0, 0));
    (world, history, process)
}

struct Simulated;

#[async_trait]
impl DatasetFactory for Simulated {
    async fn fresh(&self) -> Dataset {
        let (world, history, process) = process();
        let cluster = Cluster::new(&world, &history, Faults::none(), &mut Random::stream(1, "cluster", 0));
        Dataset::of(Handle::new(&cluster, &process, Random::stream(1, "store", 0)))
    }

    async fn reopen(&self, _: Dataset) -> Dataset {
        unreachable!("declared not to be durable")
    }
}

#[derive(Default)]
struct SimulatedCache(Mutex<Option<Arc<CacheServers>>>);

#[async_trait]
impl RollupCacheFactory for SimulatedCache {
    const EXPIRY: Duration = cache::EXPIRY;

    async fn fresh(&self) -> Arc<dyn RollupCache> {
        let (world, history, process) = process();
        let servers = CacheServers::new(&world, &history, cache::Faults::NONE, true);
        *self.0.lock().unwrap() = Some(servers.clone());
        Arc::new(cache::Handle::new(&servers, &process, Random::stream(1, "cache", 0)))
    }

    async fn pass(&self, span: Duration) {
        let servers = self.0.lock().unwrap().clone();
        servers.expect("a cache was made").age(span);
    }
}

mod dataset {
    use super::Simulated;
    tallyman_counter::dataset_conformance! { Simulated; token_reuse: no; behind_boundary: no; durable: no }
}

mod rollup_cache {
    use super::SimulatedCache;
    tallyman_counter::rollup_cache_conformance! { SimulatedCache::default() }
}
