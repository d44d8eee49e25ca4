//! From a namespace configuration to a namespace at work: opens what the configuration names, each dataset and cache once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::backend::{cassandra, embedded, memcached, memory};
use crate::clock::Clock;
use crate::configuration::{CacheStorage, Cassandra, Counting, DatasetStorage, NamespaceConfiguration};
use crate::dataset::Dataset;
use crate::namespace::{BestEffortNamespace, DurableNamespace, Namespace, NamespaceStores};
use crate::store::{self, BestEffortStore, EventStore, RollupCache, RollupStore};

/// How long a cached checkpoint lives unless it is offered again.
const CACHE_EXPIRY: Duration = Duration::from_secs(600);
/// Memory for cached checkpoints, and for best-effort counters, where this process keeps them itself.
const MEMORY_BYTES: u64 = 64 * 1024 * 1024;

/// Why a namespace cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This process cannot use such a storage.
    #[error("namespace {namespace}: {reason}")]
    NotHere {
        /// The namespace.
        namespace: String,
        /// What is missing.
        reason: &'static str,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What makes a dataset the same one: its storage, and its region.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    storage: DatasetStorage,
    region: String,
}

impl Place {
    fn new(storage: &DatasetStorage, region: &str) -> Self {
        let mut storage = storage.clone();
        if let DatasetStorage::Cassandra(cassandra) = &mut storage {
            // It is for messages.
            cassandra.cluster.clear();
        }
        Self { storage, region: region.to_owned() }
    }

    fn reach(&self) -> Option<cassandra::Reach> {
        match &self.storage {
            DatasetStorage::Cassandra(cassandra) => Some(cassandra.into()),
            DatasetStorage::Embedded { .. } | DatasetStorage::Memory { .. } => None,
        }
    }
}

/// Whether the data lives in this process: it would be lost or locked if it were let go of, and nobody else rolls it up.
fn is_in_process(storage: &DatasetStorage) -> bool {
    match storage {
        DatasetStorage::Cassandra(_) => false,
        DatasetStorage::Embedded { .. } | DatasetStorage::Memory { .. } => true,
    }
}

/// Opens namespaces, and keeps what they share.
pub struct Opener {
    clock: Arc<dyn Clock>,
    embedded: Option<embedded::Database>,
    cache: Arc<dyn RollupCache>,
    best_effort: Arc<dyn BestEffortStore>,
    datasets: tokio::sync::Mutex<HashMap<Place, Arc<Dataset>>>,
    /// What keeps them fresh.
    fresh: Mutex<HashMap<Place, AbortHandle>>,
    /// By their replicas.
    memcached: Mutex<HashMap<Vec<Vec<String>>, MemcachedCluster>>,
    cassandra: Mutex<HashMap<cassandra::Reach, cassandra::Cluster>>,
    /// Tells this process's own stores from those of others.
    process: uuid::Uuid,
}

/// A memcached cluster, the best-effort counters on it, and the checkpoints of each dataset.
struct MemcachedCluster {
    cluster: memcached::Cluster,
    best_effort: memcached::BestEffort,
    caches: HashMap<String, memcached::Cache>,
}

impl Opener {
    /// An opener; `embedded` is this process's durable store, if it has one.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, embedded: Option<embedded::Database>) -> Self {
        Self {
            embedded,
            cache: Arc::new(memory::Cache::new(MEMORY_BYTES, CACHE_EXPIRY, clock.clone())),
            best_effort: Arc::new(memory::BestEffort::new(MEMORY_BYTES, clock.clone())),
            datasets: tokio::sync::Mutex::default(),
            fresh: Mutex::default(),
            memcached: Mutex::default(),
            cassandra: Mutex::default(),
            process: uuid::Uuid::now_v7(),
            clock,
        }
    }

    /// Opens a namespace. Its dataset is opened once, whatever the number of namespaces in it, and from then on keeps its
    /// slices and its clock offset fresh. A store elsewhere need not be reachable: it is connected to when it is, and until
    /// then [`Dataset::health`] says why not.
    ///
    /// # Errors
    /// When the configuration names what this process cannot use, or the store in this process fails.
    pub async fn open(&self, configuration: Arc<NamespaceConfiguration>) -> Result<Namespace, Error> {
        let counting = match &configuration.counting {
            Counting::BestEffort(best_effort) => {
                let store = match &best_effort.storage {
                    CacheStorage::Memory => self.best_effort.clone(),
                    CacheStorage::Memcached { replicas, .. } => {
                        self.memcached(replicas, |opened| Arc::new(opened.best_effort.clone()))
                    }
                };
                NamespaceStores::BestEffort(BestEffortNamespace { store, ttl: best_effort.ttl })
            }
            Counting::Durable(durable) => {
                let cache = match &durable.cache {
                    Some(CacheStorage::Memory) if is_in_process(&durable.events) => Some(self.cache.clone()),
                    // What rollup servers elsewhere make would not come into this process's memory: old counts would stay in it.
                    Some(CacheStorage::Memory) => None,
                    Some(CacheStorage::Memcached { replicas, .. }) => {
                        let scope = self.cache_scope(&durable.events, &configuration.region);
                        Some(self.memcached(replicas, |opened| -> Arc<dyn RollupCache> {
                            let open = || memcached::Cache::new(&opened.cluster, &scope, CACHE_EXPIRY);
                            Arc::new(opened.caches.entry(scope.clone()).or_insert_with(open).clone())
                        }))
                    }
                    None => None,
                };
                let dataset = self.dataset(&configuration, &durable.events).await?;
                NamespaceStores::Durable(Box::new(DurableNamespace { settings: (**durable).clone(), dataset, cache }))
            }
        };
        Ok(Namespace { configuration, counting })
    }

    /// The datasets opened so far.
    pub async fn datasets(&self) -> Vec<Arc<Dataset>> {
        self.datasets.lock().await.values().cloned().collect()
    }

    /// Lets go of the connections that none of these namespaces uses. What is under way on them still ends.
    pub async fn release_unused(&self, used: &[Namespace]) {
        let is_used = |dataset: &Arc<Dataset>| {
            used.iter().filter_map(Namespace::durable).any(|durable| Arc::ptr_eq(&durable.dataset, dataset))
        };
        let mut datasets = self.datasets.lock().await;
        datasets.retain(|place, dataset| is_in_process(&place.storage) || is_used(dataset));
        self.fresh().retain(|place, task| {
            let is_kept = datasets.contains_key(place);
            if !is_kept {
                task.abort();
            }
            is_kept
        });
        let reaches: HashSet<_> = datasets.keys().filter_map(Place::reach).collect();
        self.opened_cassandra().retain(|reach, _| reaches.contains(reach));
        let replicas: HashSet<_> =
            used.iter().filter_map(|namespace| memcached_replicas(&namespace.configuration)).collect();
        self.opened_memcached().retain(|place, _| replicas.contains(&place.as_slice()));
    }

    /// What is known of the memcached servers that a namespace uses; none where it uses none.
    #[must_use]
    pub fn memcached_servers(&self, namespace: &Namespace) -> Vec<memcached::ServerStatus> {
        let opened = self.opened_memcached();
        let cluster = memcached_replicas(&namespace.configuration).and_then(|replicas| opened.get(replicas));
        cluster.map_or_else(Vec::new, |opened| opened.cluster.status())
    }

    /// The cluster that a dataset is in, which is connected to once.
    fn cassandra(&self, configured: &Cassandra) -> cassandra::Cluster {
        let reach = cassandra::Reach::from(configured);
        let mut opened = self.opened_cassandra();
        opened.entry(reach.clone()).or_insert_with(|| cassandra::Cluster::new(reach)).clone()
    }

    fn opened_cassandra(&self) -> MutexGuard<'_, HashMap<cassandra::Reach, cassandra::Cluster>> {
        // Nothing panics while it is held half changed.
        self.cassandra.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened_memcached(&self) -> MutexGuard<'_, HashMap<Vec<Vec<String>>, MemcachedCluster>> {
        // Nothing panics while it is held half changed.
        self.memcached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self) -> MutexGuard<'_, HashMap<Place, AbortHandle>> {
        // Nothing panics while it is held half changed.
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `use_it` makes of the memcached cluster of these replicas, which is opened once.
    fn memcached<T>(&self, replicas: &[Vec<String>], use_it: impl FnOnce(&mut MemcachedCluster) -> T) -> T {
        let mut opened = self.opened_memcached();
        let opened = opened.entry(replicas.to_vec()).or_insert_with(|| {
            let cluster = memcached::Cluster::new(replicas, self.clock.clone());
            let best_effort = memcached::BestEffort::new(&cluster);
            MemcachedCluster { cluster, best_effort, caches: HashMap::new() }
        });
        use_it(opened)
    }

    /// Names the store that checkpoints come from, on a memcached that others may use as well.
    fn cache_scope(&self, storage: &DatasetStorage, region: &str) -> String {
        let (dataset, owner) = match storage {
            DatasetStorage::Cassandra(Cassandra { cluster, dataset, .. }) => (dataset, cluster.clone()),
            // Nobody else has them, and another process that has a dataset of this name has another one.
            DatasetStorage::Embedded { dataset } | DatasetStorage::Memory { dataset } => {
                (dataset, self.process.to_string())
            }
        };
        // Of any text, and of no control characters: hashed, and held apart by one.
        let place = xxhash_rust::xxh3::xxh3_128(format!("{owner}\0{region}").as_bytes());
        format!("{dataset}-{place:032x}")
    }

    /// Stops keeping datasets fresh. What is open stays open; the stores may be closed now.
    pub fn stop(&self) {
        for (_, task) in self.fresh().drain() {
            task.abort();
        }
    }

    async fn dataset(
        &self,
        configuration: &NamespaceConfiguration,
        storage: &DatasetStorage,
    ) -> Result<Arc<Dataset>, Error> {
        // Held while opening, so that a dataset is never opened twice.
        let mut datasets = self.datasets.lock().await;
        let place = Place::new(storage, &configuration.region);
        if let Some(dataset) = datasets.get(&place) {
            return Ok(dataset.clone());
        }
        let (name, events, rollups): (_, Arc<dyn EventStore>, Arc<dyn RollupStore>) = match storage {
            DatasetStorage::Embedded { dataset } => {
                let Some(database) = &self.embedded else {
                    return Err(not_here(configuration, "this process has no embedded store"));
                };
                let handle = Arc::new(database.dataset(dataset, &configuration.region).await?);
                (dataset, handle.clone(), handle)
            }
            DatasetStorage::Memory { dataset } => {
                let handle = Arc::new(memory::Dataset::new());
                (dataset, handle.clone(), handle)
            }
            DatasetStorage::Cassandra(cassandra) => {
                let handle = Arc::new(self.cassandra(cassandra).dataset(&cassandra.dataset, &configuration.region));
                (&cassandra.dataset, handle.clone(), handle)
            }
        };
        let dataset = Dataset::new(name.clone(), events, rollups, self.clock.clone());
        datasets.insert(place.clone(), dataset.clone());
        let keeping = dataset.clone();
        let fresh = tokio::spawn(async move { keeping.keep_fresh().await });
        self.fresh().insert(place, fresh.abort_handle());
        Ok(dataset)
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.stop();
    }
}

fn memcached_replicas(configuration: &NamespaceConfiguration) -> Option<&[Vec<String>]> {
    let cache = match &configuration.counting {
        Counting::BestEffort(best_effort) => Some(&best_effort.storage),
        Counting::Durable(durable) => durable.cache.as_ref(),
    };
    match cache {
        Some(CacheStorage::Memcached { replicas, .. }) => Some(replicas),
        Some(CacheStorage::Memory) | None => None,
    }
}

fn not_here(configuration: &NamespaceConfiguration, reason: &'static str) -> Error {
    Error::NotHere { namespace: configuration.namespace.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    /// A namespace of dataset `d`; nothing listens where its Cassandra would be.
    fn configuration(name: &str, storage: &str) -> Arc<NamespaceConfiguration> {
        let document = format!(
            r#"{{"namespace": "{name}", "region": "r", "persistence_configuration": [
                {{"id": "CACHE", "scope": "dal=counter", "physical_storage": {{"type": "MEMORY"}}}},
                {{"id": "COUNTER_ROLLUP", "scope": "dal=counter", "physical_storage": {storage},
                  "counter_cardinality": "HIGH", "config": {{"counter_type": "EVENTUAL"}}}},
                {{"id": "EVENT_STORAGE", "scope": "dal=ts", "physical_storage": {storage}, "config": {{}}}}]}}"#
        );
        Arc::new(NamespaceConfiguration::from_json(&document).unwrap())
    }

    fn cassandra(cluster: &str, datacenter: &str) -> String {
        format!(
            r#"{{"type": "CASSANDRA", "cluster": "{cluster}", "dataset": "d", "contact_points": ["127.0.0.1:1"],
                "local_datacenter": "{datacenter}"}}"#
        )
    }

    fn opener() -> Opener {
        Opener::new(Arc::new(SystemClock::new()), None)
    }

    fn dataset(namespace: &Namespace) -> &Arc<Dataset> {
        &namespace.durable().unwrap().dataset
    }

    #[tokio::test]
    async fn a_dataset_elsewhere_is_opened_once_though_nobody_is_there_and_released_with_its_last_namespace() {
        let opener = opener();
        let a = opener.open(configuration("a", &cassandra("one", "dc1"))).await.unwrap();
        let b = opener.open(configuration("b", &cassandra("another-name", "dc1"))).await.unwrap();
        let c = opener.open(configuration("c", &cassandra("one", "dc2"))).await.unwrap();
        assert!(Arc::ptr_eq(dataset(&a), dataset(&b)) && !Arc::ptr_eq(dataset(&a), dataset(&c)));
        assert!(dataset(&a).health().refusal().is_some());
        opener.release_unused(&[b.clone(), c.clone()]).await;
        assert_eq!((opener.datasets().await.len(), opener.opened_cassandra().len()), (2, 2));
        opener.release_unused(std::slice::from_ref(&c)).await;
        assert_eq!((opener.datasets().await.len(), opener.opened_cassandra().len()), (1, 1));
        let released = Arc::downgrade(dataset(&a));
        drop((a, b));
        // The task that kept it fresh ends when it is next looked at.
        while released.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_lives_in_this_process_is_never_released() {
        let opener = opener();
        let memory = r#"{"type": "MEMORY", "dataset": "d"}"#;
        let first = opener.open(configuration("a", memory)).await.unwrap();
        opener.release_unused(&[]).await;
        let again = opener.open(configuration("a", memory)).await.unwrap();
        assert!(Arc::ptr_eq(dataset(&first), dataset(&again)));
    }

    #[tokio::test]
    async fn checkpoints_are_cached_in_memory_only_where_this_process_makes_them() {
        let opener = opener();
        let here = opener.open(configuration("a", r#"{"type": "MEMORY", "dataset": "d"}"#)).await.unwrap();
        let elsewhere = opener.open(configuration("b", &cassandra("one", "dc1"))).await.unwrap();
        assert!(here.durable().unwrap().cache.is_some());
        assert!(elsewhere.durable().unwrap().cache.is_none());
    }
}
