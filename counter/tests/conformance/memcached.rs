//! Best-effort counters in a real memcached, which the tests start on a free port of loopback.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tallyman_counter::backend::memcached::BestEffort;
use tallyman_counter::clock::SystemClock;
use tallyman_counter::model::{CounterKey, CounterName, NamespaceName};
use tallyman_counter::store::conformance::BestEffortFactory;
use tallyman_counter::store::{BestEffortStore, Error};

const LONG: Duration = Duration::from_secs(3600);

struct Memcached {
    process: Child,
    port: u16,
}

impl Drop for Memcached {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Memcached {
    fn new() -> Self {
        Self::on(free_port())
    }

    #[allow(clippy::disallowed_methods)] // Bounds a wait for a real process.
    fn on(port: u16) -> Self {
        let port_text = port.to_string();
        let process = Command::new("memcached")
            .args(["-l", "127.0.0.1", "-p", &port_text, "-U", "0", "-u", "nobody", "-m", "32"])
            .spawn()
            .expect("memcached is installed (Debian: apt-get install memcached)");
        let memcached = Self { process, port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "memcached does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        memcached
    }

    fn store(&self) -> BestEffort {
        BestEffort::new(&format!("127.0.0.1:{}", self.port), Arc::new(SystemClock::new()))
    }
}

#[async_trait]
impl BestEffortFactory for Memcached {
    async fn fresh(&self) -> Arc<dyn BestEffortStore> {
        Arc::new(self.store())
    }

    async fn pass(&self, span: Duration) {
        // The server's clock is the machine's.
        tokio::time::sleep(span).await;
    }
}

mod best_effort {
    use super::Memcached;
    tallyman_counter::best_effort_conformance! { Memcached::new(); #[ignore = "needs memcached: cargo xtask test"] }
}

fn counter(name: &str) -> CounterKey {
    CounterKey { namespace: NamespaceName::new("n").unwrap(), name: CounterName::new(name).unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_server_that_comes_back_is_found_again() {
    let memcached = Memcached::new();
    let (port, store) = (memcached.port, memcached.store());
    assert_eq!(store.add(&counter("c"), 5, LONG).await.unwrap(), 5);
    drop(memcached);
    let down = store.add(&counter("c"), 1, LONG).await.unwrap_err();
    assert!(matches!(down, Error::Timeout { .. } | Error::Unavailable { .. }), "{down}");
    let down = store.add(&counter("c"), 1, LONG).await.unwrap_err();
    assert!(matches!(down, Error::Unavailable { .. }), "nothing was sent: {down}");
    let _memcached = Memcached::on(port);
    assert_eq!(store.add(&counter("c"), 7, LONG).await.unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_every_call_is_unavailable_and_nothing_was_applied() {
    let store = BestEffort::new(&format!("127.0.0.1:{}", free_port()), Arc::new(SystemClock::new()));
    assert!(matches!(store.add(&counter("c"), 1, LONG).await, Err(Error::Unavailable { .. })));
    assert!(matches!(store.get(&counter("c")).await, Err(Error::Unavailable { .. })));
    assert!(matches!(store.clear(&counter("c")).await, Err(Error::Unavailable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_add_that_is_cut_off_after_it_was_sent_is_of_unknown_outcome_and_not_sent_again() {
    use tokio::io::AsyncReadExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = BestEffort::new(&listener.local_addr().unwrap().to_string(), Arc::new(SystemClock::new()));
    let server = tokio::spawn(async move {
        let mut received = String::new();
        // Hangs up whenever it has read a line, and would see a second attempt.
        for _ in 0..2 {
            let accepted = tokio::time::timeout(Duration::from_secs(1), listener.accept()).await;
            let Ok(Ok((mut connection, _))) = accepted else { break };
            while !received.ends_with('\n') {
                received.push(char::from(connection.read_u8().await.unwrap()));
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
    let memcached = Memcached::new();
    memcached.store().add(&counter("plays/SFO"), -3, LONG).await.unwrap();
    let client = memcache::exp::AsyncMetaClient::connect(format!("127.0.0.1:{}", memcached.port)).await.unwrap();
    let stored = client.get("n:plays/SFO").send().await.unwrap();
    assert_eq!(stored.value.as_deref(), Some(b"4611686018427387901".as_slice()));
}

/// memcached looks for a minus sign beyond the end of numbers with the highest bit, in what the memory held before.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn negative_counts_are_added_to_whatever_the_memory_held_before() {
    let memcached = Memcached::new();
    let client = memcache::exp::AsyncMetaClient::connect(format!("127.0.0.1:{}", memcached.port)).await.unwrap();
    let keys = || (0..1_000).map(|nth| format!("n:{nth}"));
    for key in keys() {
        client.set(&key, "-".repeat(24)).send().await.unwrap();
    }
    for key in keys() {
        client.delete(&key).send().await.unwrap();
    }
    let store = memcached.store();
    for nth in 0..1_000 {
        let counter = counter(&nth.to_string());
        assert_eq!(store.add(&counter, -5, LONG).await.unwrap(), -5);
        assert_eq!(store.add(&counter, 3, LONG).await.unwrap(), -2);
    }
}
