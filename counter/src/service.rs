//! The counter API without its transport: what the sidecar serves, in any process that holds the stores.
//!
//! Writes (`write`) are acknowledged when event and touch are durable in time; reads (`read`) come from checkpoints; [`Error`]
//! has every refusal. Rollup events go to the [`TouchedCounters`].

mod error;
mod read;
mod token_memory;
mod touch_memory;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::{StreamExt, stream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

pub use error::{Error, Field, Result};
use token_memory::TokenMemory;
use write::{Mutation, Writer};

use crate::aggregation::ScanBudget;
use crate::clock::Clock;
use crate::forward::TouchedCounters;
use crate::model::{CounterName, EventItem, Timestamp};
use crate::namespace::{BestEffortNamespace, Namespace, NamespaceStores};

/// The most items in a batch.
pub const BATCH_ITEMS_MAX: usize = 1_000;
/// Counters of one batch that are read at once.
const BATCH_READS_IN_PARALLEL: usize = 32;
/// How soon a refused client may try again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a process allows itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Mutations and reads under way at once, batch items counted one by one. Beyond it, requests are refused.
    pub in_flight: usize,
    /// Watches open at once.
    pub watches: usize,
    /// Events of scans in memory at once.
    pub scanned_events: u32,
    /// How long a request may take that brings no deadline of its own.
    pub deadline_default: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight: 32_768, watches: 1_024, scanned_events: 65_536, deadline_default: Duration::from_secs(10) }
    }
}

/// A token as a client sent it; what is missing is filled in here, and then protects retries inside this process only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientToken {
    /// The client's name for the mutation.
    pub token: Option<String>,
    /// When the mutation happened.
    pub generation_time: Option<Timestamp>,
}

/// A count as answered to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The count.
    pub count: i64,
    /// What the count promises; best-effort counts promise nothing.
    pub as_of: Option<Timestamp>,
}

/// What a mutation was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// Whether the token protects retries; not in best-effort namespaces.
    pub token_honoured: bool,
}

/// One item of a batch of adds.
#[derive(Debug, Clone)]
pub struct BatchAdd {
    /// The counter's name.
    pub counter_name: String,
    /// What to add.
    pub delta: i64,
    /// The item's own token.
    pub token: ClientToken,
}

/// The counter API of one process.
pub struct CounterService {
    served: ArcSwap<BTreeMap<String, Arc<Served>>>,
    clock: Arc<dyn Clock>,
    touched: Arc<TouchedCounters>,
    tokens: TokenMemory,
    budget: ScanBudget,
    in_flight: Semaphore,
    watches: Arc<Semaphore>,
    limits: Limits,
    source: String,
}

/// A namespace with what this process remembers of it.
struct Served {
    namespace: Namespace,
    writer: Writer,
}

impl CounterService {
    /// A service without namespaces. `source` names this process in the tokens that it makes.
    #[must_use]
    pub fn new(source: &str, clock: Arc<dyn Clock>, touched: Arc<TouchedCounters>, limits: Limits) -> Self {
        Self {
            served: ArcSwap::default(),
            tokens: TokenMemory::new(clock.clone()),
            clock,
            touched,
            budget: ScanBudget::new(limits.scanned_events),
            in_flight: Semaphore::new(limits.in_flight.min(Semaphore::MAX_PERMITS)),
            watches: Arc::new(Semaphore::new(limits.watches.min(Semaphore::MAX_PERMITS))),
            limits,
            source: source.to_owned(),
        }
    }

    /// Serves these namespaces from now on, and no others. What is under way ends with the settings it began with.
    pub fn serve(&self, namespaces: impl IntoIterator<Item = Namespace>) {
        let before = self.served.load_full();
        let served = namespaces.into_iter().map(|namespace| {
            let name = namespace.name().as_str().to_owned();
            // What is known to be durable stays known as long as it is the same dataset.
            let kept = before.get(&name).filter(|old| same_dataset(&old.namespace, &namespace));
            let writer = kept.map_or_else(Writer::default, |old| old.writer.clone());
            (name, Arc::new(Served { namespace, writer }))
        });
        self.served.store(Arc::new(served.collect()));
    }

    /// The namespaces served.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Namespace> {
        self.served.load().values().map(|served| served.namespace.clone()).collect()
    }

    /// Whether tokens protect retries in this namespace; `None` where it is not served.
    #[must_use]
    pub fn token_honoured(&self, namespace: &str) -> Option<bool> {
        self.served.load().get(namespace).map(|served| served.namespace.durable().is_some())
    }

    /// Adds `delta` to a counter.
    ///
    /// # Errors
    /// Those of [`Error`] that concern mutations.
    pub async fn add_count(
        &self,
        namespace: &str,
        counter_name: &str,
        delta: i64,
        token: ClientToken,
        deadline: Option<Instant>,
    ) -> Result<Acknowledged> {
        self.mutate(namespace, counter_name, EventItem::Add(delta), token, deadline).await
    }

    /// Sets a counter to zero, as of the token's place in the order of events.
    ///
    /// # Errors
    /// Those of [`Error`] that concern mutations.
    pub async fn clear_count(
        &self,
        namespace: &str,
        counter_name: &str,
        token: ClientToken,
        deadline: Option<Instant>,
    ) -> Result<Acknowledged> {
        self.mutate(namespace, counter_name, EventItem::Clear, token, deadline).await
    }

    async fn mutate(
        &self,
        namespace: &str,
        counter_name: &str,
        item: EventItem,
        token: ClientToken,
        deadline: Option<Instant>,
    ) -> Result<Acknowledged> {
        let served = self.served(namespace)?;
        let counter_name = counter(counter_name, || "counter_name".into())?;
        let _permit = self.admit(1)?;
        match &served.namespace.counting {
            NamespaceStores::BestEffort(stores) => {
                self.count_best_effort(&served, stores, counter_name, item, deadline).await.map(drop)?;
                Ok(Acknowledged { token_honoured: false })
            }
            NamespaceStores::Durable(_) => {
                let token = write::complete(token, || "idempotency_token".into(), &self.source, &*self.clock)?;
                let mutation = Mutation { counter_name, token, item };
                // Large, and of no use to a best-effort add, which would carry it about.
                Box::pin(self.write_one(&served, mutation, self.until(deadline))).await?;
                Ok(Acknowledged { token_honoured: true })
            }
        }
    }

    /// Adds `delta` to a counter and answers its count: with the add in it in accurate and best-effort namespaces, the last
    /// rolled-up one in eventual ones.
    ///
    /// # Errors
    /// Those of [`Error`]. When the add was acknowledged and the count cannot be read, that is [`Error::OutcomeUnknown`]:
    /// safe to try again with the same token. [`Error::CountOverflow`] is about the count; the add is acknowledged.
    pub async fn add_and_get_count(
        &self,
        namespace: &str,
        counter_name: &str,
        delta: i64,
        token: ClientToken,
        deadline: Option<Instant>,
    ) -> Result<(Count, Acknowledged)> {
        let served = self.served(namespace)?;
        if let NamespaceStores::BestEffort(stores) = &served.namespace.counting {
            let counter_name = counter(counter_name, || "counter_name".into())?;
            let _permit = self.admit(1)?;
            let count = self.count_best_effort(&served, stores, counter_name, EventItem::Add(delta), deadline).await?;
            return Ok((Count { count, as_of: None }, Acknowledged { token_honoured: false }));
        }
        let acknowledged = self.add_count(namespace, counter_name, delta, token, deadline).await?;
        match self.get_count(namespace, counter_name, None, deadline).await {
            Ok(count) => Ok((count, acknowledged)),
            Err(error @ Error::CountOverflow { .. }) => Err(error),
            Err(error) => Err(Error::OutcomeUnknown {
                reason: format!("the add was acknowledged and its count could not be read: {error}"),
            }),
        }
    }

    /// The count of a counter. With `max_staleness`, a count that is not older than that.
    ///
    /// # Errors
    /// Those of [`Error`] that concern reads.
    pub async fn get_count(
        &self,
        namespace: &str,
        counter_name: &str,
        max_staleness: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<Count> {
        let served = self.served(namespace)?;
        let counter_name = counter(counter_name, || "counter_name".into())?;
        let _permit = self.admit(1)?;
        self.read_one(&served, counter_name, max_staleness, self.until(deadline)).await
    }

    /// Adds to up to [`BATCH_ITEMS_MAX`] counters, each item on its own: a status per item, in order.
    ///
    /// # Errors
    /// When nothing was tried: the namespace is unknown, the batch too large, or too much in flight.
    pub async fn batch_add_count(
        &self,
        namespace: &str,
        adds: Vec<BatchAdd>,
        deadline: Option<Instant>,
    ) -> Result<(Vec<Result<()>>, Acknowledged)> {
        let served = self.served(namespace)?;
        check_batch(adds.len(), "adds")?;
        let _permit = self.admit(adds.len())?;
        let until = self.until(deadline);
        match &served.namespace.counting {
            NamespaceStores::BestEffort(stores) => {
                let adds = adds.into_iter().enumerate().map(|(index, add)| {
                    let served = &served;
                    async move {
                        let counter_name =
                            counter(&add.counter_name, || Field::in_batch("adds", index, "counter_name"))?;
                        let item = EventItem::Add(add.delta);
                        self.count_best_effort(served, stores, counter_name, item, deadline).await.map(drop)
                    }
                });
                Ok((futures::future::join_all(adds).await, Acknowledged { token_honoured: false }))
            }
            NamespaceStores::Durable(_) => {
                let mutations = adds.into_iter().enumerate().map(|(index, add)| {
                    let counter_name = counter(&add.counter_name, || Field::in_batch("adds", index, "counter_name"))?;
                    let field = || Field::in_batch("adds", index, "idempotency_token");
                    let token = write::complete(add.token, field, &self.source, &*self.clock)?;
                    Ok(Mutation { counter_name, token, item: EventItem::Add(add.delta) })
                });
                let results = self.write(&served, mutations.collect(), until).await;
                Ok((results, Acknowledged { token_honoured: true }))
            }
        }
    }

    /// Reads up to [`BATCH_ITEMS_MAX`] counters: a count or an error per name, in order.
    ///
    /// # Errors
    /// When nothing was tried: the namespace is unknown, the batch too large, or too much in flight.
    pub async fn batch_get_count(
        &self,
        namespace: &str,
        counter_names: &[String],
        deadline: Option<Instant>,
    ) -> Result<Vec<Result<Count>>> {
        let served = self.served(namespace)?;
        check_batch(counter_names.len(), "counter_names")?;
        let _permit = self.admit(counter_names.len())?;
        let until = self.until(deadline);
        let reads: Vec<_> = counter_names
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let served = &served;
                async move {
                    let counter_name = counter(name, || Field::at("counter_names", index))?;
                    self.read_one(served, counter_name, None, until).await
                }
            })
            .collect();
        Ok(stream::iter(reads).buffered(BATCH_READS_IN_PARALLEL).collect().await)
    }

    fn served(&self, namespace: &str) -> Result<Arc<Served>> {
        let served = self.served.load();
        served.get(namespace).cloned().ok_or_else(|| Error::NamespaceUnknown { namespace: namespace.to_owned() })
    }

    fn admit(&self, items: usize) -> Result<SemaphorePermit<'_>> {
        let items = u32::try_from(items).unwrap_or(u32::MAX);
        self.in_flight.try_acquire_many(items).map_err(|_| Error::Overloaded { retry_after: RETRY_AFTER })
    }

    fn until(&self, deadline: Option<Instant>) -> Instant {
        deadline.unwrap_or_else(|| Instant::now() + self.limits.deadline_default)
    }

    async fn count_best_effort(
        &self,
        served: &Served,
        stores: &BestEffortNamespace,
        counter_name: CounterName,
        item: EventItem,
        deadline: Option<Instant>,
    ) -> Result<i64> {
        let counter = write::key(&served.namespace, counter_name);
        let counted = async {
            match item {
                EventItem::Add(delta) => stores.store.add(&counter, delta, stores.ttl).await,
                EventItem::Clear => stores.store.clear(&counter).await.map(|()| 0),
            }
        };
        match tokio::time::timeout_at(self.until(deadline), counted).await {
            Ok(counted) => counted.map_err(Error::of_mutation),
            Err(_) => Err(Error::OutcomeUnknown { reason: "the deadline passed".to_owned() }),
        }
    }
}

fn same_dataset(old: &Namespace, new: &Namespace) -> bool {
    match (old.durable(), new.durable()) {
        (Some(old), Some(new)) => Arc::ptr_eq(&old.dataset, &new.dataset),
        _ => false,
    }
}

/// Checks a counter's name; `field` is made only where it is wrong.
fn counter(name: &str, field: impl FnOnce() -> Field) -> Result<CounterName> {
    CounterName::new(name).map_err(|error| Error::invalid(field(), error.reason))
}

fn check_batch(items: usize, field: &'static str) -> Result<()> {
    if items > BATCH_ITEMS_MAX {
        return Err(Error::invalid(field, format!("a batch has at most {BATCH_ITEMS_MAX} items, not {items}")));
    }
    Ok(())
}
