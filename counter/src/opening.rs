//! From a namespace configuration to a namespace at work: opens what the configuration names, each dataset and cache once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::backend::{embedded, memcached, memory};
use crate::clock::Clock;
use crate::configuration::{CacheStorage, Counting, DatasetStorage, NamespaceConfiguration};
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
            // The name is for messages, and contact points are asked in any order.
            cassandra.cluster.clear();
            cassandra.contact_points.sort_unstable();
        }
        Self { storage, region: region.to_owned() }
    }

    /// Whether the data lives in this process, and would be lost or locked if it were let go of.
    fn is_in_process(&self) -> bool {
        match &self.storage {
            DatasetStorage::Cassandra(_) => false,
            DatasetStorage::Embedded { .. } | DatasetStorage::Memory { .. } => true,
        }
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
    memcached: Mutex<HashMap<String, Arc<dyn BestEffortStore>>>,
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
                    CacheStorage::Memcached { replicas, .. } => self.memcached(&configuration, replicas)?,
                };
                NamespaceStores::BestEffort(BestEffortNamespace { store, ttl: best_effort.ttl })
            }
            Counting::Durable(durable) => {
                let cache = match &durable.cache {
                    Some(CacheStorage::Memory) => Some(self.cache.clone()),
                    Some(CacheStorage::Memcached { .. }) => {
                        return Err(not_here(&configuration, "checkpoints are not cached in memcached yet"));
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
        datasets.retain(|place, dataset| place.is_in_process() || is_used(dataset));
        self.fresh().retain(|place, task| {
            let is_kept = datasets.contains_key(place);
            if !is_kept {
                task.abort();
            }
            is_kept
        });
    }

    fn fresh(&self) -> MutexGuard<'_, HashMap<Place, AbortHandle>> {
        // Nothing panics while it is held half changed.
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memcached(
        &self,
        configuration: &NamespaceConfiguration,
        replicas: &[Vec<String>],
    ) -> Result<Arc<dyn BestEffortStore>, Error> {
        let [shards] = replicas else {
            return Err(not_here(configuration, "more than one replica of memcached is not supported yet"));
        };
        let [address] = shards.as_slice() else {
            return Err(not_here(configuration, "more than one shard of memcached is not supported yet"));
        };
        let mut opened = self.memcached.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || Arc::new(memcached::BestEffort::new(address, self.clock.clone())) as Arc<dyn BestEffortStore>;
        Ok(opened.entry(address.clone()).or_insert_with(open).clone())
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
            DatasetStorage::Cassandra(_) => return Err(not_here(configuration, "Cassandra is not supported yet")),
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

fn not_here(configuration: &NamespaceConfiguration, reason: &'static str) -> Error {
    Error::NotHere { namespace: configuration.namespace.to_string(), reason }
}
