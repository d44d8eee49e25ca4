//! How many events a second the embedded store takes, durably: 64 producers of single events, and 8 producers of batches of
//! 100. Prints a line for each. `cargo run --release -p tallyman-counter --example embedded_throughput [SECONDS] [DIR]`

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // A measurement fails by panicking, and reads the clock.

use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tallyman_counter::backend::embedded::{Database, Dataset};
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::model::{
    CounterKey, CounterName, Event, EventItem, NamespaceName, Partition, SliceRecord, SliceSettings, Timestamp, Token,
};
use tallyman_counter::store::{Append, EventStore, RollupStore, Touch};

const COUNTERS: u64 = 10_000;

struct Run {
    name: &'static str,
    producers: u64,
    batch: u64,
    touches: bool,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(3, |seconds| seconds.parse().unwrap());
    let parent = arguments.next().unwrap_or_else(|| std::env::temp_dir().to_str().unwrap().to_owned());
    let threads = std::thread::available_parallelism().unwrap().get();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build().unwrap();
    let runs = [
        Run { name: "unary, 64 producers", producers: 64, batch: 1, touches: false },
        Run { name: "unary with a touch a second and counter, 64 producers", producers: 64, batch: 1, touches: true },
        Run { name: "batches of 100, 8 producers", producers: 8, batch: 100, touches: false },
    ];
    for run in runs {
        let dir = tempfile::tempdir_in(&parent).unwrap();
        runtime.block_on(measure(&run, dir.path(), Duration::from_secs(seconds)));
        let started = Instant::now();
        let database = Database::open(dir.path()).unwrap();
        println!("    opened again in {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
        drop(database);
    }
}

async fn measure(run: &Run, dir: &Path, span: Duration) {
    let started = Instant::now();
    let database = Database::open(dir).unwrap();
    let opened = started.elapsed();
    let dataset = database.dataset("bench", "region").await.unwrap();
    let clock = Arc::new(SystemClock::new());
    let slice = slice_of(clock.now());
    dataset.create_slice(slice.clone()).await.unwrap();
    let (stop, events) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (cpu_before, started) = (cpu_time(), Instant::now());
    let producers: Vec<_> = (0..run.producers)
        .map(|producer| {
            let work = Producer {
                dataset: dataset.clone(),
                slice: slice.clone(),
                clock: clock.clone(),
                id: producer,
                batch: run.batch,
                touches: run.touches,
            };
            tokio::spawn(work.run(stop.clone(), events.clone()))
        })
        .collect();
    tokio::time::sleep(span).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for producer in producers {
        latencies.extend(producer.await.unwrap());
    }
    let (elapsed, count) = (started.elapsed().as_secs_f64(), events.load(Ordering::Relaxed));
    latencies.sort_unstable();
    let quantile = |of: f64| latencies[((latencies.len() - 1) as f64 * of) as usize].as_secs_f64() * 1e3;
    println!(
        "{}: {:.0} events/s, {:.2} µs of CPU each; p50 {:.2} ms, p99 {:.2} ms; opened in {:.1} ms",
        run.name,
        count as f64 / elapsed,
        (cpu_time() - cpu_before).as_secs_f64() * 1e6 / count as f64,
        quantile(0.5),
        quantile(0.99),
        opened.as_secs_f64() * 1e3,
    );
    database.close();
}

struct Producer {
    dataset: Dataset,
    slice: SliceRecord,
    clock: Arc<SystemClock>,
    id: u64,
    batch: u64,
    touches: bool,
}

impl Producer {
    async fn run(self, stop: Arc<AtomicBool>, events: Arc<AtomicU64>) -> Vec<Duration> {
        let namespace = NamespaceName::new("video-plays").unwrap();
        let counters: Vec<CounterKey> = (0..COUNTERS)
            .map(|nth| CounterKey {
                namespace: namespace.clone(),
                name: CounterName::new(&format!("title/{nth:08}")).unwrap(),
            })
            .collect();
        let mut latencies = Vec::new();
        let mut touched = vec![0; counters.len()];
        let mut nth = self.id * 7919;
        while !stop.load(Ordering::Relaxed) {
            let now = self.clock.now();
            let mut appends = Vec::with_capacity(self.batch as usize);
            let mut at = 0;
            for _ in 0..self.batch {
                nth += 1;
                at = (nth * 31 % COUNTERS) as usize;
                let token = Token::new(&format!("{:016x}-{:04x}-{nth:016x}", now.as_micros(), self.id)).unwrap();
                let event = Event { event_time: now, event_id: token, item: EventItem::Add(1) };
                appends.push(Append { partition: Partition::of(&counters[at], &event, &self.slice), event });
            }
            let started = Instant::now();
            let appended = self.dataset.append(appends);
            let second = now.rounded_up(Duration::from_secs(1));
            let results = if self.touches && touched[at] != second.as_micros() {
                touched[at] = second.as_micros();
                let touch = Touch { last_write_ts: Some(second), first_write_ts: None };
                let (touch, results) = tokio::join!(self.dataset.touch(&counters[at], touch), appended);
                touch.unwrap();
                results
            } else {
                appended.await
            };
            assert!(results.iter().all(Result::is_ok), "{results:?}");
            latencies.push(started.elapsed());
            events.fetch_add(self.batch, Ordering::Relaxed);
        }
        latencies
    }
}

fn slice_of(now: Timestamp) -> SliceRecord {
    let day = Duration::from_secs(24 * 3600);
    let start = now.rounded_down(day);
    let settings = SliceSettings {
        buckets_per_id: NonZeroU16::new(4).unwrap(),
        bucket_width: Duration::from_secs(600),
        accept_limit: Duration::from_secs(5),
        write_timeout: Duration::from_secs(2),
        max_clock_skew: Duration::from_secs(1),
    };
    SliceRecord::new(start, start.plus(day), settings).unwrap()
}

/// User and system time of this process so far, from `/proc` (in ticks of 10 ms).
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
