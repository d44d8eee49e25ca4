//! From a namespace configuration to a namespace at work: opens what the configuration names, each dataset and cache once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
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
    #[error("{namespace}: {reason}")]
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
    embedded: Option<Arc<embedded::Database>>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    datasets: HashMap<DatasetStorage, Arc<Dataset>>,
    fresh: Vec<AbortHandle>,
    memory: Option<InMemory>,
    memcached: HashMap<Vec<Vec<String>>, Arc<memcached::BestEffort>>,
}

#[derive(Clone)]
struct InMemory {
    cache: Arc<dyn RollupCache>,
    best_effort: Arc<dyn BestEffortStore>,
}

impl Opener {
    /// An opener; `embedded` is this process's durable store, if it has one.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, embedded: Option<Arc<embedded::Database>>) -> Self {
        Self { clock, embedded, open: Mutex::default() }
    }

    /// Opens a namespace. Its dataset is opened once, whatever the number of namespaces in it, and from then on keeps its
    /// slices and its clock offset fresh.
    ///
    /// # Errors
    /// When the configuration names what this process cannot use.
    pub fn open(&self, configuration: NamespaceConfiguration) -> Result<Namespace, Error> {
        let counting = match &configuration.counting {
            Counting::BestEffort(best_effort) => {
                let store: Arc<dyn BestEffortStore> = match &best_effort.storage {
                    CacheStorage::Memory => self.in_memory().best_effort,
                    CacheStorage::Memcached { replicas, .. } => self.memcached(&configuration, replicas)?,
                };
                NamespaceStores::BestEffort(BestEffortNamespace { store, ttl: best_effort.ttl })
            }
            Counting::Durable(durable) => {
                let cache = match &durable.cache {
                    Some(CacheStorage::Memory) => Some(self.in_memory().cache),
                    Some(CacheStorage::Memcached { .. }) => {
                        return Err(not_here(&configuration, "checkpoints are not cached in memcached yet"));
                    }
                    None => None,
                };
                let dataset = self.dataset(&configuration, &durable.events)?;
                NamespaceStores::Durable(Box::new(DurableNamespace { settings: (**durable).clone(), dataset, cache }))
            }
        };
        Ok(Namespace { configuration: Arc::new(configuration), counting })
    }

    /// The datasets opened so far.
    #[must_use]
    pub fn datasets(&self) -> Vec<Arc<Dataset>> {
        self.lock().datasets.values().cloned().collect()
    }

    fn dataset(&self, configuration: &NamespaceConfiguration, storage: &DatasetStorage) -> Result<Arc<Dataset>, Error> {
        if let Some(dataset) = self.lock().datasets.get(storage) {
            return Ok(dataset.clone());
        }
        let (name, events, rollups): (_, Arc<dyn EventStore>, Arc<dyn RollupStore>) = match storage {
            DatasetStorage::Embedded { dataset } => {
                let Some(database) = &self.embedded else {
                    return Err(not_here(configuration, "this process has no embedded store"));
                };
                let handle = Arc::new(database.dataset(dataset, &configuration.region)?);
                (dataset, handle.clone(), handle)
            }
            DatasetStorage::Memory { dataset } => {
                let handle = Arc::new(memory::Dataset::new());
                (dataset, handle.clone(), handle)
            }
            DatasetStorage::Cassandra(_) => return Err(not_here(configuration, "Cassandra is not supported yet")),
        };
        let dataset = Dataset::new(name.clone(), events, rollups, self.clock.clone());
        let mut open = self.lock();
        let keeping = dataset.clone();
        open.fresh.push(tokio::spawn(async move { keeping.keep_fresh().await }).abort_handle());
        Ok(open.datasets.entry(storage.clone()).or_insert(dataset).clone())
    }

    fn memcached(
        &self,
        configuration: &NamespaceConfiguration,
        replicas: &[Vec<String>],
    ) -> Result<Arc<dyn BestEffortStore>, Error> {
        let [shards] = replicas else {
            return Err(not_here(configuration, "several memcached replicas are not supported yet"));
        };
        let [address] = shards.as_slice() else {
            return Err(not_here(configuration, "several memcached shards are not supported yet"));
        };
        let mut open = self.lock();
        if let Some(store) = open.memcached.get(replicas) {
            return Ok(store.clone());
        }
        let store = Arc::new(memcached::BestEffort::new(address));
        open.memcached.insert(replicas.to_vec(), store.clone());
        Ok(store)
    }

    fn in_memory(&self) -> InMemory {
        let new = || InMemory {
            cache: Arc::new(memory::Cache::new(MEMORY_BYTES, CACHE_EXPIRY, self.clock.clone())),
            best_effort: Arc::new(memory::BestEffort::new(MEMORY_BYTES, self.clock.clone())),
        };
        self.lock().memory.get_or_insert_with(new).clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        // Nothing panics while it is held half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        for task in &self.lock().fresh {
            task.abort();
        }
    }
}

fn not_here(configuration: &NamespaceConfiguration, reason: &'static str) -> Error {
    Error::NotHere { namespace: configuration.namespace.to_string(), reason }
}
