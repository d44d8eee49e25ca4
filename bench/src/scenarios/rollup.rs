//! The rollup pipeline in this process, over the embedded store: touched counters in, checkpoints out. Beside it, the least
//! that any rollup must do: reading the same partitions.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tallyman_counter::aggregation::last_rollup;
use tallyman_counter::backend::embedded::Database;
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::configuration::NamespaceConfiguration;
use tallyman_counter::dataset::Dataset;
use tallyman_counter::model::{
    CounterKey, CounterName, Event, EventItem, IdempotencyToken, Partition, Slices, Timestamp, Token,
};
use tallyman_counter::namespace::{DurableNamespace, Namespace};
use tallyman_counter::opening::Opener;
use tallyman_counter::pipeline::{Options, RollupServer};
use tallyman_counter::retention::{self, Ahead};
use tallyman_counter::store::{Append, Scan, Touch};
use tempfile::TempDir;
use tokio::time::Instant;

use super::Settings;
use crate::comparison::{Better, Comparison, judge};
use crate::measurement::Measurement;
use crate::tokens::Tokens;

const COUNTERS: usize = 2_000;
const EVENTS_PER_COUNTER: usize = 500;
const EVENTS: u64 = (COUNTERS * EVENTS_PER_COUNTER) as u64;
/// Events written at once, all of one counter.
const APPENDS: usize = EVENTS_PER_COUNTER;
/// Writers of the events, and scans in parallel: the number of queues.
const IN_PARALLEL: usize = 8;
/// Events of one page of a bare scan.
const PAGE: usize = 2_048;
/// How long a round's rollup may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A short coalescing window: it is waiting, not work, and is part of what is measured.
const NAMESPACE: &str = r#"{"namespace": "rollup", "region": "local", "persistence_configuration": [
    {"id": "CACHE", "physical_storage": {"type": "MEMORY"}},
    {"id": "COUNTER_ROLLUP", "physical_storage": {"type": "EMBEDDED", "dataset": "bench"}, "counter_cardinality": "HIGH",
     "config": {"counter_type": "EVENTUAL", "eventual_counter_config": {"internal_config":
        {"queue_config": {"num_queues": 8, "coalesce_ms": 5}}}}},
    {"id": "EVENT_STORAGE", "physical_storage": {"type": "EMBEDDED", "dataset": "bench"},
     "config": {"accept_limit": "1s", "write_timeout": "0.5s", "max_clock_skew": "0.1s"}}]}"#;

/// Fresh counters in each round, rolled up once and scanned once.
pub async fn run(settings: &Settings) -> Result<Vec<Comparison>> {
    let dir = TempDir::new()?;
    let engine = Engine::start(&dir).await?;
    let (mut rollups, mut scans) = (Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=settings.rounds {
        let written = engine.write(round).await?;
        engine.until_immutable(written.last).await?;
        let rolled_up = engine.roll_up(&written).await?;
        let scanned = engine.scan(&written).await?;
        engine.verify(&written).await?;
        eprintln!("rollup round {round}: pipeline {rolled_up:.0} events/s, scan {scanned:.0} events/s");
        if round > 0 {
            rollups.push(Measurement::of(rolled_up));
            scans.push(Measurement::of(scanned));
        }
    }
    engine.rollups.drain().await;
    engine.database.close();
    let names = ["tallyman-rollup-pipeline", "scan"];
    Ok(vec![judge("rollup", names, "events/s", Better::Higher, [&rollups, &scans], Some(0.5))])
}

struct Engine {
    clock: Arc<SystemClock>,
    database: Database,
    namespace: Namespace,
    rollups: Arc<RollupServer>,
    /// Keeps the dataset fresh.
    _opener: Opener,
}

/// What one round wrote.
struct Written {
    counters: Vec<CounterKey>,
    first: Timestamp,
    last: Timestamp,
}

impl Engine {
    async fn start(dir: &TempDir) -> Result<Self> {
        let clock = Arc::new(SystemClock::new());
        let database = Database::open(dir.path())?;
        let opener = Opener::new(clock.clone(), Some(database.clone()));
        let namespace = opener.open(Arc::new(NamespaceConfiguration::from_json(NAMESPACE)?)).await?;
        let rollups = RollupServer::new(Options::new("bench"));
        let engine = Self { clock, database, namespace, rollups, _opener: opener };
        let dataset = engine.dataset()?;
        dataset.refresh().await?;
        retention::create_ahead(dataset, engine.durable()?.settings.time_partition, Ahead::USUAL).await?;
        dataset.refresh().await?;
        engine.rollups.serve([engine.namespace.clone()]).await;
        Ok(engine)
    }

    fn durable(&self) -> Result<&DurableNamespace> {
        self.namespace.durable().context("the namespace is durable")
    }

    fn dataset(&self) -> Result<&Arc<Dataset>> {
        Ok(&self.durable()?.dataset)
    }

    /// Writes the round's events, as the write path does: touches first, so that no event is without its mark.
    async fn write(&self, round: usize) -> Result<Written> {
        let dataset = self.dataset()?;
        let name = |nth| CounterName::new(&format!("round-{round:03}/video/{nth:06}"));
        let counters = (0..COUNTERS)
            .map(|nth| Ok(CounterKey { namespace: self.namespace.name().clone(), name: name(nth)? }))
            .collect::<Result<Vec<_>>>()?;
        let first = self.clock.now();
        let mark = Touch { last_write_ts: None, first_write_ts: Some(first) };
        let slices = dataset.slices();
        try_join_all(counters.chunks(COUNTERS.div_ceil(IN_PARALLEL)).map(|share| {
            let (dataset, slices, clock) = (dataset.clone(), slices.clone(), self.clock.clone());
            let share = share.to_vec();
            async move {
                tokio::spawn(async move {
                    let mut tokens = Tokens::new();
                    for counter in &share {
                        dataset.rollups.touch(counter, mark).await?;
                        let appends = appends(counter, &slices, &*clock, &mut tokens)?;
                        for result in dataset.events.append(appends).await {
                            result?;
                        }
                    }
                    anyhow::Ok(())
                })
                .await?
            }
        }))
        .await?;
        let last = self.clock.now();
        let mark = Touch { last_write_ts: Some(last), first_write_ts: None };
        try_join_all(counters.iter().map(|counter| dataset.rollups.touch(counter, mark))).await?;
        Ok(Written { counters, first, last })
    }

    /// Waits until no event up to `last` could still be acknowledged.
    async fn until_immutable(&self, last: Timestamp) -> Result<()> {
        let dataset = self.dataset()?;
        while dataset.slices().boundary(self.clock.now()).previous() < last {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Events a second, from the touched counters' arrival to the last checkpoint.
    async fn roll_up(&self, written: &Written) -> Result<f64> {
        let before = self.rollups.statistics();
        let names: Vec<_> = written.counters.iter().map(|counter| counter.name.clone()).collect();
        let started = Instant::now();
        let taken = self.rollups.touched(self.namespace.name(), &names);
        ensure!(taken == names.len(), "the queues took {taken} of {} counters", names.len());
        let done = async {
            while self.rollups.statistics().rolled_up < before.rolled_up + names.len() as u64 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.context("the counters are not rolled up in time")?;
        let took = started.elapsed();
        let after = self.rollups.statistics();
        let events = after.events - before.events;
        ensure!(events == EVENTS, "the rollups read {events} events, not {EVENTS}");
        ensure!(after.failed == before.failed, "{} rollups failed", after.failed - before.failed);
        Ok(events as f64 / took.as_secs_f64())
    }

    /// Events a second, reading the same partitions and adding the deltas up.
    async fn scan(&self, written: &Written) -> Result<f64> {
        let dataset = self.dataset()?;
        let slices = dataset.slices();
        let (after, through) = (written.first.previous(), written.last);
        let started = Instant::now();
        let shares = written.counters.chunks(COUNTERS.div_ceil(IN_PARALLEL)).map(|share| {
            let (dataset, slices, share) = (dataset.clone(), slices.clone(), share.to_vec());
            async move { tokio::spawn(async move { scan_all(&dataset, &slices, &share, after, through).await }).await? }
        });
        let sums = try_join_all(shares).await?;
        let took = started.elapsed();
        ensure!(sums.iter().sum::<i64>() == EVENTS.cast_signed(), "the scans found other events than were written");
        Ok(EVENTS as f64 / took.as_secs_f64())
    }

    /// The counts after the rollup are what was written.
    async fn verify(&self, written: &Written) -> Result<()> {
        for counter in &written.counters {
            let count = last_rollup(self.dataset()?, self.durable()?.cache.as_deref(), counter).await?.count;
            ensure!(
                count == EVENTS_PER_COUNTER as i128,
                "{counter}: {EVENTS_PER_COUNTER} were added, rolled up {count}"
            );
        }
        Ok(())
    }
}

fn appends(counter: &CounterKey, slices: &Slices, clock: &dyn Clock, tokens: &mut Tokens) -> Result<Vec<Append>> {
    let mut appends = Vec::with_capacity(APPENDS);
    for _ in 0..APPENDS {
        let token = IdempotencyToken { token: Token::new(&tokens.next_text())?, generation_time: clock.now() };
        let event = Event::new(token, EventItem::Add(1));
        let slice = slices.accepting(event.event_time).context("no slice takes events now")?;
        appends.push(Append { partition: Partition::of(counter, &event, slice), event });
    }
    Ok(appends)
}

async fn scan_all(
    dataset: &Dataset,
    slices: &Slices,
    counters: &[CounterKey],
    after: Timestamp,
    through: Timestamp,
) -> Result<i64> {
    let mut sum = 0;
    for counter in counters {
        for partition in slices.partitions(counter, after, through) {
            let mut resume = None;
            loop {
                let scan = Scan { partition: partition.clone(), after, through, resume: resume.take(), limit: PAGE };
                let page = dataset.events.scan(scan).await?;
                for event in &page.events {
                    if let EventItem::Add(delta) = event.item {
                        sum += delta;
                    }
                }
                match page.next {
                    Some(next) => resume = Some(next),
                    None => break,
                }
            }
        }
    }
    Ok(sum)
}
