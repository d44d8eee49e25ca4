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
use crate::world::World;

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

/// The cache's servers.
pub struct CacheServers {
    world: Arc<World>,
    history: Arc<History>,
    entries: Mutex<BTreeMap<CounterKey, Checkpoint>>,
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

    /// Loses every entry.
    pub fn flush(&self) {
        self.world.reached(State::CacheFlushed);
        self.entries.lock().unwrap().clear();
    }

    fn apply(&self, counter: &CounterKey, checkpoint: Checkpoint, late: bool) {
        let mut entries = self.entries.lock().unwrap();
        let before = entries.get(counter).copied();
        if !self.compares || before < Some(checkpoint) {
            entries.insert(counter.clone(), checkpoint);
        } else if late && before > Some(checkpoint) {
            self.world.reached(State::CacheLateRejected);
        }
        let after = entries.get(counter).copied();
        drop(entries);
        self.history.checkpoint_cached(counter, before, after);
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
        let entry = self.servers.entries.lock().unwrap().get(counter).copied();
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
