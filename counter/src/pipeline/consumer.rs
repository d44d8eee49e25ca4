//! The consumer of one queue: gathers a window, rolls it up batch by batch, puts back what is not done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::watch;

use super::coalescing::Drain;
use super::guests::{Guests, acknowledged_until};
use super::ownership::Ownership;
use super::pacing::Pacing;
use super::queue::{Queue, Queues};
use crate::aggregation::{self, RolledUp, ScanBudget, roll_up};
use crate::configuration::Cardinality;
use crate::model::{CounterKey, CounterName};
use crate::namespace::{DurableNamespace, Namespace};
use crate::store;

/// Counters of one batch that are rolled up at once; the scan budget bounds what they bring.
const COUNTERS_IN_PARALLEL: usize = 8;
/// Events that count as one request made of the store, beside one per counter.
const EVENTS_PER_REQUEST: u64 = 256;
/// What a name in a batch costs beside its bytes.
const BATCH_ENTRY_BYTES: usize = 64;
/// What a name in a batch costs at most.
const BATCH_NAME_BYTES_MAX: usize = CounterName::BYTES_MAX + BATCH_ENTRY_BYTES;

/// What a consumer is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Gather windows and roll them up.
    Run,
    /// Roll up what is there, at once and once, then end.
    Drain,
    /// Put back what is in hand, then end: another consumer takes over.
    HandOver,
}

/// Counted by all consumers of a server.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub rolled_up: AtomicU64,
    pub duplicates: AtomicU64,
    pub failed: AtomicU64,
    pub events: AtomicU64,
}

/// What a consumer works with.
pub(super) struct Consumer {
    pub namespace: Namespace,
    pub queues: Arc<Queues>,
    pub queue: Arc<Queue>,
    pub budget: Arc<ScanBudget>,
    pub counts: Arc<Counts>,
    pub phase: watch::Receiver<Phase>,
    pub ownership: Arc<Ownership>,
    pub guests: Arc<Guests>,
}

impl Consumer {
    /// Works until the phase says otherwise. Names that it still had in hand when it was told to hand over are answered.
    pub async fn run(mut self) -> Vec<Drain> {
        let Some(durable) = self.namespace.durable().cloned() else { return Vec::new() };
        let clock = durable.dataset.clock.clock().clone();
        let mut pacing = Pacing::default();
        let mut begun_before = None;
        loop {
            let phase = self.gather(durable.settings.queue.coalesce).await;
            if phase == Phase::HandOver {
                return self.hand_over(None);
            }
            let begun = clock.monotonic();
            let period = begun_before
                .replace(begun)
                .map_or(durable.settings.queue.coalesce, |before| begun.saturating_sub(before));
            let mut window = self.queue.take();
            while let Some(batch) = self.batch(&mut window, durable.settings.rollup_batch_count.get()) {
                self.roll_up_batch(&durable, batch, period, &mut pacing).await;
                if *self.phase.borrow() == Phase::HandOver {
                    return self.hand_over(Some(window));
                }
            }
            self.queue.still_draining(0);
            if phase == Phase::Drain {
                return Vec::new();
            }
        }
    }

    /// Answers what is in hand, and gives its memory back: the queue may be the next consumer's as well, and nobody else
    /// would ever make that room.
    fn hand_over(&self, window: Option<Drain>) -> Vec<Drain> {
        let windows = window.into_iter().chain([self.queue.take()]).collect();
        self.queue.still_draining(0);
        windows
    }

    /// Waits until a window has been gathered, or the phase changes.
    async fn gather(&mut self, coalesce: Duration) -> Phase {
        let phase = *self.phase.borrow_and_update();
        if phase != Phase::Run {
            return phase;
        }
        let gathered = async {
            while self.queue.is_empty() {
                self.queue.some.notified().await;
            }
            tokio::time::sleep(coalesce).await;
        };
        tokio::select! {
            biased;
            changed = self.phase.changed() => match changed {
                Ok(()) => *self.phase.borrow(),
                // The server is gone without a word.
                Err(_) => Phase::HandOver,
            },
            () = gathered => Phase::Run,
        }
    }

    /// The next counters of the window: at most `count`, and not more than the queue lets a batch take.
    fn batch(&self, window: &mut Drain, count: usize) -> Option<Vec<CounterName>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < count && bytes + BATCH_NAME_BYTES_MAX <= self.queue.batch_bytes_max() {
            let Some(name) = window.next() else { break };
            bytes += name.as_str().len() + BATCH_ENTRY_BYTES;
            batch.push(name);
        }
        self.queue.still_draining(window.bytes());
        (!batch.is_empty()).then_some(batch)
    }

    /// Rolls up a batch. `period` is the time since this consumer began its window before: it rolls no counter up twice in less.
    async fn roll_up_batch(
        &mut self,
        durable: &DurableNamespace,
        batch: Vec<CounterName>,
        period: Duration,
        pacing: &mut Pacing,
    ) {
        let clock = durable.dataset.clock.clock().clone();
        let begun = clock.monotonic();
        let counters = batch.len() as u64;
        let consumer = &*self;
        let done = stream::iter(batch)
            .map(|name| async move {
                let counter = CounterKey { namespace: consumer.namespace.name().clone(), name };
                let done = consumer.roll_up_counter(durable, &counter, period).await;
                done.map_err(|error| (counter, error))
            })
            .buffer_unordered(COUNTERS_IN_PARALLEL)
            .fold(Done::default(), |done, one| async { done.and(one) })
            .await;
        self.counts.rolled_up.fetch_add(done.rolled_up, Ordering::Relaxed);
        self.counts.duplicates.fetch_add(done.duplicates, Ordering::Relaxed);
        self.counts.failed.fetch_add(done.failed, Ordering::Relaxed);
        self.counts.events.fetch_add(done.events, Ordering::Relaxed);
        if let Some((counter, error)) = done.last_failure {
            let failed = done.failed;
            tracing::warn!(%counter, %error, failed, "rollups failed; they are tried again");
        }
        let requests = counters + done.events / EVENTS_PER_REQUEST;
        let wait = pacing.wait_after(requests, clock.monotonic().saturating_sub(begun));
        if !wait.is_zero() {
            tokio::select! {
                biased;
                _ = self.phase.changed() => self.phase.mark_changed(),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Rolls a counter up, unless it is another server's and needs nothing, and puts it back where it is not done with.
    async fn roll_up_counter(
        &self,
        durable: &DurableNamespace,
        counter: &CounterKey,
        period: Duration,
    ) -> aggregation::Result<One> {
        let owned = self.ownership.owns(counter);
        if !owned {
            match self.is_served_elsewhere(durable, counter).await {
                Ok(true) => {
                    self.guests.left(&counter.name);
                    return Ok(One::Left);
                }
                Ok(false) => {}
                Err(error) => {
                    let failed = Err(error.into());
                    self.put_back(durable, counter, owned, &failed);
                    return failed.map(|_| One::Left);
                }
            }
        }
        let rolled_up = roll_up(&durable.dataset, durable.cache.as_deref(), &self.budget, counter).await;
        self.put_back(durable, counter, owned, &rolled_up);
        rolled_up.map(|rolled_up| One::RolledUp { rolled_up, is_duplicate: is_duplicate(&rolled_up, period) })
    }

    async fn is_served_elsewhere(&self, durable: &DurableNamespace, counter: &CounterKey) -> store::Result<bool> {
        let row = durable.dataset.rollups.read(counter).await?;
        let now = durable.dataset.clock.clock().now();
        let recent = durable.dataset.slices().boundary(now).minus(durable.settings.queue.coalesce);
        Ok(self.guests.is_served(&counter.name, row.as_ref(), durable.settings.cardinality, recent))
    }

    /// Puts the counter back on its queue where it is not done with.
    fn put_back(
        &self,
        durable: &DurableNamespace,
        counter: &CounterKey,
        owned: bool,
        result: &aggregation::Result<RolledUp>,
    ) {
        // When draining, the counter is left to the sweeps of the servers that go on, or of the one that starts next.
        if *self.phase.borrow() == Phase::Drain {
            return;
        }
        let unrolled = result.as_ref().map_or(true, RolledUp::is_unrolled);
        if !owned {
            let rolled_up = result.as_ref().ok().and_then(RolledUp::checkpoint);
            let stays = unrolled && {
                let until = self.guests.stays_until(&counter.name, acknowledged_until(&durable.dataset));
                rolled_up.is_none_or(|checkpoint| checkpoint.last_rollup_ts < until)
            };
            if !stays || self.queues.insert(&counter.name).is_err() {
                self.guests.left(&counter.name);
            }
        } else if unrolled {
            // When its queue is full, it is left to a sweep: the queue counts what it refuses.
            let _ = self.queues.insert(&counter.name);
        } else if durable.settings.cardinality == Cardinality::Low && !matches!(result, Ok(RolledUp::NeverWritten)) {
            self.queues.circulate(&counter.name);
        }
    }
}

/// Whether the checkpoint that a rollup went on from is too young to be this consumer's own: another server rolls the counter
/// up as well.
fn is_duplicate(rolled_up: &RolledUp, period: Duration) -> bool {
    match rolled_up {
        RolledUp::NeverWritten => false,
        // Another went further already.
        RolledUp::Unchanged { .. } => true,
        RolledUp::Advanced { checkpoint, from, .. } => {
            from.is_some_and(|from| checkpoint.last_rollup_ts.since(from) < period / 2)
        }
    }
}

/// What became of a counter.
enum One {
    /// It was rolled up.
    RolledUp { rolled_up: RolledUp, is_duplicate: bool },
    /// It is its owner's, and done with here.
    Left,
}

/// What became of a batch.
#[derive(Default)]
struct Done {
    rolled_up: u64,
    duplicates: u64,
    events: u64,
    failed: u64,
    last_failure: Option<(CounterKey, aggregation::Error)>,
}

impl Done {
    fn and(mut self, one: Result<One, (CounterKey, aggregation::Error)>) -> Self {
        match one {
            Ok(One::RolledUp { rolled_up, is_duplicate }) => {
                self.rolled_up += 1;
                self.duplicates += u64::from(is_duplicate);
                if let RolledUp::Advanced { events, .. } = rolled_up {
                    self.events += events;
                }
            }
            Ok(One::Left) => {}
            Err(failure) => {
                self.failed += 1;
                self.last_failure = Some(failure);
            }
        }
        self
    }
}
