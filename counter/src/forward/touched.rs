//! The set of touched counters of a process, and where it is flushed to.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use foldhash::fast::FixedState;
use futures::future::join_all;
use tokio::sync::Notify;

use super::owner;
use crate::model::{CounterKey, CounterName, NamespaceName};
use crate::store;

/// How long touched counters are gathered before they are sent.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// How long one server may take to receive a set.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// What one entry costs beside its name: two shared strings, and the table while it grows.
const ENTRY_BYTES: usize = 160;

/// A rollup server as seen from a process that touches counters.
#[async_trait]
pub trait RollupEndpoint: Send + Sync + 'static {
    /// The server's name, by which counters are assigned to it.
    fn name(&self) -> &str;

    /// Whether it takes rollup events now.
    fn is_ready(&self) -> bool;

    /// Hands over touched counters of a namespace.
    ///
    /// # Errors
    /// When they may not have arrived. Nobody tries again.
    async fn send(&self, namespace: &NamespaceName, counters: Vec<CounterName>) -> store::Result<()>;
}

/// The rollup servers of each namespace.
pub type Routes = BTreeMap<NamespaceName, Vec<Arc<dyn RollupEndpoint>>>;

/// Counters touched and not yet sent.
pub struct TouchedCounters {
    pending: Mutex<Pending>,
    some: Notify,
    routes: ArcSwap<Routes>,
    bytes_max: usize,
    dropped: AtomicU64,
}

/// What one server is sent.
type Set<'a> = (&'a Arc<dyn RollupEndpoint>, Vec<CounterName>);

#[derive(Default)]
struct Pending {
    counters: HashSet<CounterKey, FixedState>,
    bytes: usize,
}

impl TouchedCounters {
    /// An empty set that takes about `bytes_max` of memory at most.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            pending: Mutex::default(),
            some: Notify::new(),
            routes: ArcSwap::default(),
            bytes_max,
            dropped: AtomicU64::new(0),
        })
    }

    /// Where touched counters go from now on.
    pub fn route(&self, routes: Routes) {
        self.routes.store(Arc::new(routes));
    }

    /// A counter was written or read. Never waits; a full set drops it.
    pub fn touch(&self, counter: &CounterKey) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.counters.contains(counter) {
            return;
        }
        let bytes = counter.name.as_str().len() + ENTRY_BYTES;
        if pending.bytes + bytes > self.bytes_max {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        pending.bytes += bytes;
        pending.counters.insert(counter.clone());
        if pending.counters.len() == 1 {
            self.some.notify_one();
        }
    }

    /// Rollup events dropped so far: the set was full, no server was ready, or one did not take them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Sends what is gathered, every 100 ms while there is something, for as long as it is polled.
    pub async fn run(&self) {
        loop {
            // Looked at first: the notice may have gone to a loop that was stopped.
            while self.is_empty() {
                self.some.notified().await;
            }
            tokio::time::sleep(FLUSH_EVERY).await;
            self.flush().await;
        }
    }

    fn is_empty(&self) -> bool {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).counters.is_empty()
    }

    /// Sends what is gathered now.
    pub async fn flush(&self) {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        let routes = self.routes.load_full();
        let mut sets: BTreeMap<(&NamespaceName, &str), Set<'_>> = BTreeMap::new();
        for counter in &pending.counters {
            let Some((namespace, servers)) = routes.get_key_value(&counter.namespace) else {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let ready: Vec<_> = servers.iter().filter(|server| server.is_ready()).collect();
            match owner(ready.iter().map(|server| server.name()), counter).and_then(|index| ready.get(index)) {
                Some(server) => {
                    let set = sets.entry((namespace, server.name())).or_insert_with(|| (server, Vec::new()));
                    set.1.push(counter.name.clone());
                }
                None => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
            }
        }
        join_all(sets.into_iter().map(|((namespace, _), (server, counters))| async move {
            let count = counters.len() as u64;
            let sent = tokio::time::timeout(SEND_TIMEOUT, server.send(namespace, counters)).await;
            if !matches!(sent, Ok(Ok(()))) {
                self.dropped.fetch_add(count, Ordering::Relaxed);
            }
        }))
        .await;
    }
}
