//! Invariant 8, bounds: the queues' memory, counted by the allocator, while a million counters are touched in one window.
//! In debug builds a tenth of that.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use peak_alloc::PeakAlloc;
use tallyman_counter::backend::memory;
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::configuration::{
    Accuracy, Cardinality, Counting, DatasetStorage, Durable, NamespaceConfiguration, Queue, Retention, TimePartition,
};
use tallyman_counter::dataset::Dataset;
use tallyman_counter::model::{
    CounterKey, CounterName, Event, EventItem, IdempotencyToken, NamespaceName, Partition, SliceSettings, Timestamp,
    Token,
};
use tallyman_counter::namespace::{DurableNamespace, Namespace, NamespaceStores};
use tallyman_counter::pipeline::{Options, RollupServer};
use tallyman_counter::retention;
use tallyman_counter::store::{Append, EventStore, RollupStore, Touch};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const COUNTERS: usize = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
const NUM_QUEUES: u16 = 8;
const CAPACITY_BYTES: usize = if cfg!(debug_assertions) { 128 * 1024 } else { 1024 * 1024 };

/// Real time for pacing, and a wall clock in the events' future, so that all of them can be rolled up.
struct Later(SystemClock);

impl Clock for Later {
    fn now(&self) -> Timestamp {
        self.0.now().plus(Duration::from_secs(60))
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

fn settings() -> Durable {
    let storage = DatasetStorage::Memory { dataset: "d".to_owned() };
    Durable {
        accuracy: Accuracy::Eventual,
        cardinality: Cardinality::High,
        cache: None,
        events: storage.clone(),
        rollups: storage,
        rollup_endpoints: Vec::new(),
        rollup_tls: None,
        queue: Queue {
            num_queues: NonZeroU16::new(NUM_QUEUES).unwrap(),
            coalesce: Duration::from_millis(500),
            capacity_bytes: CAPACITY_BYTES,
        },
        rollup_batch_count: NonZeroUsize::new(32).unwrap(),
        time_partition: TimePartition {
            settings: SliceSettings {
                buckets_per_id: NonZeroU16::MIN,
                bucket_width: Duration::from_secs(600),
                accept_limit: Duration::from_secs(5),
                write_timeout: Duration::from_secs(2),
                max_clock_skew: Duration::from_secs(1),
            },
            slice_width: Duration::from_secs(86_400),
        },
        retention: Retention {
            close_after: Duration::from_secs(6 * 86_400),
            delete_after: Duration::from_secs(7 * 86_400),
        },
    }
}

fn counter(index: usize) -> CounterKey {
    let name = CounterName::new(&format!("some/counter/with-a-usual-name/{index}")).unwrap();
    CounterKey { namespace: NamespaceName::new("ns").unwrap(), name }
}

/// Writes one event to every counter, as sidecars do, and lets no rollup event through.
async fn write_all(store: &memory::Dataset, dataset: &Dataset) {
    let slices = dataset.slices();
    let now = SystemClock::new().now();
    for index in 0..COUNTERS {
        let counter = counter(index);
        let token = IdempotencyToken { token: Token::new("t").unwrap(), generation_time: now };
        let event = Event::new(token, EventItem::Add(1));
        let partition = Partition::of(&counter, &event, slices.accepting(now).unwrap());
        store.append(vec![Append { partition, event }]).await.pop().unwrap().unwrap();
        let touch = Touch { last_write_ts: Some(now.rounded_up(Duration::from_secs(1))), first_write_ts: Some(now) };
        store.touch(&counter, touch).await.unwrap();
    }
}

#[tokio::test]
async fn a_million_counters_in_one_window_stay_within_the_queues_capacity_and_none_is_lost() {
    let clock = Arc::new(Later(SystemClock::new()));
    let store = memory::Dataset::new();
    let dataset = Dataset::new("d".to_owned(), Arc::new(store.clone()), Arc::new(store.clone()), clock);
    dataset.refresh().await.unwrap();
    let settings = settings();
    retention::create_ahead(&dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    write_all(&store, &dataset).await;
    let configuration = Arc::new(NamespaceConfiguration {
        namespace: NamespaceName::new("ns").unwrap(),
        region: "r".to_owned(),
        counting: Counting::Durable(Box::new(settings.clone())),
    });
    let durable = DurableNamespace { settings, dataset: dataset.clone(), cache: None };
    let namespace = Namespace { configuration, counting: NamespaceStores::Durable(Box::new(durable)) };
    let server = RollupServer::new(Options::new("here"));
    server.serve([namespace.clone()]).await;

    let bound = usize::from(NUM_QUEUES) * CAPACITY_BYTES;
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let mut taken = 0;
    for index in 0..COUNTERS {
        let counter = counter(index);
        taken += server.touched(&counter.namespace, std::slice::from_ref(&counter.name));
    }
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    // One name at a time is in the test's own hands.
    assert!(peak <= bound + 4096, "{peak} bytes at the peak; allowed: {bound}");
    assert!(peak >= bound / 4, "the capacity is there to be used: {peak} of {bound} bytes");
    assert!(taken < COUNTERS, "so many names do not fit");
    assert_eq!(server.statistics().refused, (COUNTERS - taken) as u64);

    // Nothing is lost in the end: sweeps bring what was refused, waiting for room.
    let sweeping = server.sweep_once();
    tokio::pin!(sweeping);
    loop {
        assert!(server.statistics().queued_bytes <= bound as u64);
        tokio::select! {
            swept = &mut sweeping => {
                swept.unwrap();
                break;
            }
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    }
    server.drain().await;
    for index in 0..COUNTERS {
        let row = store.read(&counter(index)).await.unwrap().unwrap();
        assert_eq!(row.checkpoint.map(|checkpoint| checkpoint.last_rollup_count), Some(1), "counter {index}");
    }
}
