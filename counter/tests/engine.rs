//! The engine over the in-memory stores, in virtual time: each promise once, in the plainest setting. Faults are the
//! simulation's.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tallyman_counter::backend::memory;
use tallyman_counter::clock::Clock;
use tallyman_counter::configuration::{
    Accuracy, Cardinality, Counting, DatasetStorage, Durable, NamespaceConfiguration, Queue, Retention, TimePartition,
};
use tallyman_counter::dataset::Dataset;
use tallyman_counter::forward::{RollupEndpoint, Routes, TouchedCounters, Undelivered};
use tallyman_counter::model::{CounterKey, CounterName, NamespaceName, SliceSettings, SliceState, Timestamp};
use tallyman_counter::namespace::{DurableNamespace, Namespace, NamespaceStores};
use tallyman_counter::pipeline::{Options, RollupServer};
use tallyman_counter::retention;
use tallyman_counter::service::{BatchAdd, ClientToken, CounterService, Error, Limits};
use tallyman_counter::store::{EventStore, RollupStore, Touch};

/// A clock that follows the runtime's virtual time.
struct VirtualClock {
    begun: tokio::time::Instant,
    /// How far the wall clock was set back, in seconds.
    back: AtomicU64,
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let back = Duration::from_secs(self.back.load(Ordering::Relaxed));
        Timestamp::from_micros(1_700_000_000_000_000).plus(self.monotonic()).minus(back)
    }

    fn monotonic(&self) -> Duration {
        self.begun.elapsed()
    }
}

struct InProcess(Arc<RollupServer>);

#[async_trait]
impl RollupEndpoint for InProcess {
    fn name(&self) -> &str {
        "here"
    }

    fn is_ready(&self, _: &NamespaceName) -> bool {
        true
    }

    async fn send(&self, namespace: &NamespaceName, counters: &[CounterName]) -> Result<usize, Undelivered> {
        Ok(self.0.touched(namespace, counters))
    }
}

struct Engine {
    clock: Arc<VirtualClock>,
    store: memory::Dataset,
    dataset: Arc<Dataset>,
    service: Arc<CounterService>,
    rollups: Arc<RollupServer>,
    touched: Arc<TouchedCounters>,
    settings: Durable,
}

fn settings(accuracy: Accuracy) -> Durable {
    let storage = DatasetStorage::Memory { dataset: "d".to_owned() };
    Durable {
        accuracy,
        cardinality: Cardinality::High,
        cache: None,
        events: storage.clone(),
        rollups: storage,
        rollup_endpoints: Vec::new(),
        rollup_tls: None,
        queue: Queue {
            num_queues: NonZeroU16::new(2).unwrap(),
            coalesce: Duration::from_secs(1),
            capacity_bytes: 1 << 20,
        },
        rollup_batch_count: NonZeroUsize::new(4).unwrap(),
        time_partition: TimePartition {
            settings: SliceSettings {
                buckets_per_id: NonZeroU16::new(3).unwrap(),
                bucket_width: Duration::from_secs(10),
                accept_limit: Duration::from_secs(5),
                write_timeout: Duration::from_secs(2),
                max_clock_skew: Duration::from_secs(1),
            },
            slice_width: Duration::from_secs(60),
        },
        retention: Retention { close_after: Duration::from_secs(30), delete_after: Duration::from_secs(120) },
    }
}

impl Engine {
    async fn start(accuracy: Accuracy) -> Self {
        let clock = Arc::new(VirtualClock { begun: tokio::time::Instant::now(), back: AtomicU64::new(0) });
        let store = memory::Dataset::new();
        let dataset = Dataset::new("d".to_owned(), Arc::new(store.clone()), Arc::new(store.clone()), clock.clone());
        dataset.refresh().await.unwrap();
        let settings = settings(accuracy);
        retention::create_ahead(&dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
        let touched = TouchedCounters::new(1 << 20);
        let service = Arc::new(CounterService::new("test", clock.clone(), touched.clone(), Limits::default()));
        let rollups = RollupServer::new(Options::new("here"));
        let engine = Self { clock, store, dataset, service, rollups, touched, settings };
        let namespace = engine.namespace(engine.settings.clone());
        engine.serve(namespace).await;
        let routes =
            Routes::from([(name("ns"), vec![Arc::new(InProcess(engine.rollups.clone())) as Arc<dyn RollupEndpoint>])]);
        engine.touched.route(routes);
        let (touched, dataset) = (engine.touched.clone(), engine.dataset.clone());
        tokio::spawn(async move { touched.run().await });
        tokio::spawn(async move { dataset.keep_fresh().await });
        engine
    }

    fn namespace(&self, settings: Durable) -> Namespace {
        let configuration = NamespaceConfiguration {
            namespace: name("ns"),
            region: "r".to_owned(),
            counting: Counting::Durable(Box::new(settings.clone())),
        };
        let durable = DurableNamespace { settings, dataset: self.dataset.clone(), cache: None };
        Namespace { configuration: Arc::new(configuration), counting: NamespaceStores::Durable(Box::new(durable)) }
    }

    async fn serve(&self, namespace: Namespace) {
        self.service.serve([namespace.clone()]);
        self.rollups.serve([namespace]).await;
    }

    async fn add(&self, counter: &str, delta: i64) {
        self.service.add_count("ns", counter, delta, ClientToken::default(), None).await.unwrap();
    }

    async fn get(&self, counter: &str) -> (i64, Timestamp) {
        let count = self.service.get_count("ns", counter, None, None).await.unwrap();
        (count.count, count.as_of.unwrap())
    }

    fn token(&self, text: &str) -> ClientToken {
        ClientToken { token: Some(text.to_owned()), generation_time: Some(self.clock.now()) }
    }
}

fn name(name: &str) -> NamespaceName {
    NamespaceName::new(name).unwrap()
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// What is left of a row whose `first_write_ts` somebody deleted, or hid behind a tombstone.
#[tokio::test(start_paused = true)]
async fn a_counter_whose_mark_was_deleted_gets_an_error_and_no_count_made_of_a_guess() {
    let engine = Engine::start(Accuracy::Accurate).await;
    let counter = CounterKey { namespace: name("ns"), name: CounterName::new("a").unwrap() };
    let touch = Touch { last_write_ts: Some(engine.clock.now()), first_write_ts: None };
    engine.store.touch(&counter, touch).await.unwrap();
    let refused = engine.service.get_count("ns", "a", None, None).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Damaged { reason } if reason.contains("first_write_ts: part of the row was deleted")),
        "{refused}"
    );
    engine.rollups.touched(&counter.namespace, std::slice::from_ref(&counter.name));
    seconds(20).await;
    assert!(engine.rollups.statistics().failed > 0, "it is not rolled up");
    assert_eq!(engine.store.read(&counter).await.unwrap().unwrap().checkpoint, None);
}

#[tokio::test(start_paused = true)]
async fn an_eventual_count_converges_within_its_bound() {
    let engine = Engine::start(Accuracy::Eventual).await;
    assert_eq!(engine.get("never").await.0, 0);
    for delta in [1, -3, 10] {
        engine.add("a", delta).await;
    }
    assert_eq!(engine.get("a").await.0, 0, "nothing is rolled up yet");
    let acknowledged = engine.clock.now();
    // coalesce + 2 × accept limit + write timeout + skew.
    seconds(1 + 10 + 2 + 1).await;
    let (count, as_of) = engine.get("a").await;
    assert_eq!(count, 8);
    assert!(as_of >= acknowledged);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_counted_once_however_often_it_is_sent_and_refused_with_another_delta() {
    let engine = Engine::start(Accuracy::Accurate).await;
    let token = engine.token("t");
    for _ in 0..3 {
        engine.service.add_count("ns", "a", 7, token.clone(), None).await.unwrap();
    }
    let reused = engine.service.add_count("ns", "a", 8, token.clone(), None).await;
    assert!(matches!(reused, Err(Error::TokenReused { .. })), "{reused:?}");
    let reused = engine.service.clear_count("ns", "a", token, None).await;
    assert!(matches!(reused, Err(Error::TokenReused { .. })), "{reused:?}");
    assert_eq!(engine.get("a").await.0, 7);
}

#[tokio::test(start_paused = true)]
async fn an_accurate_count_is_exact_at_once_before_and_after_rollups_and_across_clears() {
    let engine = Engine::start(Accuracy::Accurate).await;
    let mut expected = 0;
    for i in 0..200 {
        if i % 37 == 36 {
            engine.service.clear_count("ns", "a", ClientToken::default(), None).await.unwrap();
            expected = 0;
        } else {
            let token = ClientToken::default();
            let (count, _) = engine.service.add_and_get_count("ns", "a", i, token, None).await.unwrap();
            expected += i;
            assert_eq!(count.count, expected);
        }
        assert_eq!(engine.get("a").await.0, expected);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(engine.rollups.statistics().rolled_up > 0);
}

#[tokio::test(start_paused = true)]
async fn an_accurate_count_is_exact_at_once_with_thousands_of_events_waiting_for_rollup() {
    let engine = Engine::start(Accuracy::Accurate).await;
    // No rollup event gets through, so that all of them wait.
    engine.touched.route(Routes::new());
    let mut expected = 0;
    for batch in 0..60_i64 {
        let adds = (0..100).map(|i| BatchAdd {
            counter_name: "a".to_owned(),
            delta: batch * 100 + i - 2_500,
            token: ClientToken::default(),
        });
        let (results, _) = engine.service.batch_add_count("ns", adds.collect(), None).await.unwrap();
        assert!(results.iter().all(std::result::Result::is_ok));
        expected += (0..100).map(|i| batch * 100 + i - 2_500).sum::<i64>();
        if batch == 30 {
            // Events of one microsecond are ordered by their tokens.
            seconds(1).await;
            engine.service.clear_count("ns", "a", ClientToken::default(), None).await.unwrap();
            expected = 0;
        }
        assert_eq!(engine.get("a").await.0, expected);
        seconds(1).await;
    }
    assert_eq!(engine.store_count("a").await, None, "nothing was rolled up");
}

#[tokio::test(start_paused = true)]
async fn a_stale_count_is_counted_anew_when_the_reader_asks_for_it() {
    let engine = Engine::start(Accuracy::Eventual).await;
    engine.add("a", 5).await;
    let stale = engine.service.get_count("ns", "a", Some(Duration::from_secs(600)), None).await.unwrap();
    let fresh = engine.service.get_count("ns", "a", Some(Duration::from_millis(1)), None).await.unwrap();
    assert_eq!((stale.count, fresh.count), (0, 5));
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_while_the_process_was_away_costs_no_count_and_is_told() {
    let mut engine = Engine::start(Accuracy::Eventual).await;
    engine.add("a", 3).await;
    seconds(30).await;
    engine.add("a", 1).await;
    // The next process: the same store, and a clock that was set back by an hour.
    engine.clock.back.store(3_600, Ordering::Relaxed);
    let store = Arc::new(engine.store.clone());
    engine.dataset = Dataset::new("d".to_owned(), store.clone(), store, engine.clock.clone());
    engine.dataset.refresh().await.unwrap();
    let skew = engine.dataset.slices().max_clock_skew().unwrap();
    engine.service.serve([engine.namespace(engine.settings.clone())]);
    let exact = engine.service.get_count("ns", "a", Some(Duration::ZERO), None).await.unwrap();
    assert_eq!(exact.count, 4, "though the last rollup is of a time to come");
    let refused = engine.service.add_count("ns", "a", 1, ClientToken::default(), None).await;
    assert!(matches!(refused, Err(Error::ClockSkew { .. })), "{refused:?}");
    assert!(engine.dataset.clock.now(skew).is_err(), "readiness and metrics ask the same");
    engine.clock.back.store(0, Ordering::Relaxed);
    engine.add("a", 1).await;
    assert_eq!(engine.service.get_count("ns", "a", Some(Duration::ZERO), None).await.unwrap().count, 5);
}

#[tokio::test(start_paused = true)]
async fn a_sum_beyond_64_bits_is_an_error_on_reads_and_comes_back() {
    let engine = Engine::start(Accuracy::Accurate).await;
    engine.add("a", i64::MAX).await;
    engine.add("a", i64::MAX).await;
    let read = engine.service.get_count("ns", "a", None, None).await;
    assert!(matches!(read, Err(Error::CountOverflow { .. })), "{read:?}");
    engine.add("a", i64::MIN).await;
    seconds(30).await;
    assert_eq!(engine.get("a").await.0, i64::MAX - 1);
}

#[tokio::test(start_paused = true)]
async fn event_times_are_accepted_within_the_limit_and_refused_beyond_it() {
    let engine = Engine::start(Accuracy::Accurate).await;
    let at = |offset: i64| {
        let time = Timestamp::from_micros(engine.clock.now().as_micros() + offset);
        ClientToken { token: Some(offset.to_string()), generation_time: Some(time) }
    };
    for offset in [-5_000_000, 0, 5_000_000] {
        engine.service.add_count("ns", "a", 1, at(offset), None).await.unwrap();
    }
    for offset in [-5_000_001, 5_000_001, i64::MIN / 2, i64::MAX / 2] {
        let refused = engine.service.add_count("ns", "a", 1, at(offset), None).await;
        assert!(matches!(refused, Err(Error::EventTimeOutOfRange { .. })), "{refused:?}");
    }
    assert_eq!(engine.get("a").await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_the_count_at_once_and_then_each_change_without_going_back() {
    let engine = Engine::start(Accuracy::Eventual).await;
    engine.add("a", 1).await;
    let mut watch = std::pin::pin!(engine.service.watch_count("ns", "a").unwrap());
    let mut last = watch.next().await.unwrap().unwrap();
    assert_eq!(last.count, 0);
    for delta in [2, 3] {
        let next = watch.next().await.unwrap().unwrap();
        assert!(next.count > last.count && next.as_of >= last.as_of);
        last = next;
        engine.add("a", delta).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_rollup_event_is_found_by_the_sweep() {
    let engine = Engine::start(Accuracy::Eventual).await;
    engine.touched.route(Routes::new());
    engine.add("a", 4).await;
    seconds(60).await;
    assert_eq!(engine.store_count("a").await, None);
    engine.rollups.sweep_once().await.unwrap();
    seconds(2).await;
    assert_eq!(engine.store_count("a").await, Some(4));
}

impl Engine {
    async fn store_count(&self, counter: &str) -> Option<i128> {
        use tallyman_counter::model::CounterKey;
        let counter = CounterKey { namespace: name("ns"), name: CounterName::new(counter).unwrap() };
        let row = self.dataset.rollups.read(&counter).await.unwrap();
        row.and_then(|row| row.checkpoint).map(|checkpoint| checkpoint.last_rollup_count)
    }
}

#[tokio::test(start_paused = true)]
async fn retention_drops_slices_and_not_one_count_though_every_rollup_event_was_lost() {
    let engine = Engine::start(Accuracy::Eventual).await;
    engine.touched.route(Routes::new());
    for i in 0..50 {
        engine.add(&format!("c{i}"), i).await;
    }
    let mut dropped = 0;
    for _ in 0..40 {
        seconds(10).await;
        dropped += retention::close_and_drop(&engine.dataset, engine.settings.retention).await.unwrap().dropped;
    }
    assert!(dropped >= 1);
    let slices = engine.store.slices().await.unwrap();
    assert!(slices.iter().any(|slice| slice.state == SliceState::Dropped));
    for i in 0..50 {
        assert_eq!(engine.store_count(&format!("c{i}")).await, Some(i128::from(i)));
    }
    // Written again long after: its checkpoint is older than the oldest slice kept, and nothing is missing.
    engine.add("c7", 1).await;
    seconds(20).await;
    engine.rollups.sweep_once().await.unwrap();
    seconds(2).await;
    assert_eq!(engine.store_count("c7").await, Some(8));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_queues_changes_without_losing_what_is_queued() {
    let engine = Engine::start(Accuracy::Eventual).await;
    for i in 0..300 {
        engine.add(&format!("c{i}"), 1).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(engine.rollups.statistics().queued, 300);
    for num_queues in [7, 1, 3] {
        let mut settings = engine.settings.clone();
        settings.queue.num_queues = NonZeroU16::new(num_queues).unwrap();
        engine.serve(engine.namespace(settings)).await;
        assert_eq!(engine.rollups.statistics().queued, 300);
    }
    seconds(30).await;
    for i in 0..300 {
        assert_eq!(engine.store_count(&format!("c{i}")).await, Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drained_server_has_rolled_up_what_was_queued() {
    let engine = Engine::start(Accuracy::Eventual).await;
    engine.add("a", 1).await;
    seconds(60).await;
    engine.add("b", 1).await;
    engine.touched.flush().await;
    assert_eq!(engine.rollups.statistics().queued, 1);
    engine.rollups.drain().await;
    assert_eq!(engine.rollups.statistics().queued, 0);
    assert!(engine.store_count("b").await.is_some(), "rolled up to the boundary of now");
}

#[tokio::test(start_paused = true)]
async fn each_item_of_a_batch_has_its_own_answer() {
    let engine = Engine::start(Accuracy::Accurate).await;
    let late = ClientToken { token: Some("x".to_owned()), generation_time: Some(Timestamp::EPOCH) };
    let adds = [
        ("a", 1, ClientToken::default()),
        ("", 1, ClientToken::default()),
        ("a", 2, late),
        ("b", 3, engine.token("y")),
    ];
    let adds = adds.map(|(name, delta, token)| BatchAdd { counter_name: name.to_owned(), delta, token });
    let (results, _) = engine.service.batch_add_count("ns", adds.to_vec(), None).await.unwrap();
    assert!(matches!(
        results.as_slice(),
        [Ok(()), Err(Error::Invalid { .. }), Err(Error::EventTimeOutOfRange { .. }), Ok(())]
    ));
    let names = ["a", "b", "", "c"].map(str::to_owned);
    let counts = engine.service.batch_get_count("ns", &names, None).await.unwrap();
    let counts: Vec<_> = counts.into_iter().map(|count| count.ok().map(|count| count.count)).collect();
    assert_eq!(counts, [Some(1), Some(3), None, Some(0)]);
}
