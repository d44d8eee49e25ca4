//! The rollup pipeline in this process: touched counters in, checkpoints out.

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
use tallyman_counter::store::{Append, Touch};
use tokio::time::Instant;

use crate::tokens::Tokens;

const COUNTERS: usize = 2_000;
const EVENTS_PER_COUNTER: usize = 500;
/// Events of one round.
pub const EVENTS: u64 = (COUNTERS * EVENTS_PER_COUNTER) as u64;
/// Writers of the events.
const WRITERS: usize = 8;
/// Events written at once, all of one counter.
const APPENDS: usize = EVENTS_PER_COUNTER;
/// How long a round's rollup may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine with one namespace.
pub struct Engine {
    clock: Arc<SystemClock>,
    database: Option<Database>,
    namespace: Namespace,
    rollups: Arc<RollupServer>,
    /// Keeps the dataset fresh.
    _opener: Opener,
}

/// What one round wrote.
pub struct Written {
    /// Each with as many events.
    pub counters: Vec<CounterKey>,
    /// Before the first event.
    pub first: Timestamp,
    /// The time of the last event, or later.
    pub last: Timestamp,
}

impl Engine {
    /// Opens the namespace that `document` describes; `database` is for one that is embedded.
    pub async fn start(document: &str, database: Option<Database>) -> Result<Self> {
        let clock = Arc::new(SystemClock::new());
        let opener = Opener::new(clock.clone(), database.clone());
        let namespace = opener.open(Arc::new(NamespaceConfiguration::from_json(document)?)).await?;
        let rollups = RollupServer::new(Options::new("bench"));
        let engine = Self { clock, database, namespace, rollups, _opener: opener };
        let dataset = engine.dataset()?;
        until_reached(dataset).await?;
        retention::create_ahead(dataset, engine.durable()?.settings.time_partition, Ahead::USUAL).await?;
        dataset.refresh().await?;
        engine.rollups.serve([engine.namespace.clone()]).await;
        Ok(engine)
    }

    /// Ends the pipeline and closes the store.
    pub async fn stop(self) {
        self.rollups.drain().await;
        if let Some(database) = self.database {
            database.close();
        }
    }

    fn durable(&self) -> Result<&DurableNamespace> {
        self.namespace.durable().context("the namespace is durable")
    }

    /// The stores.
    pub fn dataset(&self) -> Result<&Arc<Dataset>> {
        Ok(&self.durable()?.dataset)
    }

    /// Writes the round's events, as the write path does: touches first, so that no event is without its mark. Then waits
    /// until no event up to the last could still be acknowledged.
    pub async fn write(&self, round: usize) -> Result<Written> {
        let dataset = self.dataset()?;
        let name = |nth| CounterName::new(&format!("round-{round:03}/video/{nth:06}"));
        let counters = (0..COUNTERS)
            .map(|nth| Ok(CounterKey { namespace: self.namespace.name().clone(), name: name(nth)? }))
            .collect::<Result<Vec<_>>>()?;
        let first = self.clock.now();
        let mark = Touch { last_write_ts: None, first_write_ts: Some(first) };
        let slices = dataset.slices();
        try_join_all(counters.chunks(COUNTERS.div_ceil(WRITERS)).map(|share| {
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
        while dataset.slices().boundary(self.clock.now()).previous() < last {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Written { counters, first, last })
    }

    /// Events a second, from the touched counters' arrival to the last checkpoint.
    pub async fn roll_up(&self, written: &Written) -> Result<f64> {
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

    /// The counts after the rollup are what was written.
    pub async fn verify(&self, written: &Written) -> Result<()> {
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

/// Waits until the store answers: a connection to Cassandra is made in the background.
async fn until_reached(dataset: &Dataset) -> Result<()> {
    const ATTEMPTS: usize = 200;
    for _ in 1..ATTEMPTS {
        if dataset.refresh().await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(dataset.refresh().await?)
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
