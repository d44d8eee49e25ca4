//! Checkpoints on a cluster.
//!
//! On each server, an entry is replaced only by a greater checkpoint, count and time together, by compare-and-set: there,
//! `last_rollup_ts` never goes back. Across replicas it can: one that an offer did not reach has an older entry until the offer
//! is made good, the next rollup offers again, or the entry expires. So readers stay with one replica as long as it answers,
//! and an offer that failed is repeated as soon as its server answers again. An older checkpoint is as true as a newer one, of
//! its own time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memcache::exp::{Get, Meta, Set};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::answer;
use super::cluster::{Cluster, Place};
use super::encoding::CacheKey;
use crate::model::{Checkpoint, CounterKey};
use crate::store::{Error, Result, RollupCache};

/// How long one replica may take to answer a read before the next one is asked.
const REPLICA_WAIT: Duration = Duration::from_millis(80);
/// Attempts at a compare-and-set that others keep winning. What wins is a checkpoint as well.
const ATTEMPTS_MAX: u32 = 8;
/// The most offers that wait for their server to answer again. More are lost: the entries they would have replaced expire.
const OFFERS_LATE_MAX: usize = 16 * 1024;
/// How often late offers look whether their server answers.
const LATE_EVERY: Duration = Duration::from_millis(50);

/// A cache of checkpoints on a memcached cluster. Clones share their state.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
    _late: Arc<Task>,
}

struct Shared {
    cluster: Cluster,
    scope: String,
    expiry_seconds: u32,
    late: Mutex<HashMap<(Place, CounterKey), Checkpoint>>,
    is_late: Notify,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("cluster", &self.shared.cluster)
            .field("scope", &self.shared.scope)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// The cache of `scope` on `cluster`: a name without `/` for the store that its checkpoints come from, so that namespaces
    /// of one name in different stores never meet. Entries live for `expiry` (at most 30 days) after they were last offered. Spawns a task
    /// on the current runtime.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn new(cluster: &Cluster, scope: &str, expiry: Duration) -> Self {
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            scope: scope.to_owned(),
            expiry_seconds: super::encoding::ttl_seconds(expiry, cluster.clock().now()),
            late: Mutex::default(),
            is_late: Notify::new(),
        });
        let late = tokio::spawn(offer_late(shared.clone())).abort_handle();
        Self { shared, _late: Arc::new(Task(late)) }
    }
}

#[async_trait]
impl RollupCache for Cache {
    async fn get(&self, counter: &CounterKey) -> Result<Option<Checkpoint>> {
        let key = CacheKey::new(&self.shared.scope, counter);
        let mut places = self.shared.cluster.places(key.as_str());
        self.shared.cluster.nearest_first(&mut places, |place| self.shared.is_late(place, counter));
        let mut failure = None;
        for place in places {
            let server = self.shared.cluster.server(place);
            if server.health().is_down() {
                // Its probes find out when it is back. Readers have the rollup store.
                continue;
            }
            let read = tokio::time::timeout(REPLICA_WAIT, server.send(key.as_str(), Get::new(key.as_str())).get());
            match read.await {
                // What cannot be read is as good as absent: the rollup store knows.
                Ok(Ok(answer)) => return Ok(answer::got(answer)?.and_then(|item| key.decode(&item.value))),
                Ok(Err(error)) => failure = Some(error),
                Err(_) => failure = Some(Error::Timeout { reason: format!("{} did not answer", server.address()) }),
            }
        }
        Err(failure.unwrap_or_else(|| Error::Unavailable { reason: "no replica of the cache answers".to_owned() }))
    }

    async fn offer(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        let key = CacheKey::new(&self.shared.scope, counter);
        let offers = self.shared.cluster.places(key.as_str()).into_iter().map(|place| {
            let key = &key;
            async move {
                let mut unsettled = Unsettled { shared: &self.shared, place, counter, checkpoint, settled: false };
                let offered = self.shared.offer_at(place, key, checkpoint).await;
                unsettled.settled = offered.is_ok();
                if offered.is_ok() {
                    self.shared.forget(place, counter, checkpoint);
                }
                offered
            }
        });
        futures::future::join_all(offers).await.into_iter().collect()
    }
}

/// An offer that its server may not have taken, be it that the caller gave up: it is made again.
struct Unsettled<'a> {
    shared: &'a Shared,
    place: Place,
    counter: &'a CounterKey,
    checkpoint: Checkpoint,
    settled: bool,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.shared.remember(self.place, self.counter, self.checkpoint);
        }
    }
}

impl Shared {
    fn late(&self) -> MutexGuard<'_, HashMap<(Place, CounterKey), Checkpoint>> {
        // Nothing panics while it is held half changed.
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_late(&self, place: Place, counter: &CounterKey) -> bool {
        let late = self.late();
        !late.is_empty() && late.contains_key(&(place, counter.clone()))
    }

    fn remember(&self, place: Place, counter: &CounterKey, checkpoint: Checkpoint) {
        let mut late = self.late();
        let offer = (place, counter.clone());
        if late.len() < OFFERS_LATE_MAX || late.contains_key(&offer) {
            late.entry(offer).and_modify(|late| *late = checkpoint.max(*late)).or_insert(checkpoint);
        }
        drop(late);
        self.is_late.notify_one();
    }

    /// What is late and not newer than `checkpoint`, which `place` has, would come too late.
    fn forget(&self, place: Place, counter: &CounterKey, checkpoint: Checkpoint) {
        let mut late = self.late();
        if !late.is_empty() {
            let offer = (place, counter.clone());
            if late.get(&offer).is_some_and(|late| *late <= checkpoint) {
                late.remove(&offer);
            }
        }
    }

    /// Stores `checkpoint` at `place` unless there is a greater one. An equal one is stored again, so that it lives on.
    async fn offer_at(&self, place: Place, key: &CacheKey, checkpoint: Checkpoint) -> Result<()> {
        let server = self.cluster.server(place);
        if server.health().is_down() {
            return Err(Error::Unavailable { reason: format!("{} does not answer", server.address()) });
        }
        for _ in 0..ATTEMPTS_MAX {
            let read = Get::new(key.as_str()).meta(Meta::NONE.cas());
            let item = answer::got(server.send(key.as_str(), read).get().await?)?;
            let write = Set::new(key.as_str(), key.encode(checkpoint)).ttl_raw(self.expiry_seconds);
            let write = match item {
                None => write.add(),
                Some(item) if key.decode(&item.value).is_some_and(|cached| cached > checkpoint) => return Ok(()),
                Some(item) => write.compare_cas(item.cas.unwrap_or(0)),
            };
            if answer::stored(server.send(key.as_str(), write).get().await?)?.is_some() {
                return Ok(());
            }
        }
        Err(Error::Unavailable { reason: format!("the entry at {} keeps changing", server.address()) })
    }

    /// Makes the late offers whose servers answer. Whether there were none.
    async fn offer_again(&self) -> bool {
        let due: Vec<_> = {
            let late = self.late();
            let answers = |place: Place| !self.cluster.server(place).health().is_down();
            late.iter().filter(|((place, _), _)| answers(*place)).map(|(offer, late)| (offer.clone(), *late)).collect()
        };
        for ((place, counter), checkpoint) in due {
            let key = CacheKey::new(&self.scope, &counter);
            // One that is refused holds up no other; where the server went away again, the rest is refused at once.
            if self.offer_at(place, &key, checkpoint).await.is_ok() {
                self.forget(place, &counter, checkpoint);
            }
        }
        self.late().is_empty()
    }
}

/// Makes late offers good, for ever.
async fn offer_late(shared: Arc<Shared>) {
    loop {
        if shared.offer_again().await {
            shared.is_late.notified().await;
        } else {
            tokio::time::sleep(LATE_EVERY).await;
        }
    }
}
