//! One memcached: connections that come and go, and what is on the server.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::sync::Arc;
use std::time::Duration;

use tallyman_counter::backend::memcached::{BestEffort, Cluster};
use tallyman_counter::clock::SystemClock;
use tallyman_counter::model::{CounterKey, CounterName, NamespaceName};
use tallyman_counter::store::{BestEffortStore, Error};

#[path = "memcached/server.rs"]
#[allow(dead_code)] // What the fault tests do to servers.
mod server;

use server::Server;

const LONG: Duration = Duration::from_secs(3600);

fn store(address: &str) -> BestEffort {
    BestEffort::new(&Cluster::new(&[vec![address.to_owned()]], Arc::new(SystemClock::new())))
}

fn counter(name: &str) -> CounterKey {
    CounterKey { namespace: NamespaceName::new("n").unwrap(), name: CounterName::new(name).unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_server_that_comes_back_is_found_again() {
    let mut memcached = Server::start();
    let store = store(&memcached.address());
    assert_eq!(store.add(&counter("c"), 5, LONG).await.unwrap(), 5);
    memcached.kill();
    let down = store.add(&counter("c"), 1, LONG).await.unwrap_err();
    assert!(matches!(down, Error::Timeout { .. } | Error::Unavailable { .. }), "{down}");
    let down = store.add(&counter("c"), 1, LONG).await.unwrap_err();
    assert!(matches!(down, Error::Unavailable { .. }), "nothing was sent: {down}");
    memcached.restart();
    assert_eq!(store.add(&counter("c"), 7, LONG).await.unwrap(), 7);
    store.clear(&counter("c")).await.unwrap();
    assert_eq!(store.get(&counter("c")).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_every_call_is_unavailable_and_nothing_was_applied() {
    let store = store(&Server::absent().address());
    assert!(matches!(store.add(&counter("c"), 1, LONG).await, Err(Error::Unavailable { .. })));
    assert!(matches!(store.get(&counter("c")).await, Err(Error::Unavailable { .. })));
    assert!(matches!(store.clear(&counter("c")).await, Err(Error::Unavailable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_is_cut_off_after_it_was_sent_is_of_unknown_outcome_and_not_sent_again() {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = store(&listener.local_addr().unwrap().to_string());
    let server = tokio::spawn(async move {
        let mut received = String::new();
        // Hangs up whenever it has read an add, and would see a second attempt. A look at how far it is away finds nothing.
        while let Ok(Ok((connection, _))) = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await {
            let mut connection = BufReader::new(connection);
            let mut line = String::new();
            while connection.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) && !line.starts_with("ma ") {
                let answer: &[u8] = if line.starts_with("mn") { b"MN\r\n" } else { b"EN\r\n" };
                connection.get_mut().write_all(answer).await.unwrap();
                received.push_str(&line);
                line.clear();
            }
            received.push_str(&line);
            if received.matches('\n').count() > 20 {
                break;
            }
        }
        received
    });
    let outcome = store.add(&counter("c"), 1, LONG).await;
    assert!(matches!(outcome, Err(Error::Timeout { .. })), "{outcome:?}");
    let received = server.await.unwrap();
    assert_eq!(received.matches("ma n:c ").count(), 1, "{received:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn ordinary_names_are_readable_keys_on_the_server() {
    let memcached = Server::start();
    store(&memcached.address()).add(&counter("plays/SFO"), -3, LONG).await.unwrap();
    let client = memcached.client().await;
    let stored = client.get("n:plays/SFO").send().await.unwrap();
    assert_eq!(stored.value.as_deref(), Some(b"4611686018427387901".as_slice()));
}

/// memcached looks for a minus sign beyond the end of numbers with the highest bit, in what the memory held before.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn negative_counts_are_added_to_whatever_the_memory_held_before() {
    let memcached = Server::start();
    let client = memcached.client().await;
    let keys = || (0..1_000).map(|nth| format!("n:{nth}"));
    for key in keys() {
        client.set(&key, "-".repeat(24)).send().await.unwrap();
    }
    for key in keys() {
        client.delete(&key).send().await.unwrap();
    }
    let store = store(&memcached.address());
    for nth in 0..1_000 {
        let counter = counter(&nth.to_string());
        assert_eq!(store.add(&counter, -5, LONG).await.unwrap(), -5);
        assert_eq!(store.add(&counter, 3, LONG).await.unwrap(), -2);
    }
}
