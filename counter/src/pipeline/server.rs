//! The rollup server: the queues and consumers of all namespaces, their sweeps, and changes while they run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::join_all;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinError, JoinHandle};

use super::coalescing::Drain;
use super::consumer::{Consumer, Counts, Phase};
use super::guests::{Guests, acknowledged_until, lag_max};
use super::ownership::Ownership;
use super::queue::{Ended, Queues};
use super::sweep::{Sweep, SweepReport};
use crate::aggregation::ScanBudget;
use crate::configuration::Queue;
use crate::dataset::Dataset;
use crate::model::{CounterKey, CounterName, NamespaceName};
use crate::namespace::{DurableNamespace, Namespace};
use crate::store::{self, Share};

/// How long a consumer may take to hand over to another: one batch. Then it is cut off, and a sweep finds what it had in hand.
const HAND_OVER: Duration = Duration::from_secs(10);
/// How soon after a drop or a change, or a sweep that failed, the next sweep begins.
const SOON: Duration = Duration::from_secs(1);

/// What a rollup server is told of itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name, by which counters are assigned to it.
    pub name: String,
    /// Events of scans in memory at once.
    pub scanned_events: u32,
    /// The time between two sweeps.
    pub sweep_every: Duration,
}

impl Options {
    /// The usual options of a server.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), scanned_events: 65_536, sweep_every: Duration::from_secs(60) }
    }
}

/// What a rollup server has done since it started, and what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Rollups that succeeded.
    pub rolled_up: u64,
    /// Those among them that another server had done already, within the same window.
    pub duplicates: u64,
    /// Rollups that failed and were put back.
    pub failed: u64,
    /// Events that rollups read.
    pub events: u64,
    /// Rollup events that found their queue full.
    pub refused: u64,
    /// Counters waiting.
    pub queued: u64,
    /// Memory of the queues.
    pub queued_bytes: u64,
    /// Sweeps that read all they were to read.
    pub sweeps: u64,
    /// Counters that sweeps found though their last write could have been rolled up by then.
    pub overdue: u64,
}

/// A rollup server, in whatever process.
pub struct RollupServer {
    options: Options,
    budget: Arc<ScanBudget>,
    counts: Arc<Counts>,
    pipelines: ArcSwap<BTreeMap<NamespaceName, Arc<Pipeline>>>,
    /// Held while the set of pipelines changes; says whether it may.
    changing: Mutex<Stage>,
    /// Dropped by queues and consumers that are no more.
    lost_by_ended: AtomicU64,
    /// How often what this server is to sweep changed.
    changes: AtomicU64,
    sweeps: AtomicU64,
    overdue: AtomicU64,
}

/// How far a server's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Serving,
    /// It takes no namespaces any more.
    Drained,
}

/// One namespace's queues and their consumers.
struct Pipeline {
    namespace: Namespace,
    queues: Arc<Queues>,
    ownership: Arc<Ownership>,
    guests: Arc<Guests>,
    consumers: Mutex<Vec<Running>>,
}

/// A consumer at work. Each has its own channel: receivers of one would be woken in an order that no seed decides.
struct Running {
    phase: watch::Sender<Phase>,
    task: JoinHandle<Vec<Drain>>,
}

/// What consumers that ended leave behind.
#[derive(Default)]
struct LeftBehind {
    /// What they had in hand.
    in_hand: Vec<Drain>,
    /// Consumers that ended without a word; so did what they had in hand.
    lost: u64,
}

impl Pipeline {
    /// Tells the consumers what to do and waits until they have ended. Those that are to hand over are not waited for for ever.
    async fn end(&self, phase: Phase) -> LeftBehind {
        let consumers = std::mem::take(&mut *self.consumers.lock().await);
        for consumer in &consumers {
            consumer.phase.send_replace(phase);
        }
        let mut left = LeftBehind::default();
        for ended in join_all(consumers.into_iter().map(|consumer| consumer.ended(phase))).await {
            match ended {
                Ok(windows) => left.in_hand.extend(windows),
                Err(error) => {
                    tracing::error!(namespace = %self.namespace.name(), %error, "a consumer ended badly");
                    left.lost += 1;
                }
            }
        }
        left
    }
}

impl Running {
    async fn ended(mut self, phase: Phase) -> Result<Vec<Drain>, JoinError> {
        if phase == Phase::HandOver {
            if let Ok(ended) = tokio::time::timeout(HAND_OVER, &mut self.task).await {
                return ended;
            }
            // Each step of a rollup can be its last.
            self.task.abort();
        }
        self.task.await
    }
}

impl RollupServer {
    /// A server without namespaces.
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        Arc::new(Self {
            budget: Arc::new(ScanBudget::new(options.scanned_events)),
            options,
            counts: Arc::default(),
            pipelines: ArcSwap::default(),
            changing: Mutex::default(),
            lost_by_ended: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            sweeps: AtomicU64::new(0),
            overdue: AtomicU64::new(0),
        })
    }

    /// Its name among the rollup servers.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// The namespaces that it rolls up.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Namespace> {
        self.pipelines.load().values().map(|pipeline| pipeline.namespace.clone()).collect()
    }

    /// Rolls up these namespaces from now on, and no others, each with the servers that its `rollup_endpoints` name. What was
    /// queued stays queued, with other queues if their number or size changed; what this server does not own any more it
    /// leaves to its owner. After [`RollupServer::drain`] it serves nothing any more.
    pub async fn serve(&self, namespaces: impl IntoIterator<Item = Namespace>) {
        let stage = self.changing.lock().await;
        if *stage == Stage::Drained {
            return;
        }
        let before = self.pipelines.load_full();
        let mut pipelines = BTreeMap::new();
        let (mut added, mut replaced) = (Vec::new(), Vec::new());
        let mut sweeps_change = false;
        for namespace in namespaces {
            let Some(durable) = namespace.durable() else { continue };
            let name = namespace.name().clone();
            let old = before.get(&name);
            if let Some(old) = old.filter(|old| {
                old.namespace.configuration == namespace.configuration && same_stores(&old.namespace, &namespace)
            }) {
                pipelines.insert(name, old.clone());
                continue;
            }
            let pipeline = self.pipeline(&namespace, durable, old);
            match old {
                Some(old) => {
                    sweeps_change |= old.ownership != pipeline.ownership || !same_stores(&old.namespace, &namespace);
                    replaced.push((old.clone(), pipeline.clone()));
                }
                None => {
                    sweeps_change = true;
                    added.push(pipeline.clone());
                }
            }
            pipelines.insert(name, pipeline);
        }
        let gone: Vec<_> =
            before.iter().filter(|(name, _)| !pipelines.contains_key(*name)).map(|(_, old)| old.clone()).collect();
        // New rollup events go to the new queues; then what is on the old ones follows.
        self.pipelines.store(Arc::new(pipelines));
        for pipeline in added {
            self.start(&pipeline).await;
        }
        let replacing = join_all(replaced.iter().map(|(old, new)| self.replace(old, new)));
        let ending = join_all(gone.iter().map(|old| async move {
            drop(old.end(Phase::HandOver).await);
            self.end_queues(old);
        }));
        futures::join!(replacing, ending);
        if sweeps_change {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn replace(&self, old: &Pipeline, new: &Pipeline) {
        let left = old.end(Phase::HandOver).await;
        self.lost_by_ended.fetch_add(left.lost, Ordering::Relaxed);
        if !Arc::ptr_eq(&old.queues, &new.queues) {
            self.end_queues(old);
        }
        for name in left.in_hand.into_iter().flatten() {
            // Smaller queues may not hold it all. They count what they refuse, and a sweep follows.
            let _ = new.queues.insert(&name);
        }
        self.start(new).await;
    }

    fn end_queues(&self, old: &Pipeline) {
        old.queues.end();
        self.lost_by_ended.fetch_add(old.queues.refused(), Ordering::Relaxed);
    }

    fn pipeline(
        &self,
        namespace: &Namespace,
        durable: &DurableNamespace,
        old: Option<&Arc<Pipeline>>,
    ) -> Arc<Pipeline> {
        let queue = durable.settings.queue;
        let shape = |queue: Queue| (queue.num_queues, queue.capacity_bytes);
        let same =
            old.filter(|old| old.namespace.durable().is_some_and(|old| shape(old.settings.queue) == shape(queue)));
        let queues = match same {
            Some(old) => old.queues.clone(),
            None => Arc::new(Queues::new(queue.num_queues, queue.capacity_bytes)),
        };
        Arc::new(Pipeline {
            namespace: namespace.clone(),
            queues,
            ownership: Arc::new(Ownership::new(&self.options.name, &durable.settings.rollup_endpoints)),
            guests: old.map(|old| old.guests.clone()).unwrap_or_default(),
            consumers: Mutex::default(),
        })
    }

    /// Starts the pipeline's consumers, unless they run.
    async fn start(&self, pipeline: &Pipeline) {
        let mut consumers = pipeline.consumers.lock().await;
        if !consumers.is_empty() {
            return;
        }
        for queue in pipeline.queues.each() {
            let phase = watch::Sender::new(Phase::Run);
            let consumer = Consumer {
                namespace: pipeline.namespace.clone(),
                queues: pipeline.queues.clone(),
                queue: queue.clone(),
                budget: self.budget.clone(),
                counts: self.counts.clone(),
                phase: phase.subscribe(),
                ownership: pipeline.ownership.clone(),
                guests: pipeline.guests.clone(),
            };
            consumers.push(Running { phase, task: tokio::spawn(consumer.run()) });
        }
    }

    /// Takes rollup events: counters of a namespace that were touched. Answers how many were taken; the rest found their queue
    /// full, or the namespace is not served here, and are left to a sweep.
    pub fn touched(&self, namespace: &NamespaceName, counters: &[CounterName]) -> usize {
        let pipelines = self.pipelines.load();
        let Some(pipeline) = pipelines.get(namespace) else { return 0 };
        let Some(durable) = pipeline.namespace.durable() else { return 0 };
        let until = acknowledged_until(&durable.dataset);
        let taken = counters.iter().filter(|name| {
            let counter = CounterKey { namespace: namespace.clone(), name: (*name).clone() };
            let is_guest = !pipeline.ownership.owns(&counter);
            if is_guest {
                pipeline.guests.touched(name, until);
            }
            let is_taken = pipeline.queues.insert(name).is_ok();
            if is_guest && !is_taken {
                pipeline.guests.left(name);
            }
            is_taken
        });
        taken.count()
    }

    /// Sweeps this server's share of every dataset once, queueing what was written and not rolled up: its own counters, and
    /// those of others that are overdue. All datasets are swept, whatever becomes of the others.
    ///
    /// # Errors
    /// The first of those that kept a rollup table from being read whole.
    pub async fn sweep_once(&self) -> store::Result<SweepReport> {
        let mut parts: Vec<(Arc<Dataset>, Arc<Ownership>)> = Vec::new();
        for pipeline in self.pipelines.load().values() {
            let Some(durable) = pipeline.namespace.durable() else { continue };
            let is_part = |(dataset, ownership): &(Arc<Dataset>, Arc<Ownership>)| {
                Arc::ptr_eq(dataset, &durable.dataset) && *ownership == pipeline.ownership
            };
            if !parts.iter().any(is_part) {
                parts.push((durable.dataset.clone(), pipeline.ownership.clone()));
            }
        }
        let swept = join_all(parts.iter().map(|(dataset, ownership)| self.sweep_part(dataset, ownership))).await;
        let mut total = SweepReport::default();
        for report in swept {
            let report = report?;
            total.rows += report.rows;
            total.unrolled += report.unrolled;
            total.overdue += report.overdue;
        }
        self.sweeps.fetch_add(1, Ordering::Relaxed);
        Ok(total)
    }

    /// Sweeps the share that this server has of a dataset, for the namespaces in it that have these servers; then, in that of
    /// another one, what has been overdue for so long that nobody sweeps there.
    async fn sweep_part(&self, dataset: &Dataset, ownership: &Ownership) -> store::Result<SweepReport> {
        let report = self.sweep_share(dataset, ownership, ownership.share(), Duration::ZERO).await?;
        if let Some(share) = ownership.share_of_another(self.sweeps.load(Ordering::Relaxed)) {
            self.sweep_share(dataset, ownership, share, self.options.sweep_every).await?;
        }
        Ok(report)
    }

    /// Sweeps one share. With `patience`, it is that of another server, and what is not overdue for longer is left to that one.
    async fn sweep_share(
        &self,
        dataset: &Dataset,
        ownership: &Ownership,
        share: Share,
        patience: Duration,
    ) -> store::Result<SweepReport> {
        let mut sweep = Sweep::new(dataset.rollups.as_ref(), share);
        let mut overdue = 0;
        while let Some(unrolled) = sweep.next().await? {
            let boundary = dataset.slices().boundary(dataset.clock.clock().now()).minus(patience);
            for (counter, row) in unrolled {
                let is_ours = |pipeline: &Arc<Pipeline>| *pipeline.ownership == *ownership;
                if !self.pipelines.load().get(&counter.namespace).is_some_and(is_ours) {
                    continue;
                }
                let is_overdue = row.last_write_ts.is_some_and(|last_write_ts| last_write_ts < boundary);
                overdue += u64::from(is_overdue);
                // What another owns and could not have rolled up yet is in its hands; else two would roll it up.
                if is_overdue || (patience.is_zero() && ownership.owns(&counter)) {
                    self.queue_when_there_is_room(&counter).await;
                }
            }
        }
        self.overdue.fetch_add(overdue, Ordering::Relaxed);
        Ok(SweepReport { overdue, ..sweep.report })
    }

    /// Puts a counter on its queue, whichever that is by the time there is room.
    async fn queue_when_there_is_room(&self, counter: &CounterKey) {
        loop {
            let Some(queues) = self.pipelines.load().get(&counter.namespace).map(|pipeline| pipeline.queues.clone())
            else {
                return;
            };
            // The new queues are there before the old ones end.
            if queues.insert_when_there_is_room(&counter.name).await != Err(Ended) {
                return;
            }
        }
    }

    /// Sweeps at once, after anything was dropped or the servers changed, and periodically, for as long as it is polled.
    pub async fn keep_swept(&self) {
        // After a change others may have gone without a word, and what was written last cannot be rolled up yet.
        let mut unsettled = true;
        let mut failing = None;
        loop {
            let before = (self.lost(), self.changes());
            let swept = self.sweep_once().await;
            let failed = swept.as_ref().err().map(ToString::to_string);
            if let Some(reason) = failed.as_ref().filter(|_| failed != failing) {
                tracing::warn!(%reason, "a sweep did not finish; it is tried until it does");
            }
            failing = failed;
            let wait = match swept {
                Err(_) => SOON,
                Ok(_) if std::mem::take(&mut unsettled) => (self.lag_max() + SOON).min(self.options.sweep_every),
                Ok(_) => self.options.sweep_every,
            };
            let mut waited = Duration::ZERO;
            while waited < wait && (waited.is_zero() || (self.lost(), self.changes()) == before) {
                tokio::time::sleep(SOON.min(wait)).await;
                waited += SOON;
            }
            unsettled |= self.changes() != before.1;
        }
    }

    /// Rollup events that were dropped here, for want of room.
    fn lost(&self) -> u64 {
        let refused: u64 = self.pipelines.load().values().map(|pipeline| pipeline.queues.refused()).sum();
        refused + self.lost_by_ended.load(Ordering::Relaxed)
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// The longest that a boundary lies behind now.
    fn lag_max(&self) -> Duration {
        let pipelines = self.pipelines.load();
        let datasets = pipelines.values().filter_map(|pipeline| pipeline.namespace.durable());
        datasets.map(|durable| lag_max(&durable.dataset.slices())).max().unwrap_or_default()
    }

    /// Rolls up what is queued, at once, and ends all consumers.
    pub async fn drain(&self) {
        let mut stage = self.changing.lock().await;
        *stage = Stage::Drained;
        let pipelines = self.pipelines.swap(Arc::default());
        join_all(pipelines.values().map(|pipeline| pipeline.end(Phase::Drain))).await;
        for pipeline in pipelines.values() {
            self.end_queues(pipeline);
        }
    }

    /// What was done so far, and what waits.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let pipelines = self.pipelines.load();
        Statistics {
            rolled_up: self.counts.rolled_up.load(Ordering::Relaxed),
            duplicates: self.counts.duplicates.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
            events: self.counts.events.load(Ordering::Relaxed),
            refused: self.lost(),
            queued: pipelines.values().map(|pipeline| pipeline.queues.len() as u64).sum(),
            queued_bytes: pipelines.values().map(|pipeline| pipeline.queues.bytes() as u64).sum(),
            sweeps: self.sweeps.load(Ordering::Relaxed),
            overdue: self.overdue.load(Ordering::Relaxed),
        }
    }
}

fn same_stores(old: &Namespace, new: &Namespace) -> bool {
    match (old.durable(), new.durable()) {
        (Some(old), Some(new)) => Arc::ptr_eq(&old.dataset, &new.dataset) && old.cache.is_some() == new.cache.is_some(),
        _ => false,
    }
}
