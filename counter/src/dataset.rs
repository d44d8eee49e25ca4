//! A dataset as a process sees it: its stores, its slices as last read, a guarded clock, and how all that does.

mod health;

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use health::{Health, Refusal};

use crate::clock::{Clock, ClockGuard, MEASURE_EVERY, Untrusted};
use crate::model::Slices;
use crate::store::{self, EventStore, RollupStore};
use health::Asked;

/// How often a process reads the slice records again. They are created days ahead, so that this is never in a hurry.
const SLICES_EVERY: Duration = Duration::from_secs(10);
/// How soon the store is asked again when it did not answer, or has no slices yet; the wait doubles…
const RETRY_MIN: Duration = Duration::from_millis(100);
/// …up to this.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A dataset: what its namespaces share.
pub struct Dataset {
    /// Its name; the keyspace.
    pub name: String,
    /// Its events and slice records.
    pub events: Arc<dyn EventStore>,
    /// Its rollup rows.
    pub rollups: Arc<dyn RollupStore>,
    /// The clock of this process, held against the store's.
    pub clock: ClockGuard,
    seen: ArcSwap<Seen>,
    /// Readings of the slices begun so far.
    readings: AtomicU64,
    asked: Mutex<AskedFor>,
    /// Told of every answer.
    answers: Notify,
}

/// The slices as a reading showed them.
#[derive(Default)]
struct Seen {
    slices: Arc<Slices>,
    /// Readings that had begun when this one was answered: whichever begins after them shows no less, unless it is gone.
    begun: u64,
}

/// How asking the store has gone, by what it was asked for.
#[derive(Default)]
struct AskedFor {
    clock: Asked,
    slices: Asked,
}

impl Dataset {
    /// A dataset whose slices and clock offset are not known yet: see [`Dataset::refresh`].
    #[must_use]
    pub fn new(
        name: String,
        events: Arc<dyn EventStore>,
        rollups: Arc<dyn RollupStore>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let clock = ClockGuard::new(clock);
        let (seen, readings) = (ArcSwap::default(), AtomicU64::new(0));
        Arc::new(Self { name, events, rollups, clock, seen, readings, asked: Mutex::default(), answers: Notify::new() })
    }

    /// The slices as last read. A record never changes but for its state, which only moves on, and new ones are appended:
    /// an old view refuses or waits, it never miscounts. A dataset that was dropped and created again has other records under
    /// its name, and is seen as it is now from the next reading on.
    #[must_use]
    pub fn slices(&self) -> Arc<Slices> {
        self.seen.load().slices.clone()
    }

    /// Reads the slice records, and answers them.
    ///
    /// # Errors
    /// When they cannot be read whole; the last view stays.
    pub async fn refresh_slices(&self) -> store::Result<Arc<Slices>> {
        let nth = self.readings.fetch_add(1, Ordering::SeqCst) + 1;
        let read = self.events.slices().await.map(|records| Arc::new(Slices::new(records)));
        if let Ok(read) = &read {
            let seen = Arc::new(Seen { slices: read.clone(), begun: self.readings.load(Ordering::SeqCst) });
            // Of two readings that overtake one another, the one that saw more stays.
            let is_newer = |known: &Seen| nth > known.begun || read.is_as_new_as(&known.slices);
            let before = self.seen.rcu(|known| if is_newer(known) { seen.clone() } else { known.clone() });
            if is_newer(&before) && !read.is_as_new_as(&before.slices) {
                tracing::warn!(dataset = %self.name, "time slices are gone: the dataset was dropped, and created again perhaps");
            }
        }
        self.learn(&read, "read the slices", |asked| &mut asked.slices);
        read
    }

    /// Reads the slice records and measures the clock.
    ///
    /// # Errors
    /// When either fails.
    pub async fn refresh(&self) -> store::Result<()> {
        self.measure_clock().await?;
        self.refresh_slices().await.map(drop)
    }

    /// How the dataset does, as far as its last [`Dataset::refresh`] says, or [`Dataset::keep_fresh`].
    #[must_use]
    pub fn health(&self) -> Health {
        let slices = self.slices();
        let trusted = match slices.max_clock_skew() {
            Some(skew) => self.clock.now(skew).map(drop),
            // Nobody says what skew is too much; it has been measured, at least.
            None => self.clock.offset_max().map(drop).ok_or(Untrusted::NotMeasured),
        };
        let now = self.clock.clock().now();
        let asked = self.asked();
        health::health(&asked.clock, &asked.slices, trusted, &slices, now)
    }

    /// Waits until mutations are accepted.
    pub async fn accepting(&self) {
        loop {
            let mut answer = pin!(self.answers.notified());
            // Listened to before it is looked at, so that no answer falls between the two.
            answer.as_mut().enable();
            if self.health().refusal().is_none() {
                return;
            }
            answer.await;
        }
    }

    /// Keeps slices and clock offset fresh for as long as it is polled.
    pub async fn keep_fresh(&self) {
        // Each by itself: slices that take long to read must not let the clock go unmeasured.
        futures::join!(self.keep_clock_measured(), self.keep_slices_read());
    }

    async fn keep_clock_measured(&self) {
        let mut pace = Pace::new(MEASURE_EVERY);
        loop {
            let begun = Instant::now();
            let is_well = self.measure_clock().await.is_ok();
            tokio::time::sleep_until(begun + pace.after(is_well)).await;
        }
    }

    async fn keep_slices_read(&self) {
        let mut pace = Pace::new(SLICES_EVERY);
        loop {
            let begun = Instant::now();
            // Slices that are still missing are about to be created.
            let is_well = self.refresh_slices().await.is_ok_and(|slices| !slices.is_empty());
            tokio::time::sleep_until(begun + pace.after(is_well)).await;
        }
    }

    async fn measure_clock(&self) -> store::Result<()> {
        let measured = self.clock.measure(self.events.as_ref()).await;
        self.learn(&measured, "compare the clock with the store's", |asked| &mut asked.clock);
        measured
    }

    /// Remembers an answer of the store's. What it means is logged once, however often it is asked.
    fn learn<T>(&self, answer: &store::Result<T>, what: &str, asked: impl FnOnce(&mut AskedFor) -> &mut Asked) {
        let now = self.clock.clock().monotonic();
        let is_news = asked(&mut self.asked()).learn(now, answer);
        match answer {
            Ok(_) if is_news => tracing::info!(dataset = %self.name, "can {what} again"),
            Err(error) if is_news => tracing::warn!(dataset = %self.name, %error, "cannot {what}"),
            _ => {}
        }
        self.answers.notify_waiters();
    }

    fn asked(&self) -> MutexGuard<'_, AskedFor> {
        // Nothing panics while it is held half changed.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long until the next question, counted from the last one.
struct Pace {
    every: Duration,
    retry: Duration,
}

impl Pace {
    fn new(every: Duration) -> Self {
        Self { every, retry: RETRY_MIN }
    }

    fn after(&mut self, is_well: bool) -> Duration {
        if is_well {
            self.retry = RETRY_MIN;
            return self.every;
        }
        let wait = self.retry;
        self.retry = (wait * 2).min(RETRY_MAX);
        wait
    }
}
