//! A store that is not there, comes, goes and comes back: what the service answers meanwhile, and how soon it counts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::backend::memory;
use tallyman_counter::clock::Clock;
use tallyman_counter::configuration::{
    Accuracy, Cardinality, Counting, DatasetStorage, Durable, NamespaceConfiguration, Queue, Retention, TimePartition,
};
use tallyman_counter::dataset::{Dataset, Refusal};
use tallyman_counter::forward::TouchedCounters;
use tallyman_counter::model::{NamespaceName, SliceRecord, SliceSettings, SliceState, Timestamp};
use tallyman_counter::namespace::{DurableNamespace, Namespace, NamespaceStores};
use tallyman_counter::service::{ClientToken, CounterService, Error, Limits};
use tallyman_counter::store::{self, Append, Capabilities, EventPage, EventStore, NodeClock, Result, Scan};
use tokio::task::JoinHandle;

const DAY: Duration = Duration::from_secs(86_400);

struct VirtualClock(tokio::time::Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).plus(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// What a store elsewhere does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Down,
    /// Its nodes answer; the keyspace was not created.
    WithoutKeyspace,
    /// It answers everything but what its nodes' time is.
    ClocksSilent,
    /// Its nodes' clocks are an hour ahead.
    ClocksAhead,
    Up,
}

/// A store elsewhere, as its process sees it.
struct Elsewhere {
    inner: memory::Dataset,
    clock: Arc<VirtualClock>,
    mood: Arc<Mutex<Mood>>,
}

impl Elsewhere {
    fn answer(&self, refusing: &[Mood]) -> Result<()> {
        let mood = *self.mood.lock().unwrap();
        if refusing.contains(&mood) { Err(store::Error::Unavailable { reason: format!("{mood:?}") }) } else { Ok(()) }
    }
}

#[async_trait]
impl EventStore for Elsewhere {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>> {
        match self.answer(&[Mood::Down, Mood::WithoutKeyspace]) {
            Ok(()) => self.inner.append(appends).await,
            Err(error) => appends.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        self.answer(&[Mood::Down, Mood::WithoutKeyspace])?;
        self.inner.scan(scan).await
    }

    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        self.answer(&[Mood::Down, Mood::WithoutKeyspace])?;
        self.inner.slices().await
    }

    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        self.inner.create_slice(record).await
    }

    async fn set_slice_state(&self, slice_start: Timestamp, state: SliceState) -> Result<()> {
        self.inner.set_slice_state(slice_start, state).await
    }

    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        self.answer(&[Mood::Down, Mood::ClocksSilent])?;
        let ahead = if *self.mood.lock().unwrap() == Mood::ClocksAhead { 3_600 } else { 0 };
        let time = self.clock.now().plus(Duration::from_secs(ahead));
        Ok(vec![NodeClock { node: "n".to_owned(), time }])
    }
}

fn slice_settings(accept_limit: Duration) -> SliceSettings {
    SliceSettings {
        buckets_per_id: NonZeroU16::MIN,
        bucket_width: Duration::from_secs(600),
        accept_limit,
        write_timeout: Duration::from_secs(2),
        max_clock_skew: Duration::from_secs(1),
    }
}

struct Process {
    clock: Arc<VirtualClock>,
    store: memory::Dataset,
    mood: Arc<Mutex<Mood>>,
    dataset: Arc<Dataset>,
    service: CounterService,
    fresh: JoinHandle<()>,
}

impl Process {
    /// A process whose configuration has this accept limit, over a store without slices.
    fn start(mood: Mood, accept_limit: Duration) -> Self {
        let clock = Arc::new(VirtualClock(tokio::time::Instant::now()));
        let (store, mood) = (memory::Dataset::new(), Arc::new(Mutex::new(mood)));
        let events = Elsewhere { inner: store.clone(), clock: clock.clone(), mood: mood.clone() };
        let dataset = Dataset::new("d".to_owned(), Arc::new(events), Arc::new(store.clone()), clock.clone());
        let service = CounterService::new("test", clock.clone(), TouchedCounters::new(1 << 20), Limits::default());
        service.serve([namespace(accept_limit, &dataset)]);
        let keeping = dataset.clone();
        let fresh = tokio::spawn(async move { keeping.keep_fresh().await });
        Self { clock, store, mood, dataset, service, fresh }
    }

    /// The operator, by its own way to the store.
    async fn create_slice(&self, start: Timestamp, end: Timestamp, accept_limit: Duration) {
        let record = SliceRecord::new(start, end, slice_settings(accept_limit)).unwrap();
        self.store.create_slice(record).await.unwrap();
    }

    async fn create_one_slice(&self) {
        let end = self.clock.now().plus(DAY).rounded_up(DAY);
        self.create_slice(Timestamp::EPOCH, end, Duration::from_secs(5)).await;
    }

    fn become_(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn add(&self) -> std::result::Result<(), Error> {
        self.service.add_count("ns", "a", 1, ClientToken::default(), None).await.map(drop)
    }

    async fn add_at(&self, event_time: Timestamp) -> std::result::Result<(), Error> {
        let token = ClientToken { token: None, generation_time: Some(event_time) };
        self.service.add_count("ns", "a", 1, token, None).await.map(drop)
    }

    /// The reason of a refusal that blames the store.
    async fn store_refusal(&self) -> String {
        let refused = self.add().await;
        let Err(Error::Unavailable { reason }) = refused else { panic!("{refused:?}") };
        let refusal = self.dataset.health().refusal();
        assert_eq!(refusal, Some(Refusal::Store(reason.clone())), "readiness says the same");
        reason
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.fresh.abort();
    }
}

fn namespace(accept_limit: Duration, dataset: &Arc<Dataset>) -> Namespace {
    let storage = DatasetStorage::Memory { dataset: "d".to_owned() };
    let settings = Durable {
        accuracy: Accuracy::Accurate,
        cardinality: Cardinality::High,
        cache: None,
        events: storage.clone(),
        rollups: storage,
        rollup_endpoints: Vec::new(),
        rollup_tls: None,
        queue: Queue { num_queues: NonZeroU16::MIN, coalesce: Duration::from_secs(1), capacity_bytes: 1 << 20 },
        rollup_batch_count: NonZeroUsize::MIN,
        time_partition: TimePartition { settings: slice_settings(accept_limit), slice_width: DAY },
        retention: Retention { close_after: DAY, delete_after: 2 * DAY },
    };
    let configuration = NamespaceConfiguration {
        namespace: NamespaceName::new("ns").unwrap(),
        region: "r".to_owned(),
        counting: Counting::Durable(Box::new(settings.clone())),
    };
    let durable = DurableNamespace { settings, dataset: dataset.clone(), cache: None };
    Namespace { configuration: Arc::new(configuration), counting: NamespaceStores::Durable(Box::new(durable)) }
}

async fn millis(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_late_is_the_reason_until_then_and_is_used_within_the_longest_retry() {
    let process = Process::start(Mood::Down, Duration::from_secs(5));
    process.create_one_slice().await;
    for _ in 0..50 {
        assert!(process.store_refusal().await.contains("Down"));
        let read = process.service.get_count("ns", "a", None, None).await;
        assert!(matches!(&read, Err(Error::Unavailable { reason }) if reason.contains("Down")), "{read:?}");
        millis(500).await;
    }
    process.become_(Mood::WithoutKeyspace);
    millis(2_000).await;
    assert!(process.store_refusal().await.contains("WithoutKeyspace"));
    process.become_(Mood::Up);
    tokio::time::timeout(Duration::from_secs(2), process.dataset.accepting()).await.unwrap();
    process.add().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_from_the_start_is_used_at_once() {
    let process = Process::start(Mood::Up, Duration::from_secs(5));
    process.create_one_slice().await;
    tokio::time::timeout(Duration::from_millis(1), process.dataset.accepting()).await.unwrap();
    process.add().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn slices_that_are_created_later_are_found_without_a_request() {
    let process = Process::start(Mood::Up, Duration::from_secs(5));
    millis(60_000).await;
    assert!(process.store_refusal().await.contains("no time slices"));
    process.create_one_slice().await;
    tokio::time::timeout(Duration::from_secs(2), process.dataset.accepting()).await.unwrap();
    process.add().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_is_the_reason_and_not_the_clock_that_can_no_longer_be_compared() {
    let process = Process::start(Mood::Up, Duration::from_secs(5));
    process.create_one_slice().await;
    process.dataset.accepting().await;
    millis(5_000).await;
    process.become_(Mood::Down);
    // The comparison is too old by now.
    millis(9_000).await;
    assert!(process.store_refusal().await.contains("Down"));
    process.become_(Mood::Up);
    tokio::time::timeout(Duration::from_secs(2), process.dataset.accepting()).await.unwrap();
    process.add().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_cannot_be_compared_while_the_store_answers_is_not_trusted() {
    let process = Process::start(Mood::Up, Duration::from_secs(5));
    process.create_one_slice().await;
    process.dataset.accepting().await;
    process.become_(Mood::ClocksSilent);
    millis(20_000).await;
    let refused = process.add().await;
    assert!(matches!(refused, Err(Error::ClockSkew { .. })), "{refused:?}");
    assert!(matches!(process.dataset.health().refusal(), Some(Refusal::Clock(_))));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_found_off_is_the_reason_though_the_store_went_away_since() {
    let process = Process::start(Mood::ClocksAhead, Duration::from_secs(5));
    process.create_one_slice().await;
    millis(3_000).await;
    process.become_(Mood::Down);
    millis(1_000).await;
    let refused = process.add().await;
    assert!(matches!(refused, Err(Error::ClockSkew { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_an_event_is_its_slices_whatever_the_configuration_says() {
    let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
    // Configured after the first slice was created with five seconds, and before the second one was with a minute.
    for configured in [second, minute] {
        let process = Process::start(Mood::Up, configured);
        let end = process.clock.now().plus(minute).rounded_up(minute);
        process.create_slice(Timestamp::EPOCH, end, 5 * second).await;
        process.dataset.accepting().await;
        let now = process.clock.now();
        process.add_at(now.minus(4 * second)).await.unwrap();
        let refused = process.add_at(now.minus(6 * second)).await;
        assert!(matches!(refused, Err(Error::EventTimeOutOfRange { accept_limit, .. }) if accept_limit == 5 * second));
        // Within what the last slice allows of an event that no slice covers yet: another process may have created it.
        tokio::time::sleep(end.since(process.clock.now()) - 3 * second).await;
        let refused = process.add_at(end.plus(second)).await;
        assert!(matches!(&refused, Err(Error::Unavailable { .. })), "{refused:?}");
        process.create_slice(end, end.plus(DAY), minute).await;
        process.add_at(end.plus(second)).await.unwrap();
        process.add_at(end.plus(50 * second)).await.unwrap();
    }
}
