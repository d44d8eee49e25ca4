//! Memcached clusters whose servers are killed, flushed, paused and brought back: what is counted, and what is cached.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tallyman_counter::backend::memcached::{BestEffort, Cluster};
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::model::{CounterKey, CounterName, NamespaceName, Timestamp};
use tallyman_counter::store::Error;

#[path = "memcached/best_effort.rs"]
mod best_effort;
#[path = "memcached/cache.rs"]
mod cache;
#[path = "memcached/random.rs"]
mod random;
#[path = "memcached/server.rs"]
mod server;

use server::Server;

const LONG: Duration = Duration::from_secs(3600);
const SCENARIO_PLAYS_MAX: usize = 10;
const SCENARIO_TIME_MAX: Duration = Duration::from_secs(300);

/// Two replicas of one server each.
fn pair() -> [Server; 2] {
    [Server::start(), Server::start()]
}

fn cluster(replicas: &[Server]) -> Cluster {
    cluster_by(Arc::new(SystemClock::new()), replicas)
}

fn cluster_by(clock: Arc<dyn Clock>, replicas: &[Server]) -> Cluster {
    let replicas: Vec<Vec<String>> = replicas.iter().map(|server| vec![server.address()]).collect();
    Cluster::new(&replicas, clock)
}

/// A clock by which no time passes until it is let go.
struct StoppedClock {
    system: SystemClock,
    stopped_at: Duration,
    goes: AtomicBool,
}

impl StoppedClock {
    fn new() -> Arc<Self> {
        let system = SystemClock::new();
        let stopped_at = system.monotonic();
        Arc::new(Self { system, stopped_at, goes: AtomicBool::new(false) })
    }

    fn let_go(&self) {
        self.goes.store(true, Ordering::Relaxed);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        self.system.now()
    }

    fn monotonic(&self) -> Duration {
        if self.goes.load(Ordering::Relaxed) { self.system.monotonic() } else { self.stopped_at }
    }
}

fn counter(name: &str) -> CounterKey {
    CounterKey { namespace: NamespaceName::new("n").unwrap(), name: CounterName::new(name).unwrap() }
}

/// The count that one server has, read past the store.
async fn count_at(server: &Server, name: &str) -> Option<i64> {
    let client = server.client().await;
    let value = client.get(format!("n:{name}")).send().await.unwrap().value?;
    let stored: u64 = std::str::from_utf8(&value).unwrap().trim_end().parse().unwrap();
    Some(stored.wrapping_sub(1 << 62).cast_signed())
}

/// Plays a scenario, and from its start again where a server that runs did not answer in time: this machine stood still.
async fn played(scenario: impl AsyncFn() -> Result<(), Error>) {
    for _ in 0..SCENARIO_PLAYS_MAX {
        let played = tokio::time::timeout(SCENARIO_TIME_MAX, scenario()).await;
        match played.expect("a scenario comes to an end") {
            Ok(()) => return,
            Err(error) if error.is_retryable() => eprintln!("again, as a server that runs did not answer: {error}"),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("never once did all servers that run answer");
}

/// An error where a server of `cluster` did not answer, when all of them run: what one of them has now may be behind.
fn all_answered(cluster: &Cluster) -> Result<(), Error> {
    match cluster.status().iter().find(|server| server.failures > 0) {
        Some(server) => Err(Error::Unavailable { reason: format!("{} did not answer", server.address) }),
        None => Ok(()),
    }
}

/// What became of an add while the server at `place` runs: refused only where that one once did not answer in time.
fn refused_only_when_silent<T>(added: Result<T, Error>, cluster: &Cluster, place: usize) -> Result<T, Error> {
    if let Err(error) = &added {
        assert!(cluster.status()[place].failures > 0, "refused though a replica answered: {error}");
    }
    added
}

/// Waits until nothing is owed any more.
async fn healed(store: &BestEffort) {
    until("everything is healed", async || store.statistics().debts == 0).await;
}

/// Waits until `is_so`, which it is in the end.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let so = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), so).await.unwrap_or_else(|_| panic!("not yet: {what}"));
}

/// Waits until the servers of `cluster` answer or not as told.
async fn answering(cluster: &Cluster, expected: &[bool]) {
    until("servers answer as expected", async || {
        cluster.status().iter().map(|status| status.answers).eq(expected.iter().copied())
    })
    .await;
}
