//! The set of touched counters of a process, and where it is flushed to.

use std::collections::{BTreeMap, HashSet};
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use foldhash::fast::FixedState;
use futures::future::join_all;
use tokio::sync::Notify;

use super::owner;
use crate::model::{CounterKey, CounterName, NamespaceName};

/// How long touched counters are gathered before they are sent.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// How long they are gathered once some found no server that takes them.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long one server may take to receive a set.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// What one entry costs beside its name: two shared strings, and the table while it grows.
const ENTRY_BYTES: usize = 160;

/// A set of touched counters did not arrive, or nobody knows that it did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rollup server may not have got it: {reason}")]
pub struct Undelivered {
    /// Why not.
    pub reason: String,
}

/// A rollup server as seen from a process that touches counters.
#[async_trait]
pub trait RollupEndpoint: Send + Sync + 'static {
    /// The server's name, by which counters are assigned to it.
    fn name(&self) -> &str;

    /// Whether it takes rollup events of this namespace now.
    fn is_ready(&self, namespace: &NamespaceName) -> bool;

    /// Hands over touched counters of a namespace, and answers how many were taken; what was refused is left to the server's
    /// sweeps. May be given up at any time.
    ///
    /// # Errors
    /// When they may not have arrived. Sending them again, here or elsewhere, does no harm.
    async fn send(&self, namespace: &NamespaceName, counters: &[CounterName]) -> Result<usize, Undelivered>;
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
        let mut pending = self.pending();
        if pending.counters.contains(counter) {
            return;
        }
        let bytes = counter.name.as_str().len() + ENTRY_BYTES;
        if pending.bytes + bytes > self.bytes_max {
            self.drop_events(1);
            return;
        }
        pending.bytes += bytes;
        pending.counters.insert(counter.clone());
        if pending.counters.len() == 1 {
            self.some.notify_one();
        }
    }

    /// Rollup events dropped so far: the set was full, the namespace has no rollup servers, or one refused them.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Counters touched and not yet taken by a rollup server.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.pending().counters.len()
    }

    /// Sends what is gathered, every 100 ms while there is something, for as long as it is polled.
    pub async fn run(&self) {
        self.run_until(pending()).await;
    }

    /// Sends what is gathered, every 100 ms while there is something, until `stop` is there; then sends what is left. What is
    /// on its way when it stops is not cut off.
    pub async fn run_until(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut wait = FLUSH_EVERY;
        loop {
            let gathered = async {
                // Looked at first: the notice may have gone to a loop that was stopped.
                while self.is_empty() {
                    self.some.notified().await;
                }
                tokio::time::sleep(wait).await;
            };
            let stopped = tokio::select! {
                () = stop.as_mut() => true,
                () = gathered => false,
            };
            wait = if self.flush().await { FLUSH_EVERY } else { RETRY_EVERY };
            if stopped {
                return;
            }
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Nothing panics while it is held half changed.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.pending().counters.is_empty()
    }

    fn drop_events(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Sends what is gathered now, and answers whether all of it found a server. What did not stays, for the next time.
    pub async fn flush(&self) -> bool {
        let pending = std::mem::take(&mut *self.pending());
        let routes = self.routes.load_full();
        let mut sets: BTreeMap<(&NamespaceName, &str), Set<'_>> = BTreeMap::new();
        let mut all_sent = true;
        for counter in &pending.counters {
            let route = routes.get_key_value(&counter.namespace).filter(|(_, servers)| !servers.is_empty());
            let Some((namespace, servers)) = route else {
                self.drop_events(1);
                continue;
            };
            let ready: Vec<_> = servers.iter().filter(|server| server.is_ready(namespace)).collect();
            match owner(ready.iter().map(|server| server.name()), counter).and_then(|index| ready.get(index)) {
                Some(server) => {
                    let set = sets.entry((namespace, server.name())).or_insert_with(|| (server, Vec::new()));
                    set.1.push(counter.name.clone());
                }
                None => {
                    all_sent = false;
                    self.touch(counter);
                }
            }
        }
        let sent = join_all(sets.into_iter().map(|((namespace, _), (server, counters))| async move {
            let sent = tokio::time::timeout(SEND_TIMEOUT, server.send(namespace, &counters)).await;
            if let Ok(Ok(taken)) = sent {
                self.drop_events(counters.len().saturating_sub(taken));
                return true;
            }
            // Another server may be ready for them by now.
            for name in counters {
                self.touch(&CounterKey { namespace: namespace.clone(), name });
            }
            false
        }))
        .await;
        all_sent && sent.into_iter().all(|sent| sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that is ready, or not, and takes what it is told to.
    struct Server {
        name: &'static str,
        ready: Mutex<bool>,
        fails: Mutex<bool>,
        got: Mutex<Vec<CounterName>>,
    }

    impl Server {
        fn new(name: &'static str, ready: bool) -> Arc<Self> {
            Arc::new(Self { name, ready: Mutex::new(ready), fails: Mutex::default(), got: Mutex::default() })
        }

        fn got(&self) -> usize {
            self.got.lock().unwrap().len()
        }
    }

    #[async_trait]
    impl RollupEndpoint for Server {
        fn name(&self) -> &str {
            self.name
        }

        fn is_ready(&self, _: &NamespaceName) -> bool {
            *self.ready.lock().unwrap()
        }

        async fn send(&self, _: &NamespaceName, counters: &[CounterName]) -> Result<usize, Undelivered> {
            if *self.fails.lock().unwrap() {
                return Err(Undelivered { reason: "cut off".to_owned() });
            }
            self.got.lock().unwrap().extend_from_slice(counters);
            Ok(counters.len())
        }
    }

    fn namespace() -> NamespaceName {
        NamespaceName::new("n").unwrap()
    }

    fn routed(servers: &[&Arc<Server>]) -> Arc<TouchedCounters> {
        let touched = TouchedCounters::new(1 << 20);
        let servers = servers.iter().map(|server| (*server).clone() as Arc<dyn RollupEndpoint>).collect();
        touched.route(Routes::from([(namespace(), servers)]));
        for i in 0..100 {
            touched.touch(&CounterKey { namespace: namespace(), name: CounterName::new(&i.to_string()).unwrap() });
        }
        touched
    }

    #[tokio::test]
    async fn counters_wait_for_a_server_that_is_ready() {
        let server = Server::new("a", false);
        let touched = routed(&[&server]);
        assert!(!touched.flush().await);
        assert_eq!((server.got(), touched.pending_count(), touched.dropped()), (0, 100, 0));
        *server.ready.lock().unwrap() = true;
        assert!(touched.flush().await);
        assert_eq!((server.got(), touched.pending_count(), touched.dropped()), (100, 0, 0));
    }

    #[tokio::test]
    async fn what_one_server_does_not_take_goes_to_another() {
        let (a, b) = (Server::new("a", true), Server::new("b", true));
        let touched = routed(&[&a, &b]);
        *a.fails.lock().unwrap() = true;
        assert!(!touched.flush().await);
        let to_b = b.got();
        assert!((1..100).contains(&to_b) && touched.pending_count() == 100 - to_b, "{to_b}");
        *a.ready.lock().unwrap() = false;
        assert!(touched.flush().await);
        assert_eq!((a.got(), b.got(), touched.dropped()), (0, 100, 0));
    }

    #[tokio::test]
    async fn counters_without_rollup_servers_are_dropped_and_counted() {
        let touched = routed(&[]);
        assert!(touched.flush().await);
        assert_eq!((touched.pending_count(), touched.dropped()), (0, 100));
    }
}
