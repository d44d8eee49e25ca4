//! One counter with very many events: what it costs does not grow with them.

use std::time::Duration;

use tallyman_api::client::{Add, Client};
use tallyman_e2e::daemon::Daemon;
use tallyman_e2e::plane::{NAMESPACE, Plane, Settings};
use tallyman_e2e::{PATIENCE, convergence, now_micros};
use tokio::task::JoinSet;

use crate::one_node;

const COUNTER: &str = "wide";
/// Events of a usual run; `TALLYMAN_WIDE_EVENTS` says another number, such as 2000000.
const EVENTS_USUAL: u64 = 200_000;
const SLICE_WIDTH: Duration = Duration::from_secs(10);
/// However fast they are written, they are to lie in more than one slice.
const WRITING_TIME_MIN: Duration = Duration::from_secs(12);
const BATCH: u64 = 1_000;
const BATCHES_IN_FLIGHT: usize = 8;
/// What a rollup server or a sidecar may take beyond what it takes when idle: budgets of scans, buffers of the driver.
const MEMORY_MAX: u64 = 96 << 20;
/// Enough that an onlooker, who looks a hundred times a second at most, sees something.
const READS: usize = 5;
const PARTITION_BYTES_MAX: u64 = 100_000_000;
/// What a read scans at once (64 partitions), and a little for what else asks the node.
const REQUESTS_MAX: u64 = 64 + 8;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra, and counts for a while: cargo xtask test"]
async fn a_counter_of_very_many_events_is_read_and_rolled_up_in_little_memory() {
    let events = std::env::var("TALLYMAN_WIDE_EVENTS").map_or(EVENTS_USUAL, |events| events.parse().unwrap());
    let servers = one_node();
    let mut plane = Plane::start(
        &servers,
        Settings {
            rollups: 1,
            buckets_per_id: 4,
            bucket_width: Duration::from_secs(2),
            slice_width: SLICE_WIDTH,
            accept_limit: Duration::from_secs(30),
            ahead: Some(Duration::from_secs(60)),
            ..crate::settings("wide")
        },
    );
    let operator = plane.operator();
    // All of it waits in one window.
    let idle = plane.rollups[0].resident_bytes();
    assert!(plane.rollups[0].terminate().success());
    let began = now_micros();
    let acknowledged = write(plane.clients(), events).await;
    eprintln!("{acknowledged} events took {} s", (now_micros() - began) / 1_000_000);
    operator.stop();

    let slices = plane.keyspace.slices();
    let contents: Vec<_> =
        slices.iter().filter(|slice| slice.events() > 0).filter_map(|slice| slice.contents.as_ref()).collect();
    let partitions: u64 = contents.iter().map(|contents| contents.partitions).sum();
    let largest = contents.iter().map(|contents| contents.largest_partition_bytes).max().unwrap();
    eprintln!("{} slices, {partitions} partitions, the largest of {largest} bytes", contents.len());
    assert!(contents.len() > 1 && partitions > 8, "{contents:?}");
    assert!(largest < PARTITION_BYTES_MAX, "a partition of {largest} bytes");
    assert_eq!(contents.iter().map(|contents| contents.events).sum::<u64>(), acknowledged);

    // Everything by an accurate read, as often as it takes to look at it often enough…
    let (watch, idle_sidecar) = (plane.keyspace.watch_requests(), plane.sidecars[0].resident_bytes());
    let mut most = 0;
    for _ in 0..READS {
        let began = now_micros();
        let client = plane.clients().swap_remove(0);
        let reading = tokio::spawn(convergence::read_accurately(client, NAMESPACE.to_owned(), COUNTER.to_owned()));
        most = most.max(most_resident(&plane.sidecars[0], || reading.is_finished()).await);
        let (_, count) = reading.await.unwrap();
        eprintln!("an accurate read took {} ms", (now_micros() - began) / 1_000);
        assert_eq!(u64::try_from(count).unwrap(), acknowledged);
    }
    let requests = watch.finish();
    eprintln!("accurate reads took {} KiB, and {requests:?}", most.saturating_sub(idle_sidecar) >> 10);
    assert!(requests.looks > 10 && requests.most <= REQUESTS_MAX, "{requests:?}");
    assert!(most < idle_sidecar + MEMORY_MAX, "an accurate read takes {} bytes", most - idle_sidecar);

    // …and by a rollup.
    plane.rollups[0].start();
    plane.rollups[0].wait_until_ready();
    let client = plane.clients().swap_remove(1);
    let until = now_micros() + i64::try_from(PATIENCE.as_micros()).unwrap();
    let rolled_up = tokio::spawn(async move {
        while client.get(NAMESPACE, COUNTER, None).await.ok().and_then(|read| read.count.try_into().ok())
            != Some(acknowledged)
        {
            assert!(now_micros() < until, "not rolled up within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let most = most_resident(&plane.rollups[0], || rolled_up.is_finished()).await;
    rolled_up.await.unwrap();
    eprintln!("the rollup took {} KiB", most.saturating_sub(idle) >> 10);
    assert!(most < idle + MEMORY_MAX, "the rollup takes {} bytes", most - idle);
    assert!(plane.rollups[0].metric("tallyman_rollup_events_read_total").unwrap() >= acknowledged as f64);
    plane.stop();
    drop(servers);
}

/// Counts one by one, as fast as it goes, until each is acknowledged. At least as many as said, and for long enough. How many
/// were.
async fn write(clients: Vec<Client>, events: u64) -> u64 {
    let began = now_micros();
    let is_enough =
        |sent| sent >= events && now_micros() - began >= i64::try_from(WRITING_TIME_MIN.as_micros()).unwrap();
    let mut writing = JoinSet::new();
    let (mut sent, mut acknowledged) = (0, 0);
    for client in clients.iter().cycle() {
        if is_enough(sent) {
            break;
        }
        if writing.len() >= BATCHES_IN_FLIGHT {
            acknowledged += writing.join_next().await.unwrap().unwrap();
        }
        writing.spawn(write_batch(client.with_deadline(Duration::from_secs(20)), BATCH));
        sent += BATCH;
    }
    while let Some(written) = writing.join_next().await {
        acknowledged += written.unwrap();
    }
    acknowledged
}

async fn write_batch(client: Client, events: u64) -> u64 {
    let add = || Add { counter_name: COUNTER.to_owned(), delta: 1, token: Some(client.new_token()) };
    let mut adds: Vec<Add> = (0..events).map(|_| add()).collect();
    while !adds.is_empty() {
        let results = client.batch_add(NAMESPACE, adds.clone()).await;
        // With its token it counts once, however often it is sent.
        let failed = adds.into_iter().zip(results).filter_map(|(add, result)| match result {
            Ok(()) => None,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                Some(add)
            }
        });
        adds = failed.collect();
    }
    events
}

async fn most_resident(process: &Daemon, is_over: impl Fn() -> bool) -> u64 {
    let mut most = process.resident_bytes();
    while !is_over() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        most = most.max(process.resident_bytes());
    }
    most
}
