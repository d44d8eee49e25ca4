//! The rollup cache, modelled: it loses writes and entries, does not answer, applies late, and still compares before it sets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::model::{Checkpoint, CounterKey};
use tallyman_counter::store::{Error, Result, RollupCache};

use crate::coverage::State;
use crate::history::History;
use crate::process::Process;
use crate::random::Random;
use crate::world::{SimTime, World};

/// How long entries live.
pub const EXPIRY: Duration = Duration::from_secs(20);

/// Probabilities of the cache's faults.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// An offer is acknowledged and lost.
    pub lost: f64,
    /// A request is not answered; an offer may have been applied.
    pub timeout: f64,
    /// An offer is applied late.
    pub late: f64,
}

impl Faults {
    pub const NONE: Self = Self { lost: 0.0, timeout: 0.0, late: 0.0 };
    pub const SOME: Self = Self { lost: 0.05, timeout: 0.03, late: 0.05 };
}

/// A checkpoint and its expiry.
type Entry = (Checkpoint, SimTime);

/// The cache's servers.
pub struct CacheServers {
    world: Arc<World>,
    history: Arc<History>,
    entries: Mutex<BTreeMap<CounterKey, Entry>>,
    faults: Mutex<Faults>,
    /// Entries are replaced whatever they hold: what the design forbids, for a deliberate break.
    pub compares: bool,
}

impl CacheServers {
    pub fn new(world: &Arc<World>, history: &Arc<History>, faults: Faults, compares: bool) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            history: history.clone(),
            entries: Mutex::default(),
            faults: Mutex::new(faults),
            compares,
        })
    }

    pub fn set_faults(&self, faults: Faults) {
        *self.faults.lock().unwrap() = faults;
    }

    /// Lets every entry age by `span` at once.
    pub fn age(&self, span: Duration) {
        for (_, expires) in self.entries.lock().unwrap().values_mut() {
            expires.0 = expires.0.saturating_sub(span.as_micros() as u64);
        }
    }

    /// Loses every entry.
    pub fn flush(&self) {
        self.world.reached(State::CacheFlushed);
        self.entries.lock().unwrap().clear();
    }

    fn apply(&self, counter: &CounterKey, checkpoint: Checkpoint, late: bool) {
        let before = self.get(counter);
        if !self.compares || before < Some(checkpoint) {
            let entry = (checkpoint, self.world.now().plus(EXPIRY));
            self.entries.lock().unwrap().insert(counter.clone(), entry);
        } else if late && before > Some(checkpoint) {
            self.world.reached(State::CacheLateRejected);
        }
        self.history.checkpoint_cached(counter, before, self.get(counter));
    }

    fn get(&self, counter: &CounterKey) -> Option<Checkpoint> {
        let entry = self.entries.lock().unwrap().get(counter).copied();
        entry.filter(|(_, expires)| self.world.now() < *expires).map(|(checkpoint, _)| checkpoint)
    }
}

/// One process's connection to the cache.
pub struct Handle {
    servers: Arc<CacheServers>,
    process: Arc<Process>,
    random: Mutex<Random>,
}

impl Handle {
    pub fn new(servers: &Arc<CacheServers>, process: &Arc<Process>, random: Random) -> Self {
        Self { servers: servers.clone(), process: process.clone(), random: Mutex::new(random) }
    }

    fn faults(&self) -> Faults {
        *self.servers.faults.lock().unwrap()
    }

    async fn unanswered<T>(&self) -> Result<T> {
        self.servers.world.reached(State::CacheTimedOut);
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(Error::Timeout { reason: "the cache did not answer".into() })
    }
}

#[async_trait]
impl RollupCache for Handle {
    async fn get(&self, counter: &CounterKey) -> Result<Option<Checkpoint>> {
        self.process.gate().await;
        let (delay, times_out) = {
            let mut random = self.random.lock().unwrap();
            (random.millis(0, 2), random.chance(self.faults().timeout))
        };
        if times_out {
            return self.unanswered().await;
        }
        tokio::time::sleep(delay).await;
        let entry = self.servers.get(counter);
        self.process.gate().await;
        Ok(entry)
    }

    async fn offer(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        self.process.gate().await;
        let faults = self.faults();
        let (delay, late, lost, times_out) = {
            let mut random = self.random.lock().unwrap();
            let late = random.chance(faults.late);
            let delay = if late { random.millis(100, 10_000) } else { random.millis(0, 2) };
            (delay, late, random.chance(faults.lost), random.chance(faults.timeout))
        };
        if lost {
            self.servers.world.reached(State::CacheWriteLost);
        } else {
            let (servers, counter) = (self.servers.clone(), counter.clone());
            self.servers.world.after(delay, move || servers.apply(&counter, checkpoint, late));
        }
        if times_out {
            return self.unanswered().await;
        }
        if !late {
            tokio::time::sleep(delay + Duration::from_millis(1)).await;
        }
        self.process.gate().await;
        Ok(())
    }
}
