//! How many events a second the Cassandra store takes, as the write path sends them, beside updates of a counter column by the
//! same driver: single adds by 64 producers and batches of 1,000 by 8, spread over 100,000 counters and on one. In rounds, so
//! that what else the machine does strikes both. Needs a Cassandra (`cargo xtask servers up`), and makes a keyspace of its own.
//! `cargo run --release -p tallyman-counter --example cassandra_throughput [SECONDS] [ROUNDS] [HOST:PORT] [DATACENTER]`

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // A measurement fails by panicking, and reads the clock.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::unprepared::Statement;
use tallyman_counter::backend::cassandra::schema::ddl::Ddl;
use tallyman_counter::backend::cassandra::schema::tables::Table;
use tallyman_counter::backend::cassandra::{Cluster, Dataset, Reach};
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::model::{
    CounterKey, CounterName, Event, EventItem, NamespaceName, Partition, SliceRecord, SliceSettings, Timestamp, Token,
};
use tallyman_counter::store::{Append, EventStore, RollupStore, Touch};

const COUNTERS: u64 = 100_000;
const KEYSPACE: &str = "cassandra_throughput";

#[derive(Clone, Copy)]
struct Run {
    name: &'static str,
    producers: u64,
    batch: u64,
    counters: u64,
}

const RUNS: [Run; 4] = [
    Run { name: "single, spread", producers: 64, batch: 1, counters: COUNTERS },
    Run { name: "single, one counter", producers: 64, batch: 1, counters: 1 },
    Run { name: "1,000 each, spread", producers: 8, batch: 1_000, counters: COUNTERS },
    Run { name: "1,000 each, one counter", producers: 8, batch: 1_000, counters: 1 },
];

#[tokio::main]
async fn main() {
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    }
    let mut arguments = std::env::args().skip(1);
    let span = Duration::from_secs(arguments.next().map_or(5, |seconds| seconds.parse().unwrap()));
    let rounds: usize = arguments.next().map_or(3, |rounds| rounds.parse().unwrap());
    let node = arguments.next().unwrap_or_else(|| "127.0.0.1:9042".to_owned());
    let datacenter = arguments.next().unwrap_or_else(|| "dc1".to_owned());
    let admin = Arc::new(SessionBuilder::new().known_node(&node).build().await.unwrap());
    prepare(&admin, &datacenter).await;
    let reach = Reach {
        contact_points: vec![node],
        local_datacenter: datacenter.clone(),
        credentials_file: None,
        tls_ca_file: None,
    };
    let cluster = Cluster::new(reach);
    cluster.connected().await;
    let dataset = cluster.dataset(KEYSPACE, &datacenter);
    let slice = slice_of(SystemClock::new().now());
    dataset.create_slice(slice.clone()).await.unwrap();
    for _ in 0..rounds {
        for counters in [COUNTERS, 1] {
            measure_columns(&admin, counters, span).await;
        }
        for run in RUNS {
            measure(run, &dataset, &slice, span).await;
        }
    }
    drop_keyspace(&admin).await;
}

/// Under load a node takes long to put aside what it drops.
async fn drop_keyspace(admin: &Session) {
    let mut drop = Statement::new(format!("DROP KEYSPACE IF EXISTS {KEYSPACE}"));
    drop.set_request_timeout(Some(Duration::from_secs(120)));
    admin.query_unpaged(drop, ()).await.unwrap();
}

async fn prepare(admin: &Arc<Session>, datacenter: &str) {
    drop_keyspace(admin).await;
    let statements = [
        format!(
            "CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'NetworkTopologyStrategy', '{datacenter}': 1}}"
        ),
        format!("CREATE TABLE {KEYSPACE}.columns (name text PRIMARY KEY, count counter)"),
    ];
    for statement in statements {
        admin.query_unpaged(statement, ()).await.unwrap();
    }
    let ddl = Ddl::new(admin.clone());
    for table in [Table::rollup(KEYSPACE), Table::slices(KEYSPACE)] {
        ddl.create_table(&table).await.unwrap();
    }
}

/// Runs `producers` tasks of `produce` for `span`, and prints what came of it.
async fn during<F, P>(name: &str, producers: u64, span: Duration, produce: P) -> u64
where
    F: Future<Output = ()> + Send + 'static,
    P: Fn(u64, Arc<AtomicBool>, Arc<AtomicU64>) -> F,
{
    let (stop, events) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (cpu_before, started) = (cpu_time(), Instant::now());
    let tasks: Vec<_> = (0..producers).map(|nth| tokio::spawn(produce(nth, stop.clone(), events.clone()))).collect();
    tokio::time::sleep(span).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let (elapsed, count) = (started.elapsed().as_secs_f64(), events.load(Ordering::Relaxed));
    let cpu = (cpu_time() - cpu_before).as_secs_f64() * 1e6 / count as f64;
    print!("{name}: {:.0}/s, {cpu:.1} µs of our CPU each", count as f64 / elapsed);
    count
}

async fn measure_columns(admin: &Arc<Session>, counters: u64, span: Duration) {
    let update = format!("UPDATE {KEYSPACE}.columns SET count = count + ? WHERE name = ?");
    let update = Arc::new(admin.prepare(update).await.unwrap());
    let name = format!("counter column, {counters} counters");
    during(&name, 64, span, |nth, stop, events| {
        let (admin, update) = (admin.clone(), update.clone());
        async move {
            let mut picked = nth;
            while !stop.load(Ordering::Relaxed) {
                picked = next(picked);
                let name = format!("counter-{}", picked % counters);
                admin.execute_unpaged(&update, (scylla::value::Counter(1), name)).await.unwrap();
                events.fetch_add(1, Ordering::Relaxed);
            }
        }
    })
    .await;
    println!();
}

async fn measure(run: Run, dataset: &Dataset, slice: &SliceRecord, span: Duration) {
    let before = dataset.write_statistics();
    let latencies = Arc::new(std::sync::Mutex::new(Vec::new()));
    let count = during(run.name, run.producers, span, |nth, stop, events| {
        produce(run, nth, dataset.clone(), slice.clone(), stop, events, latencies.clone())
    })
    .await;
    let after = dataset.write_statistics();
    let mut latencies = latencies.lock().unwrap();
    latencies.sort_unstable();
    let quantile = |of: f64| latencies[((latencies.len() - 1) as f64 * of) as usize].as_secs_f64() * 1e3;
    let (requests, rows) = (after.requests - before.requests, after.rows - before.rows);
    println!(
        "; p50 {:.2} ms, p99 {:.2} ms; {:.1} events and {:.1} rows a request",
        quantile(0.5),
        quantile(0.99),
        count as f64 / requests as f64,
        rows as f64 / requests as f64
    );
}

/// Writes as the engine does: each event beside a touch of its counter, unless the counter was touched in the same second.
async fn produce(
    run: Run,
    nth: u64,
    dataset: Dataset,
    slice: SliceRecord,
    stop: Arc<AtomicBool>,
    events: Arc<AtomicU64>,
    latencies: Arc<std::sync::Mutex<Vec<Duration>>>,
) {
    let (clock, mut picked, mut own, mut last_touch) = (SystemClock::new(), nth, Vec::new(), Timestamp::MIN);
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let now = clock.now();
        let mut touched = Vec::new();
        let appends: Vec<Append> = (0..run.batch)
            .map(|_| {
                picked = next(picked);
                let counter = counter(picked % run.counters);
                if run.counters > 1 {
                    touched.push(counter.clone());
                }
                let event_id = Token::new(&uuid::Uuid::now_v7().to_string()).unwrap();
                let event = Event { event_time: now, event_id, item: EventItem::Add(1) };
                Append { partition: Partition::of(&counter, &event, &slice), event }
            })
            .collect();
        let touch_time = now.rounded_up(Duration::from_secs(1));
        if run.counters == 1 && touch_time > last_touch {
            last_touch = touch_time;
            touched.push(counter(0));
        }
        let touch = Touch { last_write_ts: Some(touch_time), first_write_ts: Some(now.minus(Duration::from_secs(5))) };
        let touching = futures::future::join_all(touched.iter().map(|counter| dataset.touch(counter, touch)));
        let (appended, touched) = futures::join!(dataset.append(appends), touching);
        appended.into_iter().chain(touched).for_each(|result| result.unwrap());
        events.fetch_add(run.batch, Ordering::Relaxed);
        own.push(started.elapsed());
    }
    latencies.lock().unwrap().extend(own);
}

fn next(state: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407).rotate_left(17)
}

fn counter(nth: u64) -> CounterKey {
    CounterKey {
        namespace: NamespaceName::new("bench").unwrap(),
        name: CounterName::new(&format!("counter-{nth}")).unwrap(),
    }
}

fn slice_of(now: Timestamp) -> SliceRecord {
    let start = now.rounded_down(Duration::from_secs(86_400));
    let settings = SliceSettings {
        buckets_per_id: NonZeroU16::new(4).unwrap(),
        bucket_width: Duration::from_secs(600),
        accept_limit: Duration::from_secs(5),
        write_timeout: Duration::from_secs(2),
        max_clock_skew: Duration::from_secs(1),
    };
    SliceRecord::new(start, start.plus(Duration::from_secs(86_400)), settings).unwrap()
}

/// Of this process, on Linux: the only place that says.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
