//! What each reply promises, held against a list of all adds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tallyman_api::client::Client;
use tallyman_api::proto::IdempotencyToken;
use tallyman_api::time::Timestamp;
use tokio::task::JoinSet;

use crate::server::{Home, PATIENT, QUICK};

const COUNTER: &str = "turnstile";
const WRITERS: usize = 4;

#[allow(clippy::disallowed_methods, reason = "generation_time is the client's wall clock")]
fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}

/// Adds 1 until told to stop; answers the event times of all adds, each of which was acknowledged.
async fn write(client: Client, namespace: &'static str, writer: usize, progress: Arc<Progress>) -> Vec<Timestamp> {
    let mut times = Vec::new();
    while !progress.enough.load(Ordering::Relaxed) {
        let token = IdempotencyToken { token: format!("{writer}-{}", times.len()), generation_time: Some(now()) };
        progress.sent.fetch_add(1, Ordering::SeqCst);
        client.add(namespace, COUNTER, 1, Some(token.clone())).await.unwrap();
        progress.acknowledged.fetch_add(1, Ordering::SeqCst);
        times.extend(token.generation_time);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    times
}

#[derive(Default)]
struct Progress {
    sent: AtomicI64,
    acknowledged: AtomicI64,
    enough: AtomicBool,
}

fn writers(client: &Client, namespace: &'static str, progress: &Arc<Progress>) -> JoinSet<Vec<Timestamp>> {
    (0..WRITERS).map(|writer| write(client.clone(), namespace, writer, progress.clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eventual_count_is_the_number_of_adds_up_to_its_as_of_at_every_read() {
    let home = Home::new(&[("doors", "Eventual", QUICK)]);
    let server = home.start(&[]);
    let (client, progress) = (server.client(), Arc::new(Progress::default()));
    let writers = writers(&client, "doors", &progress);
    let mut readings: Vec<(i64, Timestamp)> = Vec::new();
    // Enough is several checkpoints with adds before and after them.
    let mut checkpoints = 0;
    while checkpoints < 5 {
        let reading = client.get("doors", COUNTER, None).await.unwrap();
        let reading = (reading.count, reading.as_of.unwrap());
        let moved = readings.last().is_none_or(|last| last.1 != reading.1);
        checkpoints += usize::from(moved && reading.0 > 0);
        if moved {
            // From the first checkpoint with something in it.
            let went_back = readings.last().is_some_and(|last| last.0 > 0 && last.1 > reading.1);
            assert!(!went_back, "as_of went back from {:?} to {reading:?}", readings.last());
            readings.push(reading);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    progress.enough.store(true, Ordering::Relaxed);
    let times = writers.join_all().await.concat();
    for (count, as_of) in readings {
        let expected = times.iter().filter(|time| **time <= as_of).count();
        assert_eq!(count, expected as i64, "as of {as_of}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exact_read_has_all_that_was_acknowledged_before_it_and_nothing_that_was_not_sent() {
    let home = Home::new(&[("accurate", "Accurate", PATIENT), ("eventual", "Eventual", PATIENT)]);
    let server = home.start(&[]);
    for (namespace, max_staleness) in [("accurate", None), ("eventual", Some(Duration::ZERO))] {
        let (client, progress) = (server.client(), Arc::new(Progress::default()));
        let writers = writers(&client, namespace, &progress);
        for _ in 0..200 {
            let at_least = progress.acknowledged.load(Ordering::SeqCst);
            let count = client.get(namespace, COUNTER, max_staleness).await.unwrap().count;
            let at_most = progress.sent.load(Ordering::SeqCst);
            assert!((at_least..=at_most).contains(&count), "{namespace}: {at_least} <= {count} <= {at_most}");
        }
        progress.enough.store(true, Ordering::Relaxed);
        let times = writers.join_all().await.concat();
        let count = client.get(namespace, COUNTER, max_staleness).await.unwrap().count;
        assert_eq!(count, times.len() as i64, "{namespace}");
    }
}
