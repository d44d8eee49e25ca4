//! Memcached clusters whose servers are killed, flushed, paused and brought back: what is counted, and what is cached.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// A clock by which no time passes but what a test lets pass.
struct HandClock {
    system: SystemClock,
    passed_millis: AtomicU64,
}

impl HandClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { system: SystemClock::new(), passed_millis: AtomicU64::new(0) })
    }

    fn advance(&self, passed: Duration) {
        self.passed_millis.fetch_add(passed.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        self.system.now()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.passed_millis.load(Ordering::Relaxed))
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
        match scenario().await {
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
