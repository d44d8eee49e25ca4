//! Best-effort counters on a cluster.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use memcache::exp::{Delete, Get};
use tokio::task::AbortHandle;

use super::adding::Adding;
use super::answer;
use super::cluster::{Cluster, Place};
use super::copies::Copy;
use super::debts::{Debts, Owed};
use super::encoding;
use super::repairing::{self, Repairs};
use super::server::Reply;
use super::stripes::Stripes;
use crate::model::CounterKey;
use crate::store::{BestEffortStore, Error, Result};

/// How long the nearest replica may take to answer before the next one is asked.
const NEAREST_WAIT: Duration = Duration::from_millis(100);
/// For how long after it was found silent a replica is asked again before a counter that the others do not know is taken for one
/// that nobody knows: a replica that is slow for a moment has forgotten nothing.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How soon it is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Best-effort counters on a memcached cluster. Clones share their state.
///
/// Every replica that answers gets every add; the nearest one is read. What a replica missed or has forgotten is copied to it
/// from another one, with the time that was left to live.
#[derive(Clone)]
pub struct BestEffort {
    shared: Arc<Shared>,
    _repairing: Arc<Task>,
}

/// What adds, reads, clears and repairs share.
pub(super) struct Shared {
    pub cluster: Cluster,
    pub debts: Debts,
    /// An add holds its counter's stripe shared, a repair and a clear hold it alone.
    pub stripes: Stripes,
    pub repairs: Repairs,
}

/// A task that ends with its last owner.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What best-effort counters cost beyond adds and reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BestEffortStatistics {
    /// Copies written to replicas that had lost or missed something.
    pub copies_healed: u64,
    /// Counters that some replica has wrong, as far as this process knows.
    pub debts: u64,
    /// Counters that some replica has wrong and that there was no room to remember.
    pub debts_forgotten: u64,
}

impl fmt::Debug for BestEffort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BestEffort").field("cluster", &self.shared.cluster).finish_non_exhaustive()
    }
}

impl BestEffort {
    /// Best-effort counters on `cluster`. Spawns a task on the current runtime.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        let shared = Arc::new(Shared {
            debts: Debts::new(cluster.servers().len()),
            cluster: cluster.clone(),
            stripes: Stripes::default(),
            repairs: Repairs::default(),
        });
        let task = tokio::spawn(repairing::run(shared.clone())).abort_handle();
        Self { shared, _repairing: Arc::new(Task(task)) }
    }

    /// What was healed, and what is yet to be.
    #[must_use]
    pub fn statistics(&self) -> BestEffortStatistics {
        BestEffortStatistics {
            copies_healed: self.shared.repairs.copies_healed(),
            debts: self.shared.debts.count() as u64,
            debts_forgotten: self.shared.debts.forgotten(),
        }
    }
}

#[async_trait]
impl BestEffortStore for BestEffort {
    async fn add(&self, counter: &CounterKey, delta: i64, ttl: Duration) -> Result<i64> {
        let key = encoding::key(counter);
        let places = self.shared.cluster.places(&key);
        let adding = Adding { shared: &self.shared, key: &key, delta, ttl };
        match places.as_slice() {
            [only] => adding.on_the_only_replica(*only).await,
            places => adding.on_replicas(places).await,
        }
    }

    async fn get(&self, counter: &CounterKey) -> Result<Option<i64>> {
        let key = encoding::key(counter);
        let mut places = self.shared.cluster.places(&key);
        if let [only] = places.as_slice() {
            return Ok(self.shared.copy(*only, &key).await?.map(|copy| encoding::to_count(copy.stored)));
        }
        self.shared.cluster.nearest_first(&mut places, |place| self.shared.debts.owed(place, &key));
        self.shared.read(&places, &key).await.map(|stored| stored.map(encoding::to_count))
    }

    async fn clear(&self, counter: &CounterKey) -> Result<()> {
        let key = encoding::key(counter);
        let places = self.shared.cluster.places(&key);
        let _alone = self.shared.stripes.of(&key).write().await;
        self.shared.clear(&places, &key).await
    }
}

/// What replicas said of a counter.
#[derive(Default)]
struct Heard {
    certain: Option<u64>,
    provisional: Option<u64>,
    absent: Vec<Place>,
}

impl Heard {
    /// Whether any replica answered.
    fn anything(&self) -> bool {
        self.certain.is_some() || self.provisional.is_some() || !self.absent.is_empty()
    }
}

impl Shared {
    pub(super) fn now(&self) -> Duration {
        self.cluster.clock().monotonic()
    }

    /// The copy at `place`.
    pub(super) async fn copy(&self, place: Place, key: &str) -> Result<Option<Copy>> {
        let item = answer::got(self.cluster.server(place).send(key, Copy::read(key)).get().await?)?;
        item.as_ref().map(Copy::of).transpose()
    }

    /// The copy at `place`, which has not answered and which may know a counter that the others do not.
    ///
    /// # Errors
    /// It has not answered for [`SILENCE_MAX`], or answers what is no copy.
    pub(super) async fn ask_again(&self, place: Place, key: &str) -> Result<Option<Copy>> {
        let health = self.cluster.server(place).health();
        let began = self.now();
        let mut failure = Error::Unavailable { reason: "the replica does not answer".to_owned() };
        while health.silent_for() < SILENCE_MAX && self.now().saturating_sub(began) < SILENCE_MAX {
            match self.copy(place, key).await {
                Err(error @ (Error::Timeout { .. } | Error::Unavailable { .. })) => failure = error,
                answered => return answered,
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
        Err(failure)
    }

    /// Whether the counter, absent at `place`, is announced there: it has not forgotten it, it is not so far yet.
    pub(super) async fn is_in_the_making(&self, place: Place, key: &str) -> bool {
        if self.debts.of(place, key).is_some() {
            return false;
        }
        let announcement = Get::new(encoding::announcement_key(key));
        let item = self.cluster.server(place).send(key, announcement).get().await.and_then(answer::got);
        matches!(item, Ok(Some(_)))
    }

    /// All of `places`, as [`Shared::ask_again`] asks one; first comes who answers first.
    pub(super) fn ask_all_again<'a>(
        &'a self,
        places: Vec<Place>,
        key: &'a str,
    ) -> impl Stream<Item = (Place, Result<Option<Copy>>)> + Unpin + 'a {
        let ask = |place: Place| async move { (place, self.ask_again(place, key).await) };
        places.into_iter().map(ask).collect::<FuturesUnordered<_>>()
    }

    fn hear(&self, heard: &mut Heard, place: Place, key: &str, copy: Option<Copy>) {
        match copy {
            Some(copy) if copy.provisional => {
                heard.provisional = heard.provisional.or(Some(copy.stored));
                // Whoever made it may be gone, and what it owed with it.
                self.debts.owe(place, key, self.now(), Owed::Unacknowledged, false);
            }
            Some(copy) => heard.certain = Some(copy.stored),
            None => heard.absent.push(place),
        }
    }

    /// Reads the counter from the first of `places` that knows it for certain.
    async fn read(&self, places: &[Place], key: &str) -> Result<Option<u64>> {
        let mut heard = Heard::default();
        let mut silent = Vec::new();
        let mut failure = None;
        for (nth, &place) in places.iter().enumerate() {
            let is_down = self.cluster.server(place).health().is_down();
            if is_down && heard.anything() {
                silent.push(place);
                continue;
            }
            let read = self.copy(place, key);
            let read = if nth + 1 < places.len() {
                tokio::time::timeout(NEAREST_WAIT, read).await.unwrap_or_else(|_| {
                    Err(Error::Timeout { reason: "the nearest replica did not answer in time".to_owned() })
                })
            } else {
                read.await
            };
            match read {
                Ok(copy) => self.hear(&mut heard, place, key, copy),
                Err(error) => {
                    silent.push(place);
                    failure = Some(error);
                }
            }
            if heard.certain.is_some() {
                break;
            }
        }
        if !heard.anything() {
            return failure.map_or(Ok(None), Err);
        }
        if heard.certain.is_none() {
            // One that stays silent has no say.
            let mut answers = self.ask_all_again(silent, key);
            while let (None, Some((place, answer))) = (heard.certain, answers.next().await) {
                if let Ok(copy) = answer {
                    self.hear(&mut heard, place, key, copy);
                }
            }
        }
        let known = heard.certain.or(heard.provisional);
        if known.is_some() {
            for place in heard.absent {
                if !self.is_in_the_making(place, key).await {
                    self.debts.owe(place, key, self.now(), Owed::Acknowledged, false);
                }
            }
        }
        Ok(known)
    }

    /// Clears the counter at all of `places`, or tells why some may still have it.
    async fn clear(&self, places: &[Place], key: &str) -> Result<()> {
        for &place in places {
            let server = self.cluster.server(place);
            if server.health().is_down() {
                // Nothing is cleared anywhere that could not be cleared everywhere.
                server.probe().await?;
            }
        }
        let delete = |gone: &str| -> Vec<Reply> {
            places.iter().map(|&place| self.cluster.server(place).send(key, Delete::new(gone))).collect()
        };
        // First: where the counter is gone, it is not in the making any more. A single replica's is never announced.
        let announcements = if places.len() > 1 { delete(&encoding::announcement_key(key)) } else { Vec::new() };
        let counters = delete(key);
        let (mut cleared, mut failures) = (0, Vec::new());
        for announcement in announcements {
            failures.extend(announcement.get().await.and_then(answer::deleted).err());
        }
        for (counter, &place) in counters.into_iter().zip(places) {
            match counter.get().await.and_then(answer::deleted) {
                Ok(_) => {
                    cleared += 1;
                    self.debts.cancel(place, key);
                }
                Err(error) => failures.push(error),
            }
        }
        let Some(error) = failures.pop() else { return Ok(()) };
        if cleared == 0 && !error.is_outcome_unknown() && failures.iter().all(|error| !error.is_outcome_unknown()) {
            return Err(error);
        }
        let reason = format!("cleared on {cleared} of {} replicas: {error}", places.len());
        Err(Error::Timeout { reason })
    }
}
