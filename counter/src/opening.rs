//! From a namespace configuration to a namespace at work: opens what the configuration names, each dataset and cache once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::backend::{embedded, memcached, memory};
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

/// Opens namespaces, and keeps what they share.
pub struct Opener {
    clock: Arc<dyn Clock>,
    embedded: Option<embedded::Database>,
    cache: Arc<dyn RollupCache>,
    best_effort: Arc<dyn BestEffortStore>,
    /// By storage and region.
    datasets: tokio::sync::Mutex<HashMap<(DatasetStorage, String), Arc<Dataset>>>,
    fresh: Mutex<Vec<AbortHandle>>,
    memcached: Mutex<HashMap<Vec<Vec<String>>, MemcachedCluster>>,
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
            process: uuid::Uuid::now_v7(),
            clock,
        }
    }

    /// Opens a namespace. Its dataset is opened once, whatever the number of namespaces in it, and from then on keeps its
    /// slices and its clock offset fresh.
    ///
    /// # Errors
    /// When the configuration names what this process cannot use, or the store fails.
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
                    Some(CacheStorage::Memory) => Some(self.cache.clone()),
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

    /// What `use_it` makes of the memcached cluster of these replicas, which is opened once.
    fn memcached<T>(&self, replicas: &[Vec<String>], use_it: impl FnOnce(&mut MemcachedCluster) -> T) -> T {
        // Nothing panics while it is held half changed.
        let mut opened = self.memcached.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = opened.entry(replicas.to_vec()).or_insert_with(|| {
            let cluster = memcached::Cluster::new(replicas, self.clock.clone());
            let best_effort = memcached::BestEffort::new(&cluster);
            MemcachedCluster { cluster, best_effort, caches: HashMap::new() }
        });
        use_it(opened)
    }

    /// Names the store that checkpoints come from, on a memcached that others may use as well.
    fn cache_scope(&self, storage: &DatasetStorage, region: &str) -> String {
        match storage {
            DatasetStorage::Cassandra(Cassandra { cluster, dataset, .. }) => format!("{cluster}/{dataset}/{region}"),
            // Nobody else has them, and another process that has a dataset of this name has another one.
            DatasetStorage::Embedded { dataset } | DatasetStorage::Memory { dataset } => {
                format!("{}/{dataset}/{region}", self.process.simple())
            }
        }
    }

    /// Stops keeping datasets fresh. What is open stays open; the stores may be closed now.
    pub fn stop(&self) {
        // Nothing panics while it is held half changed.
        for task in self.fresh.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
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
        let place = (storage.clone(), configuration.region.clone());
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
            DatasetStorage::Cassandra(_) => return Err(not_here(configuration, "Cassandra is not supported yet")),
        };
        let dataset = Dataset::new(name.clone(), events, rollups, self.clock.clone());
        datasets.insert(place, dataset.clone());
        let keeping = dataset.clone();
        let fresh = tokio::spawn(async move { keeping.keep_fresh().await });
        // Nothing panics while it is held half changed.
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).push(fresh.abort_handle());
        Ok(dataset)
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.stop();
    }
}

fn not_here(configuration: &NamespaceConfiguration, reason: &'static str) -> Error {
    Error::NotHere { namespace: configuration.namespace.to_string(), reason }
}
