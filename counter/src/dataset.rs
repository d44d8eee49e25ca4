//! A dataset as a process sees it: its stores, its slices as last read, and a guarded clock.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::MissedTickBehavior;

use crate::clock::{Clock, ClockGuard, MEASURE_EVERY};
use crate::model::Slices;
use crate::store::{self, EventStore, RollupStore};

/// How often a process reads the slice records again. They are created days ahead, so that this is never in a hurry.
const SLICES_EVERY: Duration = Duration::from_secs(10);

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
    slices: ArcSwap<Slices>,
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
        Arc::new(Self { name, events, rollups, clock, slices: ArcSwap::default() })
    }

    /// The slices as last read. A record never changes but for its state, which only moves on, and new ones are appended:
    /// an old view refuses or waits, it never miscounts.
    #[must_use]
    pub fn slices(&self) -> Arc<Slices> {
        self.slices.load_full()
    }

    /// Reads the slice records, and answers them.
    ///
    /// # Errors
    /// When they cannot be read whole; the last view stays.
    pub async fn refresh_slices(&self) -> store::Result<Arc<Slices>> {
        let read = Arc::new(Slices::new(self.events.slices().await?));
        // Of two readings that overtake one another, the one that saw more stays.
        self.slices.rcu(|known| if read.is_as_new_as(known) { read.clone() } else { known.clone() });
        Ok(read)
    }

    /// Reads the slice records and measures the clock.
    ///
    /// # Errors
    /// When either fails.
    pub async fn refresh(&self) -> store::Result<()> {
        self.clock.measure(self.events.as_ref()).await?;
        self.refresh_slices().await.map(drop)
    }

    /// Keeps slices and clock offset fresh for as long as it is polled.
    pub async fn keep_fresh(&self) {
        // Each by itself: slices that take long to read must not let the clock go unmeasured.
        futures::join!(self.keep_clock_measured(), self.keep_slices_read());
    }

    async fn keep_clock_measured(&self) {
        let mut ticks = ticks(MEASURE_EVERY);
        loop {
            ticks.tick().await;
            if let Err(error) = self.clock.measure(self.events.as_ref()).await {
                tracing::warn!(dataset = %self.name, %error, "cannot compare the clock with the store's");
            }
        }
    }

    async fn keep_slices_read(&self) {
        let mut ticks = ticks(SLICES_EVERY);
        loop {
            ticks.tick().await;
            if let Err(error) = self.refresh_slices().await {
                tracing::warn!(dataset = %self.name, %error, "cannot read the slices");
            }
        }
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
