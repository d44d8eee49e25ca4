//! Memcached clusters whose servers are killed, flushed, paused and brought back: what is counted, and what is cached.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::sync::Arc;
use std::time::Duration;

use tallyman_counter::backend::memcached::{BestEffort, Cluster};
use tallyman_counter::clock::SystemClock;
use tallyman_counter::model::{CounterKey, CounterName, NamespaceName};

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

/// Two replicas of one server each.
fn pair() -> [Server; 2] {
    [Server::start(), Server::start()]
}

fn cluster(replicas: &[Server]) -> Cluster {
    let replicas: Vec<Vec<String>> = replicas.iter().map(|server| vec![server.address()]).collect();
    Cluster::new(&replicas, Arc::new(SystemClock::new()))
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
