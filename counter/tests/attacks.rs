//! Long because the store that is attacked over, its faults and the attacks are read together.
//!
//! Attacks on the engine's promises, in virtual time, over a store that is honest about what Cassandra promises (no token
//! detection, no boundary of its own) and over the in-memory one. Each was a finding once, or a suspicion.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use tallyman_counter::aggregation;
use tallyman_counter::backend::memory;
use tallyman_counter::clock::Clock;
use tallyman_counter::configuration::{
    Accuracy, Cardinality, Counting, DatasetStorage, Durable, NamespaceConfiguration, Queue, Retention, TimePartition,
};
use tallyman_counter::dataset::Dataset;
use tallyman_counter::forward::{RollupEndpoint, Routes, TouchedCounters, Undelivered};
use tallyman_counter::model::{
    Checkpoint, CounterKey, CounterName, Event, EventItem, EventKey, NamespaceName, Partition, SliceRecord,
    SliceSettings, SliceState, Timestamp,
};
use tallyman_counter::namespace::{DurableNamespace, Namespace, NamespaceStores};
use tallyman_counter::pipeline::{Options, RollupServer};
use tallyman_counter::retention;
use tallyman_counter::service::{ClientToken, CounterService, Error, Limits};
use tallyman_counter::store::{
    self, Append, Capabilities, Cursor, EventPage, EventStore, NodeClock, Result, RollupCache, RollupRow, RollupStore,
    RowPage, Scan, Share, Touch,
};

#[path = "attacks/absences.rs"]
mod absences;

const START: i64 = 1_700_000_000_000_000;
const SECOND: i64 = 1_000_000;

/// True time, and clocks that lie about it by an offset.
struct VirtualClock {
    begun: tokio::time::Instant,
    offset: AtomicI64,
}

impl VirtualClock {
    fn new() -> Arc<Self> {
        Arc::new(Self { begun: tokio::time::Instant::now(), offset: AtomicI64::new(0) })
    }
    fn at(begun: tokio::time::Instant) -> Arc<Self> {
        Arc::new(Self { begun, offset: AtomicI64::new(0) })
    }
    fn step(&self, seconds: i64) {
        self.offset.fetch_add(seconds * SECOND, Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let micros = i64::try_from(self.begun.elapsed().as_micros()).unwrap();
        Timestamp::from_micros(START + micros + self.offset.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        self.begun.elapsed()
    }
}

type Hook = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What happens before calls on a store, or between a call and its answer.
#[derive(Default, Clone)]
struct Hooks {
    scan: Arc<Mutex<Option<Hook>>>,
    append: Arc<Mutex<Option<Hook>>>,
    slices: Arc<Mutex<Option<Hook>>>,
    slices_answer: Arc<Mutex<Option<Hook>>>,
    read: Arc<Mutex<Option<Hook>>>,
    list_fails: Arc<AtomicBool>,
    drop_fails: Arc<AtomicBool>,
    dropped_calls: Arc<AtomicU64>,
}

async fn hook(hook: &Mutex<Option<Hook>>) {
    let hook = hook.lock().unwrap().clone();
    if let Some(hook) = hook {
        hook().await;
    }
}

/// A hook that is called once.
fn once(slot: &Arc<Mutex<Option<Hook>>>, run: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) {
    let own = slot.clone();
    *slot.lock().unwrap() = Some(Arc::new(move || {
        own.lock().unwrap().take();
        run()
    }));
}

fn always(slot: &Arc<Mutex<Option<Hook>>>, run: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) {
    *slot.lock().unwrap() = Some(Arc::new(run));
}

/// As Cassandra: no detection of tokens, no boundary, a cell per key (greater value wins), checkpoints by timestamp.
#[derive(Default)]
struct Table {
    slices: BTreeMap<Timestamp, SliceRecord>,
    tables: BTreeMap<Partition, BTreeMap<EventKey, EventItem>>,
    rows: BTreeMap<CounterKey, RollupRow>,
}

#[derive(Default, Clone)]
struct Cassandra {
    table: Arc<Mutex<Table>>,
}

fn cell(item: EventItem) -> i64 {
    match item {
        EventItem::Add(delta) => delta,
        EventItem::Clear => 0,
    }
}

#[async_trait]
impl EventStore for Cassandra {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>> {
        let mut table = self.table.lock().unwrap();
        appends
            .into_iter()
            .map(|Append { partition, event }| {
                let slice_start = partition.slice_start;
                match table.slices.get(&slice_start) {
                    Some(record) if record.state != SliceState::Dropped => {}
                    _ => return Err(store::Error::MissingSlice { slice_start }),
                }
                let stored = table.tables.entry(partition).or_default().entry(event.key()).or_insert(event.item);
                if cell(*stored) < cell(event.item) {
                    *stored = event.item;
                }
                Ok(())
            })
            .collect()
    }
    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        let table = self.table.lock().unwrap();
        let slice_start = scan.partition.slice_start;
        match table.slices.get(&slice_start) {
            Some(record) if record.state != SliceState::Dropped => {}
            _ => return Err(store::Error::MissingSlice { slice_start }),
        }
        let Some(events) = table.tables.get(&scan.partition) else { return Ok(EventPage::default()) };
        let mut wanted = events
            .iter()
            .rev()
            .filter(|(key, _)| scan.after < key.event_time && key.event_time <= scan.through)
            .filter(|(key, _)| scan.resume.as_ref().is_none_or(|resume| *key < resume))
            .map(|(key, item)| Event { event_time: key.event_time, event_id: key.event_id.clone(), item: *item });
        let events: Vec<Event> = wanted.by_ref().take(scan.limit.max(1)).collect();
        let next = wanted.next().and_then(|_| events.last()).map(Event::key);
        Ok(EventPage { events, next })
    }
    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        Ok(self.table.lock().unwrap().slices.values().cloned().collect())
    }
    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        self.table.lock().unwrap().slices.entry(record.start).or_insert(record);
        Ok(())
    }
    async fn set_slice_state(&self, slice_start: Timestamp, to: SliceState) -> Result<()> {
        let mut table = self.table.lock().unwrap();
        let record = table.slices.get_mut(&slice_start).ok_or(store::Error::MissingSlice { slice_start })?;
        record.state = record.state.max(to);
        if record.state == SliceState::Dropped {
            table.tables.retain(|partition, _| partition.slice_start != slice_start);
        }
        Ok(())
    }
    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl RollupStore for Cassandra {
    async fn touch(&self, counter: &CounterKey, touch: Touch) -> Result<()> {
        let mut table = self.table.lock().unwrap();
        let row = table.rows.entry(counter.clone()).or_default();
        row.last_write_ts = row.last_write_ts.max(touch.last_write_ts);
        row.first_write_ts = match (row.first_write_ts, touch.first_write_ts) {
            (Some(stored), Some(offered)) => Some(stored.min(offered)),
            (stored, offered) => stored.or(offered),
        };
        Ok(())
    }
    async fn read(&self, counter: &CounterKey) -> Result<Option<RollupRow>> {
        Ok(self.table.lock().unwrap().rows.get(counter).copied())
    }
    async fn write_checkpoint(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        let mut table = self.table.lock().unwrap();
        let row = table.rows.entry(counter.clone()).or_default();
        row.checkpoint = row.checkpoint.max(Some(checkpoint));
        Ok(())
    }
    async fn list(&self, share: Share, from: Option<Cursor>, _limit: usize) -> Result<RowPage> {
        assert!(from.is_none());
        let table = self.table.lock().unwrap();
        let rows = table.rows.iter().enumerate().filter(|(i, _)| *i as u32 % share.count == share.index);
        Ok(RowPage { rows: rows.map(|(_, (counter, row))| (counter.clone(), *row)).collect(), next: None })
    }
}

/// One process's way to a store, with faults, and the node clock that it sees.
struct Faulty<S> {
    store: S,
    hooks: Hooks,
    node: Option<Arc<VirtualClock>>,
}

#[async_trait]
impl<S: EventStore + RollupStore> EventStore for Faulty<S> {
    fn capabilities(&self) -> Capabilities {
        Capabilities { in_process: self.node.is_none(), ..self.store.capabilities() }
    }
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>> {
        hook(&self.hooks.append).await;
        self.store.append(appends).await
    }
    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        hook(&self.hooks.scan).await;
        self.store.scan(scan).await
    }
    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        hook(&self.hooks.slices).await;
        let slices = self.store.slices().await;
        hook(&self.hooks.slices_answer).await;
        slices
    }
    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        self.store.create_slice(record).await
    }
    async fn set_slice_state(&self, slice_start: Timestamp, state: SliceState) -> Result<()> {
        if state == SliceState::Dropped {
            self.hooks.dropped_calls.fetch_add(1, Ordering::SeqCst);
            if self.hooks.drop_fails.swap(false, Ordering::SeqCst) {
                // The state is recorded, the table is still there: the process stops here.
                self.store.set_slice_state(slice_start, state).await?;
                return Err(store::Error::Timeout { reason: "DROP TABLE".to_owned() });
            }
        }
        self.store.set_slice_state(slice_start, state).await
    }
    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        Ok(self.node.iter().map(|node| NodeClock { node: "n".to_owned(), time: node.now() }).collect())
    }
}

#[async_trait]
impl<S: EventStore + RollupStore> RollupStore for Faulty<S> {
    async fn touch(&self, counter: &CounterKey, touch: Touch) -> Result<()> {
        self.store.touch(counter, touch).await
    }
    async fn read(&self, counter: &CounterKey) -> Result<Option<RollupRow>> {
        hook(&self.hooks.read).await;
        self.store.read(counter).await
    }
    async fn write_checkpoint(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        self.store.write_checkpoint(counter, checkpoint).await
    }
    async fn list(&self, share: Share, from: Option<Cursor>, limit: usize) -> Result<RowPage> {
        if self.hooks.list_fails.load(Ordering::SeqCst) {
            return Err(store::Error::Unavailable { reason: "this cluster is down".to_owned() });
        }
        self.store.list(share, from, limit).await
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
    async fn send(
        &self,
        namespace: &NamespaceName,
        counters: &[CounterName],
    ) -> std::result::Result<usize, Undelivered> {
        Ok(self.0.touched(namespace, counters))
    }
}

fn limits(accept_s: u64, skew_s: u64) -> SliceSettings {
    SliceSettings {
        buckets_per_id: NonZeroU16::new(3).unwrap(),
        bucket_width: Duration::from_secs(10),
        accept_limit: Duration::from_secs(accept_s),
        write_timeout: Duration::from_secs(2),
        max_clock_skew: Duration::from_secs(skew_s),
    }
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
            num_queues: NonZeroU16::new(1).unwrap(),
            coalesce: Duration::from_secs(1),
            capacity_bytes: 1 << 20,
        },
        rollup_batch_count: NonZeroUsize::new(4).unwrap(),
        time_partition: TimePartition { settings: limits(5, 1), slice_width: Duration::from_secs(60) },
        retention: Retention { close_after: Duration::from_secs(30), delete_after: Duration::from_secs(120) },
    }
}

/// A process: a clock, and its view of a dataset over a store.
struct Process {
    clock: Arc<VirtualClock>,
    hooks: Hooks,
    dataset: Arc<Dataset>,
    service: Arc<CounterService>,
    touched: Arc<TouchedCounters>,
}

fn open<S: EventStore + RollupStore + Clone>(
    name: &str,
    store: &S,
    clock: &Arc<VirtualClock>,
    node: Option<Arc<VirtualClock>>,
) -> (Arc<Dataset>, Hooks) {
    let hooks = Hooks::default();
    let faulty = Arc::new(Faulty { store: store.clone(), hooks: hooks.clone(), node });
    (Dataset::new(name.to_owned(), faulty.clone(), faulty, clock.clone()), hooks)
}

async fn process<S: EventStore + RollupStore + Clone>(
    store: &S,
    clock: &Arc<VirtualClock>,
    node: Option<Arc<VirtualClock>>,
) -> Process {
    let (dataset, hooks) = open("d", store, clock, node);
    dataset.refresh().await.unwrap();
    let touched = TouchedCounters::new(1 << 20);
    let service = Arc::new(CounterService::new("test", clock.clone(), touched.clone(), Limits::default()));
    Process { clock: clock.clone(), hooks, dataset, service, touched }
}

fn namespace(
    called: &str,
    settings: &Durable,
    dataset: &Arc<Dataset>,
    cache: Option<Arc<dyn RollupCache>>,
) -> Namespace {
    let configuration = NamespaceConfiguration {
        namespace: name(called),
        region: "r".to_owned(),
        counting: Counting::Durable(Box::new(settings.clone())),
    };
    let durable = DurableNamespace { settings: settings.clone(), dataset: dataset.clone(), cache };
    Namespace { configuration: Arc::new(configuration), counting: NamespaceStores::Durable(Box::new(durable)) }
}

fn name(name: &str) -> NamespaceName {
    NamespaceName::new(name).unwrap()
}

fn counter(namespace: &str, counter: &str) -> CounterKey {
    CounterKey { namespace: name(namespace), name: CounterName::new(counter).unwrap() }
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn token(text: &str, time: Timestamp) -> ClientToken {
    ClientToken { token: Some(text.to_owned()), generation_time: Some(time) }
}

async fn rolled_up(dataset: &Dataset, counter: &CounterKey) -> Option<i128> {
    let row = dataset.rollups.read(counter).await.unwrap();
    row.and_then(|row| row.checkpoint).map(|checkpoint| checkpoint.last_rollup_count)
}

/// Does `work` while the server sweeps. (The future of `keep_swept` is not `Send`: it cannot be spawned.)
async fn while_swept<T>(server: &Arc<RollupServer>, work: impl Future<Output = T>) -> T {
    tokio::select! {
        () = server.keep_swept() => unreachable!(),
        done = work => done,
    }
}

const FOREVER: Duration = Duration::from_secs(3600);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(FOREVER, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} has not ended after an hour"),
    }
}

/// Long names, so that nearly all of a queue's memory is in its names.
fn long_names(count: usize) -> Vec<CounterName> {
    (0..count).map(|i| CounterName::new(&format!("{i:0>500}")).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn f1_a_changed_setting_does_not_deadlock_a_full_queue() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let mut settings = settings(Accuracy::Eventual);
    settings.queue.capacity_bytes = 64 << 10; // The least that a document may say.
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    let server = RollupServer::new(Options::new("here"));
    server.serve([namespace("ns", &settings, &process.dataset, None)]).await;
    let taken = server.touched(&name("ns"), &long_names(500));
    assert!(taken > 50);
    tokio::task::yield_now().await;
    // Only the coalescing window changes: the queues stay.
    settings.queue.coalesce = Duration::from_secs(2);
    in_time("serve", server.serve([namespace("ns", &settings, &process.dataset, None)])).await;
    in_time("drain", server.drain()).await;
}

#[tokio::test(start_paused = true)]
async fn f2_after_a_changed_setting_a_queue_still_takes_rollup_events() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let mut settings = settings(Accuracy::Eventual);
    settings.queue.capacity_bytes = 64 << 10;
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    let server = RollupServer::new(Options::new("here"));
    server.serve([namespace("ns", &settings, &process.dataset, None)]).await;
    server.touched(&name("ns"), &long_names(500));
    tokio::task::yield_now().await;
    settings.queue.coalesce = Duration::from_secs(2);
    let (serving, last) = (server.clone(), namespace("ns", &settings, &process.dataset, None));
    tokio::spawn(async move { serving.serve([last]).await });
    seconds(3600).await;
    assert_eq!(server.touched(&name("ns"), &[CounterName::new("a").unwrap()]), 1);
}

#[tokio::test(start_paused = true)]
async fn g_a_sweep_that_waits_for_room_outlives_a_change_of_the_number_of_queues() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let mut settings = settings(Accuracy::Eventual);
    settings.queue.capacity_bytes = 64 << 10;
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    for name in long_names(500) {
        process.service.add_count("ns", name.as_str(), 1, ClientToken::default(), None).await.unwrap();
    }
    let server = RollupServer::new(Options::new("here"));
    server.serve([namespace("ns", &settings, &process.dataset, None)]).await;
    while_swept(&server, async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        settings.queue.num_queues = NonZeroU16::new(2).unwrap();
        in_time("serve", server.serve([namespace("ns", &settings, &process.dataset, None)])).await;
        seconds(3600).await;
    })
    .await;
    let mut missing = 0;
    for long in long_names(500) {
        missing += usize::from(rolled_up(&process.dataset, &counter("ns", long.as_str())).await != Some(1));
    }
    assert_eq!(missing, 0, "counters never swept in an hour");
}

#[tokio::test(start_paused = true)]
async fn h_a_dataset_that_is_down_does_not_stop_the_sweeps_of_others() {
    let clock = VirtualClock::new();
    let settings = settings(Accuracy::Eventual);
    let (up, down) = (Cassandra::default(), Cassandra::default());
    let (up, _) = open("b-up", &up, &clock, None);
    let (down, hooks) = open("a-down", &down, &clock, None);
    for dataset in [&up, &down] {
        dataset.refresh().await.unwrap();
        retention::create_ahead(dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    }
    let namespaces = [namespace("up", &settings, &up, None), namespace("down", &settings, &down, None)];
    let service = CounterService::new("test", clock.clone(), TouchedCounters::new(1 << 20), Limits::default());
    service.serve(namespaces.clone());
    hooks.list_fails.store(true, Ordering::SeqCst);
    service.add_count("up", "a", 1, ClientToken::default(), None).await.unwrap();
    let server = RollupServer::new(Options::new("here"));
    server.serve(namespaces).await;
    while_swept(&server, seconds(600)).await;
    assert_eq!(rolled_up(&up, &counter("up", "a")).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn i_two_datasets_of_one_name_on_two_clusters_are_both_swept() {
    let clock = VirtualClock::new();
    let settings = settings(Accuracy::Eventual);
    let (one, _) = open("d", &Cassandra::default(), &clock, None);
    let (two, _) = open("d", &Cassandra::default(), &clock, None);
    for dataset in [&one, &two] {
        dataset.refresh().await.unwrap();
        retention::create_ahead(dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    }
    let namespaces = [namespace("one", &settings, &one, None), namespace("two", &settings, &two, None)];
    let service = CounterService::new("test", clock.clone(), TouchedCounters::new(1 << 20), Limits::default());
    service.serve(namespaces.clone());
    for ns in ["one", "two"] {
        service.add_count(ns, "a", 1, ClientToken::default(), None).await.unwrap();
    }
    let server = RollupServer::new(Options::new("here"));
    server.serve(namespaces).await;
    while_swept(&server, seconds(600)).await;
    assert_eq!(rolled_up(&two, &counter("two", "a")).await, Some(1));
    assert_eq!(rolled_up(&one, &counter("one", "a")).await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn c_a_clock_that_steps_back_during_a_rollup_costs_no_acknowledged_count() {
    let (clock, store) = (VirtualClock::new(), memory::Dataset::new());
    let process = process(&store, &clock, None).await;
    let settings = settings(Accuracy::Eventual);
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    seconds(90).await;
    process.service.add_count("ns", "a", 1, ClientToken::default(), None).await.unwrap();
    seconds(20).await;
    // The rollup has read the row; its other partitions are scanned while the first scan takes its time.
    let acknowledged = Arc::new(AtomicBool::new(false));
    let (service, stepping, seen) = (process.service.clone(), clock.clone(), acknowledged.clone());
    once(&process.hooks.scan, move || {
        let (service, stepping, seen) = (service.clone(), stepping.clone(), seen.clone());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stepping.step(-25);
            let added = service.add_count("ns", "a", 10, ClientToken::default(), None).await;
            seen.store(added.is_ok(), Ordering::SeqCst);
        })
    });
    let server = RollupServer::new(Options::new("here"));
    server.serve([namespace("ns", &settings, &process.dataset, None)]).await;
    server.sweep_once().await.unwrap();
    seconds(3).await;
    clock.step(25);
    seconds(60).await;
    server.sweep_once().await.unwrap();
    seconds(60).await;
    let expected = if acknowledged.load(Ordering::SeqCst) { 11 } else { 1 };
    assert_eq!(rolled_up(&process.dataset, &counter("ns", "a")).await, Some(expected));
}

#[tokio::test(start_paused = true)]
async fn e_a_reused_token_is_noticed_though_another_dataset_has_a_shorter_accept_limit() {
    let clock = VirtualClock::new();
    let short = settings(Accuracy::Accurate);
    let mut long = short.clone();
    long.time_partition.settings = limits(60, 1);
    let (a, _) = open("short", &Cassandra::default(), &clock, None);
    let (b, _) = open("long", &Cassandra::default(), &clock, None);
    for (dataset, settings) in [(&a, &short), (&b, &long)] {
        dataset.refresh().await.unwrap();
        retention::create_ahead(dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    }
    let service = CounterService::new("test", clock.clone(), TouchedCounters::new(1 << 20), Limits::default());
    service.serve([namespace("short", &short, &a, None), namespace("long", &long, &b, None)]);
    let mine = token("t", clock.now());
    service.add_count("long", "a", 5, mine.clone(), None).await.unwrap();
    for _ in 0..25 {
        seconds(1).await;
        service.add_count("short", "other", 1, ClientToken::default(), None).await.unwrap();
    }
    let reused = service.add_count("long", "a", 7, mine, None).await;
    let count = service.get_count("long", "a", None, None).await.unwrap().count;
    assert!(matches!(reused, Err(Error::TokenReused { .. })), "{reused:?}, and the count is {count}");
}

#[tokio::test(start_paused = true)]
async fn d_a_write_beyond_the_known_slices_answers_by_its_deadline() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let settings = settings(Accuracy::Eventual);
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    always(&process.hooks.slices, || Box::pin(std::future::pending()));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let add = process.service.add_count("ns", "a", 1, ClientToken::default(), Some(deadline));
    let _ = in_time("an add with a deadline of a second", add).await;
}

#[tokio::test(start_paused = true)]
async fn k_touched_counters_are_sent_though_the_sending_loop_was_started_again() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let settings = settings(Accuracy::Eventual);
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    let server = RollupServer::new(Options::new("here"));
    server.serve([namespace("ns", &settings, &process.dataset, None)]).await;
    process
        .touched
        .route(Routes::from([(name("ns"), vec![Arc::new(InProcess(server.clone())) as Arc<dyn RollupEndpoint>])]));
    process.touched.touch(&counter("ns", "a"));
    // Stopped while it gathers, and started again.
    let _ = tokio::time::timeout(Duration::from_millis(50), process.touched.run()).await;
    let again = process.touched.clone();
    tokio::spawn(async move { again.run().await });
    for i in 0..10 {
        process.touched.touch(&counter("ns", &i.to_string()));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.statistics().queued, 11);
}

#[tokio::test(start_paused = true)]
async fn m_as_of_of_an_accurate_count_does_not_lie_when_the_clock_is_not_trusted() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let node = VirtualClock::at(clock.begun);
    let right = process(&store, &clock, Some(node.clone())).await;
    let wrong_clock = VirtualClock::at(clock.begun);
    let wrong = process(&store, &wrong_clock, Some(node)).await;
    let settings = settings(Accuracy::Accurate);
    retention::create_ahead(&right.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    wrong.dataset.refresh().await.unwrap();
    for process in [&right, &wrong] {
        process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
        let dataset = process.dataset.clone();
        tokio::spawn(async move { dataset.keep_fresh().await });
    }
    seconds(20).await;
    wrong_clock.step(3600);
    right.service.add_count("ns", "a", 1, ClientToken::default(), None).await.unwrap();
    let Ok(early) = wrong.service.get_count("ns", "a", None, None).await else { return };
    seconds(60).await;
    right.service.add_count("ns", "a", 10, ClientToken::default(), None).await.unwrap();
    let acknowledged = right.clock.now();
    assert!(
        early.count == 11 || early.as_of.unwrap() < acknowledged,
        "a count of {} as of {} lacks what was acknowledged at {acknowledged}",
        early.count,
        early.as_of.unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a1_the_first_slice_of_a_stalled_leader_arriving_late_hides_no_counts() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let settings = settings(Accuracy::Accurate);
    // A leader with another slice width (an hour) decided on the first slice, and stalled before it wrote it.
    let hour = Duration::from_secs(3600);
    let start = clock.now().minus(Duration::from_secs(5)).rounded_down(hour);
    let late = SliceRecord::new(start, start.plus(hour), settings.time_partition.settings).unwrap();
    // The next leader went on, with slices of a minute.
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    process.service.add_count("ns", "a", 5, ClientToken::default(), None).await.unwrap();
    assert_eq!(process.service.get_count("ns", "a", None, None).await.unwrap().count, 5);
    process.dataset.events.create_slice(late).await.unwrap();
    process.dataset.refresh_slices().await.unwrap();
    assert_eq!(process.service.get_count("ns", "a", None, None).await.unwrap().count, 5);
}

#[tokio::test(start_paused = true)]
async fn a2_a_slice_created_late_before_the_first_one_takes_no_events_that_checkpoints_cover() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let settings = settings(Accuracy::Accurate);
    let minute = Duration::from_secs(60);
    // Six seconds past a full minute: the first slice begins at that minute; a slower leader had begun one minute before.
    let now = clock.now();
    let wait = now.rounded_up(minute).plus(Duration::from_micros(5_500_000)).since(now);
    tokio::time::sleep(wait).await;
    let first = clock.now().rounded_down(minute);
    let late = SliceRecord::new(first.minus(minute), first, limits(60, 1)).unwrap();
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    let server = RollupServer::new(Options::new("here"));
    server.serve([namespace("ns", &settings, &process.dataset, None)]).await;
    process.service.add_count("ns", "a", 5, ClientToken::default(), None).await.unwrap();
    server.sweep_once().await.unwrap();
    seconds(2).await;
    process.dataset.events.create_slice(late).await.unwrap();
    process.dataset.refresh_slices().await.unwrap();
    let before = token("late", first.minus(Duration::from_secs(3)));
    if process.service.add_count("ns", "a", 10, before, None).await.is_ok() {
        assert_eq!(process.service.get_count("ns", "a", None, None).await.unwrap().count, 15);
    }
}

#[tokio::test(start_paused = true)]
async fn n_a_drop_that_was_cut_short_is_finished_by_a_later_run() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let settings = settings(Accuracy::Eventual);
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    process.hooks.drop_fails.store(true, Ordering::SeqCst);
    seconds(200).await;
    assert!(retention::close_and_drop(&process.dataset, settings.retention).await.is_err());
    let calls = process.hooks.dropped_calls.load(Ordering::SeqCst);
    assert_eq!(calls, 1);
    let first = process.dataset.events.slices().await.unwrap()[0].clone();
    assert_eq!(first.state, SliceState::Dropped);
    // No other slice is due: the only call there can be is for this one.
    retention::close_and_drop(&process.dataset, settings.retention).await.unwrap();
    assert!(process.hooks.dropped_calls.load(Ordering::SeqCst) > calls, "its table stays for ever");
}

#[tokio::test(start_paused = true)]
async fn j_a_clock_that_is_not_trusted_creates_no_slices() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, Some(VirtualClock::at(clock.begun))).await;
    let settings = settings(Accuracy::Eventual);
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    let before = (*process.dataset.slices()).clone();
    clock.step(365 * 86_400);
    process.dataset.clock.measure(process.dataset.events.as_ref()).await.unwrap();
    let _ = retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await;
    assert_eq!(*process.dataset.slices(), before, "a slice that no retention ends for a year");
}

#[tokio::test(start_paused = true)]
async fn r_an_acknowledgement_is_held_to_the_skew_of_the_events_own_slice() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let node = VirtualClock::at(clock.begun);
    let operator = process(&store, &clock, Some(node.clone())).await;
    let minute = Duration::from_secs(60);
    let first = clock.now().rounded_down(minute);
    let end = first.plus(minute);
    for record in [
        SliceRecord::new(Timestamp::EPOCH, end, limits(5, 1)).unwrap(),
        // A generous skew from here on.
        SliceRecord::new(end, end.plus(FOREVER), limits(5, 30)).unwrap(),
    ] {
        operator.dataset.events.create_slice(record).await.unwrap();
    }
    operator.dataset.refresh().await.unwrap();
    let slow = VirtualClock::at(clock.begun);
    let sidecar = process(&store, &slow, Some(node)).await;
    let settings = settings(Accuracy::Eventual);
    sidecar.service.serve([namespace("ns", &settings, &sidecar.dataset, None)]);
    tokio::time::sleep(end.since(clock.now()) - Duration::from_millis(100)).await;
    for process in [&operator, &sidecar] {
        process.dataset.refresh().await.unwrap();
        let dataset = process.dataset.clone();
        tokio::spawn(async move { dataset.keep_fresh().await });
    }
    let stepping = slow.clone();
    // The store takes 9.2 s over the event. Meanwhile the slice is closed, and the sidecar's clock falls 3 s behind.
    once(&sidecar.hooks.append, move || {
        stepping.step(-3);
        Box::pin(tokio::time::sleep(Duration::from_millis(9_200)))
    });
    let closing = async {
        tokio::time::sleep(Duration::from_millis(9_150)).await;
        let retention = Retention { close_after: Duration::from_secs(9), delete_after: Duration::from_secs(120) };
        let report = retention::close_and_drop(&operator.dataset, retention).await.unwrap();
        assert_eq!(report.closed, 1);
        sidecar.dataset.refresh().await.unwrap();
    };
    let adding = sidecar.service.add_count("ns", "a", 1, token("t", clock.now()), None);
    let (added, ()) = tokio::join!(adding, closing);
    slow.step(3);
    seconds(120).await;
    let server = RollupServer::new(Options::new("here"));
    server.serve([namespace("ns", &settings, &operator.dataset, None)]).await;
    server.sweep_once().await.unwrap();
    seconds(5).await;
    if added.is_ok() {
        assert_eq!(rolled_up(&operator.dataset, &counter("ns", "a")).await, Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn o_a_slow_read_of_the_slices_does_not_let_the_clock_go_unmeasured() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, Some(VirtualClock::at(clock.begun))).await;
    let settings = settings(Accuracy::Eventual);
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    let dataset = process.dataset.clone();
    tokio::spawn(async move { dataset.keep_fresh().await });
    seconds(5).await;
    always(&process.hooks.slices, || Box::pin(tokio::time::sleep(Duration::from_secs(12))));
    for _ in 0..60 {
        seconds(1).await;
        process.service.add_count("ns", "a", 1, ClientToken::default(), None).await.unwrap();
    }
}

/// A cache whose server does not answer.
struct Hanging;

#[async_trait]
impl RollupCache for Hanging {
    async fn get(&self, _: &CounterKey) -> Result<Option<Checkpoint>> {
        std::future::pending().await
    }
    async fn offer(&self, _: &CounterKey, _: Checkpoint) -> Result<()> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn l_a_cache_that_hangs_stops_neither_reads_nor_rollups() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let settings = settings(Accuracy::Eventual);
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    let served = namespace("ns", &settings, &process.dataset, Some(Arc::new(Hanging)));
    process.service.serve([served.clone()]);
    let server = RollupServer::new(Options::new("here"));
    server.serve([served]).await;
    process.service.add_count("ns", "a", 1, ClientToken::default(), None).await.unwrap();
    server.touched(&name("ns"), &[CounterName::new("a").unwrap()]);
    seconds(60).await;
    assert_eq!(rolled_up(&process.dataset, &counter("ns", "a")).await, Some(1), "rollups hang");
    assert_eq!(process.service.get_count("ns", "a", None, None).await.unwrap().count, 1);
}

#[tokio::test(start_paused = true)]
async fn p_more_counters_than_a_low_cardinality_queue_holds_all_converge() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let mut settings = settings(Accuracy::Eventual);
    settings.cardinality = Cardinality::Low;
    settings.queue.capacity_bytes = 64 << 10;
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    let server = RollupServer::new(Options::new("here"));
    server.serve([namespace("ns", &settings, &process.dataset, None)]).await;
    always(&process.hooks.read, || Box::pin(tokio::time::sleep(Duration::from_millis(5))));
    let names = long_names(1000);
    while_swept(&server, async {
        for (i, name) in names.iter().enumerate() {
            process.service.add_count("ns", name.as_str(), 1, ClientToken::default(), None).await.unwrap();
            server.touched(&self::name("ns"), std::slice::from_ref(name));
            assert!(server.statistics().queued_bytes <= 64 << 10, "{i}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..300 {
            seconds(1).await;
            assert!(server.statistics().queued_bytes <= 64 << 10);
        }
    })
    .await;
    let mut missing = 0;
    for long in &names {
        missing += usize::from(rolled_up(&process.dataset, &counter("ns", long.as_str())).await != Some(1));
    }
    assert_eq!(missing, 0, "five minutes after the last write");
}

#[tokio::test(start_paused = true)]
async fn q_a_drain_does_not_wait_until_a_smaller_queue_has_taken_what_the_larger_held() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let mut settings = settings(Accuracy::Eventual);
    settings.queue.coalesce = Duration::from_secs(10);
    settings.queue.capacity_bytes = 16 << 20;
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    let server = RollupServer::new(Options::new("here"));
    server.serve([namespace("ns", &settings, &process.dataset, None)]).await;
    assert_eq!(server.touched(&name("ns"), &long_names(20_000)), 20_000);
    settings.queue.capacity_bytes = 64 << 10;
    let (serving, last) = (server.clone(), namespace("ns", &settings, &process.dataset, None));
    tokio::spawn(async move { serving.serve([last]).await });
    seconds(1).await;
    let begun = tokio::time::Instant::now();
    in_time("drain", server.drain()).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn t_a_namespace_deleted_and_created_again_between_two_looks_answers_truly() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let settings = settings(Accuracy::Eventual);
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    process.service.add_count("ns", "a", 1, ClientToken::default(), None).await.unwrap();
    seconds(30).await;
    // The operator deletes the namespace's rows and events; the name is created again when the boundary has passed. The
    // sidecar's configuration is as before: it never saw it gone, or saw it gone and back in one reload.
    {
        let mut table = store.table.lock().unwrap();
        table.rows.clear();
        table.tables.clear();
    }
    seconds(30).await;
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    process.service.add_count("ns", "a", 7, ClientToken::default(), None).await.unwrap();
    let acknowledged = clock.now();
    seconds(15).await;
    let count = process.service.get_count("ns", "a", None, None).await.unwrap();
    assert!(
        count.count == 7 || count.as_of.unwrap() < acknowledged,
        "{count:?} lacks what was acknowledged at {acknowledged}"
    );
}

#[tokio::test(start_paused = true)]
async fn u_a_watch_goes_on_after_the_clock_was_wrong_for_a_moment() {
    use futures::StreamExt;
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, Some(VirtualClock::at(clock.begun))).await;
    let settings = settings(Accuracy::Accurate);
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    let dataset = process.dataset.clone();
    tokio::spawn(async move { dataset.keep_fresh().await });
    seconds(5).await;
    clock.step(3600);
    let mut watch = std::pin::pin!(process.service.watch_count("ns", "a").unwrap());
    // Whatever it says now…
    let first = watch.next().await.unwrap();
    clock.step(-3600);
    seconds(10).await;
    process.service.add_count("ns", "a", 1, ClientToken::default(), None).await.unwrap();
    if first.is_ok() {
        let next = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
        assert!(next.is_ok(), "a change is not told for a minute");
    }
}

/// A store whose calls are slow, time out before or after they were applied, and are applied late.
#[derive(Clone)]
struct Chaos {
    store: Cassandra,
    seed: Arc<Mutex<u64>>,
    on: Arc<AtomicBool>,
}

impl Chaos {
    fn random(&self, below: u64) -> u64 {
        let mut seed = self.seed.lock().unwrap();
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
    async fn delay(&self) {
        if self.on.load(Ordering::SeqCst) {
            let most = if self.random(20) == 0 { 6_000 } else { 300 };
            tokio::time::sleep(Duration::from_millis(self.random(most))).await;
        }
    }
    /// Does it, or not, or later; tells the truth, or times out.
    async fn write<T: Send + 'static>(&self, write: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        self.delay().await;
        let timeout = || Err(store::Error::Timeout { reason: "chaos".to_owned() });
        match if self.on.load(Ordering::SeqCst) { self.random(10) } else { 9 } {
            0 => timeout(),
            1 => {
                write.await?;
                timeout()
            }
            2 => {
                let later = Duration::from_millis(self.random(25_000));
                tokio::spawn(async move {
                    tokio::time::sleep(later).await;
                    let _ = write.await;
                });
                timeout()
            }
            _ => {
                let done = write.await;
                self.delay().await;
                done
            }
        }
    }
    async fn read<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        self.delay().await;
        if self.on.load(Ordering::SeqCst) && self.random(40) == 0 {
            return Err(store::Error::Timeout { reason: "chaos".to_owned() });
        }
        let done = read.await;
        self.delay().await;
        done
    }
}

#[async_trait]
impl EventStore for Chaos {
    fn capabilities(&self) -> Capabilities {
        // The clocks differ by less than is allowed, and are not compared.
        Capabilities { in_process: true, ..Capabilities::default() }
    }
    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>> {
        futures::future::join_all(appends.into_iter().map(|append| {
            let store = self.store.clone();
            self.write(async move { store.append(vec![append]).await.remove(0) })
        }))
        .await
    }
    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        let scan = Scan { limit: scan.limit.min(2), ..scan };
        self.read(self.store.scan(scan)).await
    }
    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        self.read(self.store.slices()).await
    }
    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        let store = self.store.clone();
        self.write(async move { store.create_slice(record).await }).await
    }
    async fn set_slice_state(&self, slice_start: Timestamp, state: SliceState) -> Result<()> {
        let store = self.store.clone();
        self.write(async move { store.set_slice_state(slice_start, state).await }).await
    }
    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl RollupStore for Chaos {
    async fn touch(&self, counter: &CounterKey, touch: Touch) -> Result<()> {
        let (store, counter) = (self.store.clone(), counter.clone());
        self.write(async move { store.touch(&counter, touch).await }).await
    }
    async fn read(&self, counter: &CounterKey) -> Result<Option<RollupRow>> {
        Chaos::read(self, RollupStore::read(&self.store, counter)).await
    }
    async fn write_checkpoint(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        let (store, counter) = (self.store.clone(), counter.clone());
        self.write(async move { store.write_checkpoint(&counter, checkpoint).await }).await
    }
    async fn list(&self, share: Share, from: Option<Cursor>, limit: usize) -> Result<RowPage> {
        Chaos::read(self, self.store.list(share, from, limit)).await
    }
}

/// What a client did: when it began, when (if) it was acknowledged, and the event.
#[derive(Clone, Debug)]
struct Did {
    begun: Timestamp,
    acknowledged: Option<Timestamp>,
    key: (Timestamp, String, bool),
    delta: i64,
}

/// The counts possible when all of `sure` and any of `maybe` are in.
fn possible(sure: &[&Did], maybe: &[&Did]) -> std::collections::BTreeSet<i64> {
    let mut counts = std::collections::BTreeSet::new();
    assert!(maybe.len() <= 16, "{}", maybe.len());
    for chosen in 0..1_u32 << maybe.len() {
        let some = maybe.iter().enumerate().filter(|(i, _)| chosen & (1 << i) != 0).map(|(_, did)| *did);
        let mut all: Vec<&Did> = sure.iter().copied().chain(some).collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        counts.insert(all.iter().fold(0, |count, did| if did.key.2 { 0 } else { count + did.delta }));
    }
    counts
}

async fn chaos(seed: u64, accuracy: Accuracy) {
    let clock = VirtualClock::new();
    let store = Chaos { store: Cassandra::default(), seed: Arc::new(Mutex::new(seed)), on: Arc::default() };
    let mut settings = settings(accuracy);
    settings.retention = Retention { close_after: Duration::from_secs(20), delete_after: Duration::from_secs(40) };
    settings.time_partition.slice_width = Duration::from_secs(30);
    if seed.is_multiple_of(2) {
        settings.cardinality = Cardinality::Low;
    }
    let mut sidecars = Vec::new();
    let mut servers = Vec::new();
    for i in 0..3_i64 {
        // Within half of the skew allowed, either way.
        let skewed = VirtualClock::at(clock.begun);
        let skew = std::env::var("ATTACK_SKEW_MICROS").map_or(450_000, |micros| micros.parse().unwrap());
        skewed.offset.store((i - 1) * skew, Ordering::SeqCst);
        let dataset = Dataset::new("d".to_owned(), Arc::new(store.clone()), Arc::new(store.clone()), skewed.clone());
        dataset.refresh().await.unwrap();
        if i == 0 {
            // Every slice with other settings.
            let mut start = Timestamp::EPOCH;
            let begun = clock.now().rounded_down(Duration::from_secs(60)).minus(Duration::from_secs(60));
            for _ in 0..20 {
                let end = start.max(begun).plus(Duration::from_secs(15 + store.random(60)));
                let slice = SliceSettings {
                    buckets_per_id: NonZeroU16::new(1 + store.random(5) as u16).unwrap(),
                    bucket_width: Duration::from_secs(1 + store.random(30)),
                    accept_limit: Duration::from_secs(5 + store.random(6)),
                    write_timeout: Duration::from_millis(500 + store.random(5_000)),
                    max_clock_skew: Duration::from_millis(900 + store.random(2_000)),
                };
                dataset.events.create_slice(SliceRecord::new(start, end, slice).unwrap()).await.unwrap();
                start = end;
            }
            dataset.refresh().await.unwrap();
        }
        let fresh = dataset.clone();
        tokio::spawn(async move { fresh.keep_fresh().await });
        let server = RollupServer::new(Options::new("here"));
        let served = namespace("ns", &settings, &dataset, None);
        server.serve([served.clone()]).await;
        let touched = TouchedCounters::new(1 << 20);
        touched
            .route(Routes::from([(name("ns"), vec![Arc::new(InProcess(server.clone())) as Arc<dyn RollupEndpoint>])]));
        let service = Arc::new(CounterService::new("test", skewed.clone(), touched.clone(), Limits::default()));
        service.serve([served]);
        tokio::spawn(async move { touched.run().await });
        sidecars.push((service, skewed));
        servers.push((server, dataset));
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    store.on.store(true, Ordering::SeqCst);
    let history: Arc<Mutex<Vec<Did>>> = Arc::default();
    let reads = Arc::new(AtomicU64::new(0));
    let clients = async {
        let mut clients = Vec::new();
        for client in 0..3_u64 {
            let (store, sidecars, history, clock, reads) =
                (store.clone(), sidecars.clone(), history.clone(), clock.clone(), reads.clone());
            clients.push(async move {
                for op in 0..14_u64 {
                    tokio::time::sleep(Duration::from_millis(store.random(12_000))).await;
                    let (service, own) = &sidecars[store.random(3) as usize];
                    if store.random(3) == 0 {
                        let begun = clock.now();
                        if let Ok(count) = service.get_count("ns", "a", None, None).await {
                            reads.fetch_add(1, Ordering::SeqCst);
                            let history = history.lock().unwrap();
                            let as_of = count.as_of.unwrap();
                            let eventual = accuracy == Accuracy::Eventual;
                            let sure = |did: &&Did| match did.acknowledged {
                                None => false,
                                Some(_) if eventual => did.key.0 <= as_of,
                                Some(acknowledged) => acknowledged < begun,
                            };
                            let maybe = |did: &&Did| {
                                if eventual { did.acknowledged.is_none() && did.key.0 <= as_of } else { !sure(did) }
                            };
                            let (s, m): (Vec<_>, Vec<_>) =
                                (history.iter().filter(sure).collect(), history.iter().filter(maybe).collect());
                            let counts = possible(&s, &m);
                            assert!(
                                counts.contains(&count.count),
                                "seed {seed}: read {count:?} at {begun}, possible {counts:?} of {history:#?}"
                            );
                        }
                        continue;
                    }
                    let clear = store.random(8) == 0;
                    let offset = store.random(9_000_000) as i64 - 4_500_000;
                    let time = Timestamp::from_micros(own.now().as_micros() + offset);
                    let text = format!("{client}-{op}");
                    let delta = 1 << (client * 14 + op);
                    let at = {
                        let mut history = history.lock().unwrap();
                        history.push(Did {
                            begun: clock.now(),
                            acknowledged: None,
                            key: (time, text.clone(), clear),
                            delta,
                        });
                        history.len() - 1
                    };
                    for _ in 0..1 + store.random(4) {
                        let (service, _) = &sidecars[store.random(3) as usize];
                        let deadline =
                            Some(tokio::time::Instant::now() + Duration::from_millis(500 + store.random(9_000)));
                        let done = if clear {
                            service.clear_count("ns", "a", token(&text, time), deadline).await
                        } else {
                            service.add_count("ns", "a", delta, token(&text, time), deadline).await
                        };
                        if done.is_ok() {
                            let mut history = history.lock().unwrap();
                            history[at].acknowledged.get_or_insert(clock.now());
                            // A late duplicate of what was acknowledged, now and then.
                            if store.random(2) == 0 {
                                break;
                            }
                        }
                        tokio::time::sleep(Duration::from_millis(store.random(1_500))).await;
                    }
                }
            });
        }
        futures::future::join_all(clients).await;
        seconds(60).await;
        store.on.store(false, Ordering::SeqCst);
        seconds(60).await;
    };
    let (closed, changing) = (AtomicU64::new(0), servers[0].0.clone());
    let operator = async {
        let mut nth = 0_u16;
        loop {
            seconds(5).await;
            let _ = retention::create_ahead(&servers[0].1, settings.time_partition, retention::Ahead::USUAL).await;
            if let Ok(report) = retention::close_and_drop(&servers[0].1, settings.retention).await {
                closed.fetch_add(report.closed as u64, Ordering::SeqCst);
            }
            nth += 1;
            let mut changed = settings.clone();
            changed.queue.num_queues = NonZeroU16::new(1 + nth % 3).unwrap();
            changing.serve([namespace("ns", &changed, &servers[0].1, None)]).await;
        }
    };
    tokio::select! {
        biased;
        () = clients => {}
        () = operator => unreachable!(),
        () = servers[0].0.keep_swept() => unreachable!(),
        () = servers[1].0.keep_swept() => unreachable!(),
        () = servers[2].0.keep_swept() => unreachable!(),
    }
    let history = std::mem::take(&mut *history.lock().unwrap());
    let (sure, maybe): (Vec<_>, Vec<_>) = history.iter().partition(|did| did.acknowledged.is_some());
    let count = rolled_up(&servers[0].1, &counter("ns", "a")).await.unwrap_or(0);
    let counts = possible(&sure, &maybe);
    assert!(counts.contains(&(count as i64)), "seed {seed}: {count}, possible {counts:?} of {history:#?}");
    if seed.is_multiple_of(40) {
        let (reads, closed) = (reads.load(Ordering::SeqCst), closed.load(Ordering::SeqCst));
        println!(
            "seed {seed}: {} sure, {} maybe, {reads} reads, {closed} closed, begun {}",
            sure.len(),
            maybe.len(),
            history[0].begun
        );
    }
}

#[tokio::test(start_paused = true)]
async fn x_chaos_eventual() {
    for seed in seeds() {
        chaos(seed, Accuracy::Eventual).await;
    }
}

#[tokio::test(start_paused = true)]
async fn x_chaos_accurate() {
    for seed in seeds() {
        chaos(seed, Accuracy::Accurate).await;
    }
}

/// `ATTACK_SEEDS=from..to`, or a few.
fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("ATTACK_SEEDS").ok();
    let given = given.as_deref().and_then(|seeds| seeds.split_once(".."));
    given.map_or(0..10, |(from, to)| from.parse().unwrap()..to.parse().unwrap())
}
