//! The rollup server: the queues and consumers of all namespaces, their sweeps, and changes while they run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::join_all;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

use super::coalescing::Drain;
use super::consumer::{Consumer, Counts, Phase};
use super::queue::{Ended, Queues};
use super::sweep::{Sweep, SweepReport};
use crate::aggregation::ScanBudget;
use crate::configuration::Queue;
use crate::dataset::Dataset;
use crate::forward::owner;
use crate::model::{CounterKey, CounterName, NamespaceName};
use crate::namespace::Namespace;
use crate::store::{self, Share};

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
}

/// A rollup server, in whatever process.
pub struct RollupServer {
    options: Options,
    budget: Arc<ScanBudget>,
    counts: Arc<Counts>,
    pipelines: ArcSwap<BTreeMap<NamespaceName, Arc<Pipeline>>>,
    servers: Arc<ArcSwap<Vec<String>>>,
    /// Held while the set of pipelines changes.
    changing: Mutex<()>,
    refused_by_ended: std::sync::atomic::AtomicU64,
}

/// One namespace's queues and their consumers.
struct Pipeline {
    namespace: Namespace,
    queues: Arc<Queues>,
    consumers: Mutex<Vec<Running>>,
}

/// A consumer at work. Each has its own channel: receivers of one would be woken in an order that no seed decides.
struct Running {
    phase: watch::Sender<Phase>,
    task: JoinHandle<Vec<Drain>>,
}

impl Pipeline {
    /// Tells the consumers what to do and waits until they have ended; answers what they had in hand.
    async fn end(&self, phase: Phase) -> Vec<Drain> {
        let consumers = std::mem::take(&mut *self.consumers.lock().await);
        for consumer in &consumers {
            consumer.phase.send_replace(phase);
        }
        let mut in_hand = Vec::new();
        for ended in join_all(consumers.into_iter().map(|consumer| consumer.task)).await {
            match ended {
                Ok(windows) => in_hand.extend(windows),
                Err(error) => tracing::error!(namespace = %self.namespace.name(), %error, "a consumer ended badly"),
            }
        }
        in_hand
    }

    fn queue(&self) -> Option<(Queue, std::num::NonZeroUsize)> {
        self.namespace.durable().map(|durable| (durable.settings.queue, durable.settings.rollup_batch_count))
    }
}

impl RollupServer {
    /// A server without namespaces. `servers` names all servers, this one among them: what is swept is shared by them.
    #[must_use]
    pub fn new(options: Options) -> Arc<Self> {
        let servers = Arc::new(ArcSwap::from_pointee(vec![options.name.clone()]));
        Arc::new(Self {
            budget: Arc::new(ScanBudget::new(options.scanned_events)),
            options,
            counts: Arc::default(),
            pipelines: ArcSwap::default(),
            servers,
            changing: Mutex::default(),
            refused_by_ended: 0.into(),
        })
    }

    /// The names of all servers from now on.
    pub fn set_servers(&self, mut servers: Vec<String>) {
        servers.sort();
        servers.dedup();
        self.servers.store(Arc::new(servers));
    }

    /// Rolls up these namespaces from now on, and no others. What was queued stays queued, with other queues if their number
    /// or size changed.
    pub async fn serve(self: &Arc<Self>, namespaces: impl IntoIterator<Item = Namespace>) {
        let _changing = self.changing.lock().await;
        let before = self.pipelines.load_full();
        let mut pipelines = BTreeMap::new();
        let mut replaced = Vec::new();
        for namespace in namespaces {
            if namespace.durable().is_none() {
                continue;
            }
            let name = namespace.name().clone();
            let old = before.get(&name);
            if let Some(old) = old.filter(|old| {
                old.namespace.configuration == namespace.configuration && same_stores(&old.namespace, &namespace)
            }) {
                pipelines.insert(name, old.clone());
                continue;
            }
            let pipeline = self.pipeline(namespace, old);
            if let Some(old) = old {
                replaced.push((old.clone(), pipeline.clone()));
            }
            pipelines.insert(name, pipeline);
        }
        let gone: Vec<_> =
            before.iter().filter(|(name, _)| !pipelines.contains_key(*name)).map(|(_, old)| old.clone()).collect();
        // New rollup events go to the new queues; then what is on the old ones follows.
        self.pipelines.store(Arc::new(pipelines));
        join_all(replaced.into_iter().map(|(old, new)| async move {
            let in_hand = old.end(Phase::HandOver).await;
            if !Arc::ptr_eq(&old.queues, &new.queues) {
                self.end_queues(&old);
            }
            for name in in_hand.into_iter().flatten() {
                // Smaller queues may not hold it all. They count what they refuse, and a sweep follows.
                let _ = new.queues.insert(&name);
            }
            self.start(&new).await;
        }))
        .await;
        for old in gone {
            old.end(Phase::HandOver).await;
            self.end_queues(&old);
        }
        for pipeline in self.pipelines.load().values() {
            self.start(pipeline).await;
        }
    }

    fn end_queues(&self, old: &Pipeline) {
        old.queues.end();
        self.refused_by_ended.fetch_add(old.queues.refused(), Ordering::Relaxed);
    }

    fn pipeline(&self, namespace: Namespace, old: Option<&Arc<Pipeline>>) -> Arc<Pipeline> {
        let queue = namespace.durable().map(|durable| durable.settings.queue);
        let same = old.filter(|old| {
            let old = old.queue().map(|(queue, _)| (queue.num_queues, queue.capacity_bytes));
            old == queue.map(|queue| (queue.num_queues, queue.capacity_bytes))
        });
        let queues = match (same, queue) {
            (Some(old), _) => old.queues.clone(),
            (None, Some(queue)) => Arc::new(Queues::new(queue.num_queues, queue.capacity_bytes)),
            (None, None) => Arc::new(Queues::new(std::num::NonZeroU16::MIN, 0)),
        };
        Arc::new(Pipeline { namespace, queues, consumers: Mutex::default() })
    }

    /// Starts the pipeline's consumers, unless they run.
    async fn start(&self, pipeline: &Pipeline) {
        let mut consumers = pipeline.consumers.lock().await;
        if !consumers.is_empty() {
            return;
        }
        for queue in pipeline.queues.each() {
            let (servers, name) = (self.servers.clone(), self.options.name.clone());
            let phase = watch::Sender::new(Phase::Run);
            let consumer = Consumer {
                namespace: pipeline.namespace.clone(),
                queues: pipeline.queues.clone(),
                queue: queue.clone(),
                budget: self.budget.clone(),
                counts: self.counts.clone(),
                phase: phase.subscribe(),
                owns: Arc::new(move |counter: &CounterKey| {
                    let servers = servers.load();
                    owner(servers.iter().map(String::as_str), counter).is_some_and(|index| servers[index] == name)
                }),
            };
            consumers.push(Running { phase, task: tokio::spawn(consumer.run()) });
        }
    }

    /// Takes rollup events: counters of a namespace that were touched. Answers how many were taken; the rest found their queue
    /// full, or the namespace is not served here, and are left to a sweep.
    pub fn touched(&self, namespace: &NamespaceName, counters: &[CounterName]) -> usize {
        let pipelines = self.pipelines.load();
        let Some(pipeline) = pipelines.get(namespace) else { return 0 };
        counters.iter().filter(|name| pipeline.queues.insert(name).is_ok()).count()
    }

    /// Sweeps this server's share of every dataset once, queueing what was written and not rolled up. All datasets are swept,
    /// whatever becomes of the others.
    ///
    /// # Errors
    /// The first of those that kept a rollup table from being read whole.
    pub async fn sweep_once(&self) -> store::Result<SweepReport> {
        let pipelines = self.pipelines.load_full();
        let mut datasets: Vec<&Arc<Dataset>> = Vec::new();
        for durable in pipelines.values().filter_map(|pipeline| pipeline.namespace.durable()) {
            if !datasets.iter().any(|dataset| Arc::ptr_eq(dataset, &durable.dataset)) {
                datasets.push(&durable.dataset);
            }
        }
        let swept = join_all(datasets.into_iter().map(|dataset| self.sweep_dataset(dataset))).await;
        let mut total = SweepReport::default();
        for report in swept {
            let report = report?;
            total.rows += report.rows;
            total.unrolled += report.unrolled;
        }
        Ok(total)
    }

    async fn sweep_dataset(&self, dataset: &Dataset) -> store::Result<SweepReport> {
        let mut sweep = Sweep::new(dataset.rollups.as_ref(), self.share());
        while let Some(unrolled) = sweep.next().await? {
            for counter in unrolled {
                self.queue_when_there_is_room(&counter).await;
            }
        }
        Ok(sweep.report)
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

    fn share(&self) -> Share {
        let servers = self.servers.load();
        match servers.iter().position(|server| *server == self.options.name) {
            Some(index) => Share {
                index: u32::try_from(index).unwrap_or(0),
                count: u32::try_from(servers.len()).unwrap_or(u32::MAX),
            },
            // Not among the servers (yet, or any more): sweeping all is more work and never wrong.
            None => Share::ALL,
        }
    }

    /// Sweeps at once, after anything was dropped, and periodically, for as long as it is polled.
    pub async fn keep_swept(&self) {
        /// How soon after a drop, or a sweep that failed, the next sweep begins.
        const SOON: Duration = Duration::from_secs(1);
        loop {
            let lost_before = self.lost();
            let mut wait = self.options.sweep_every;
            if let Err(error) = self.sweep_once().await {
                tracing::warn!(%error, "a sweep did not finish; it is tried again");
                wait = SOON;
            }
            let mut waited = Duration::ZERO;
            while waited < wait && (waited.is_zero() || self.lost() == lost_before) {
                tokio::time::sleep(SOON.min(wait)).await;
                waited += SOON;
            }
        }
    }

    /// Rollup events that were dropped here, for want of room.
    fn lost(&self) -> u64 {
        let refused: u64 = self.pipelines.load().values().map(|pipeline| pipeline.queues.refused()).sum();
        refused + self.refused_by_ended.load(Ordering::Relaxed)
    }

    /// Rolls up what is queued, at once, and ends all consumers.
    pub async fn drain(&self) {
        let _changing = self.changing.lock().await;
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
            failed: self.counts.failed.load(Ordering::Relaxed),
            events: self.counts.events.load(Ordering::Relaxed),
            refused: self.lost(),
            queued: pipelines.values().map(|pipeline| pipeline.queues.len() as u64).sum(),
            queued_bytes: pipelines.values().map(|pipeline| pipeline.queues.bytes() as u64).sum(),
        }
    }
}

fn same_stores(old: &Namespace, new: &Namespace) -> bool {
    match (old.durable(), new.durable()) {
        (Some(old), Some(new)) => Arc::ptr_eq(&old.dataset, &new.dataset) && old.cache.is_some() == new.cache.is_some(),
        _ => false,
    }
}
