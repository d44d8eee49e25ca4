//! A simulated process as the rest of the world sees it: it lives, stalls, is cut off, or has crashed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::SimClock;
use crate::world::{SimTime, World};

/// One process. What it shares with the world goes through [`Process::gate`], in both directions.
pub struct Process {
    pub index: usize,
    pub clock: Arc<SimClock>,
    world: Arc<World>,
    crashed: AtomicBool,
    stalled_until: AtomicU64,
    cut_off_until: AtomicU64,
}

impl Process {
    pub fn new(world: &Arc<World>, index: usize, clock: Arc<SimClock>) -> Arc<Self> {
        Arc::new(Self {
            index,
            clock,
            world: world.clone(),
            crashed: AtomicBool::new(false),
            stalled_until: AtomicU64::new(0),
            cut_off_until: AtomicU64::new(0),
        })
    }

    /// Waits out a stall. After a crash it never returns: what a dead process would have done next does not happen.
    pub async fn gate(&self) {
        loop {
            if self.has_crashed() {
                std::future::pending::<()>().await;
            }
            let until = self.stalled_until.load(Ordering::Relaxed);
            let now = self.world.now().0;
            if until <= now {
                return;
            }
            tokio::time::sleep(Duration::from_micros(until - now)).await;
        }
    }

    pub fn crash(&self) {
        self.crashed.store(true, Ordering::Relaxed);
    }

    pub fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::Relaxed)
    }

    pub fn stall(&self, span: Duration) {
        self.stalled_until.store(self.world.now().plus(span).0, Ordering::Relaxed);
    }

    /// Loses every message between this process and the stores for `span`.
    pub fn cut_off(&self, span: Duration) {
        self.cut_off_until.store(self.world.now().plus(span).0, Ordering::Relaxed);
    }

    pub fn is_cut_off(&self) -> bool {
        SimTime(self.cut_off_until.load(Ordering::Relaxed)) > self.world.now()
    }

    /// Ends what can be ended: stalls and cuts.
    pub fn heal(&self) {
        self.stalled_until.store(0, Ordering::Relaxed);
        self.cut_off_until.store(0, Ordering::Relaxed);
    }
}
