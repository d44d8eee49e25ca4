//! The processes of a run: sidecars and rollup servers, each with its own clock, stores and engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::dataset::Dataset;
use tallyman_counter::forward::{RollupEndpoint, Routes, TouchedCounters, Undelivered};
use tallyman_counter::model::{CounterKey, CounterName, NamespaceName};
use tallyman_counter::namespace::{DurableNamespace, Namespace, NamespaceStores};
use tallyman_counter::pipeline::{Options, RollupServer};
use tallyman_counter::service::{CounterService, Limits};
use tallyman_counter::store::{EventStore, RollupCache, RollupStore};
use tokio::task::{JoinHandle, spawn_local};

use super::Run;
use super::plan::Generation;
use crate::breaks::{Break, BrokenCache, BrokenEvents};
use crate::cassandra::store::{CheckpointTimestamp, Handle};
use crate::clock::SimClock;
use crate::coverage::State;
use crate::process::Process;
use crate::random::Random;
use crate::{cache, cassandra};

/// What every process has: a connection to each store, and the dataset made of them.
pub struct Base {
    pub process: Arc<Process>,
    pub dataset: Arc<Dataset>,
    cache: Arc<dyn RollupCache>,
    generation: Arc<AtomicUsize>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Base {
    fn start(run: &Arc<Run>, rolls_up: bool) -> Self {
        let index = run.process_started();
        let mut random = Random::stream(run.plan.seed, "process", index);
        let skew = run.plan.generations[0].slices.max_clock_skew;
        let (offset_us, drift_ppm) = (random.offset(skew / 4), random.offset(Duration::from_micros(50)));
        let (offset_us, drift_ppm) = if run.plan.clocks_exact { (0, 0) } else { (offset_us, drift_ppm) };
        let clock = SimClock::new(&run.world, offset_us, drift_ppm);
        let process = Process::new(&run.world, index, clock.clone());
        let network = |component| Random::stream(run.plan.seed, component, index);
        let checkpoint_timestamp = match run.broken {
            Some(Break::CheckpointAtTimeOfWrite) => CheckpointTimestamp::TimeOfWrite,
            _ => CheckpointTimestamp::LastRollup,
        };
        let handle = |component| cassandra::store::Handle::new(&run.cluster, &process, network(component));
        let rollups: Arc<dyn RollupStore> =
            Arc::new(Handle::with_checkpoint_timestamp(handle("rollup store"), checkpoint_timestamp));
        let generation = Arc::new(AtomicUsize::new(0));
        let mut events: Arc<dyn EventStore> = Arc::new(handle("event store"));
        let mut cache: Arc<dyn RollupCache> =
            Arc::new(cache::Handle::new(&run.cache, &process, network("rollup cache")));
        if let Some(broken) = run.broken {
            let (adopted, generations) = (generation.clone(), run.plan.generations.clone());
            let configured = Box::new(move || generations[adopted.load(Ordering::Relaxed)].slices);
            events = Arc::new(BrokenEvents { inner: events, broken, rolls_up, clock: clock.clone(), configured });
            cache = Arc::new(BrokenCache { inner: cache, broken });
        }
        let dataset = Dataset::new("dataset".into(), events, rollups, clock);
        Self { process, dataset, cache, generation, tasks: std::sync::Mutex::default() }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.lock().unwrap().push(spawn_local(task));
    }

    fn end_tasks(&self) {
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }

    /// The namespaces as a generation of their configuration has them.
    fn namespaces(&self, run: &Run, generation: &Generation) -> Vec<Namespace> {
        self.generation.store(generation.number, Ordering::Relaxed);
        run.history.configured(self.process.index, generation.slices);
        let namespace = |configuration: tallyman_counter::configuration::NamespaceConfiguration| {
            let settings = match &configuration.counting {
                tallyman_counter::configuration::Counting::Durable(durable) => durable.as_ref().clone(),
                tallyman_counter::configuration::Counting::BestEffort(_) => unreachable!("the plan has none"),
            };
            let durable = DurableNamespace { settings, dataset: self.dataset.clone(), cache: Some(self.cache.clone()) };
            Namespace { configuration: Arc::new(configuration), counting: NamespaceStores::Durable(Box::new(durable)) }
        };
        run.plan.configurations(generation, &rollup_endpoints(run)).into_iter().map(namespace).collect()
    }
}

/// The rollup servers that are there, as a configuration names them.
fn rollup_endpoints(run: &Run) -> Vec<String> {
    run.rollups().iter().map(|(slot, _)| format!("{}.rollup:7787", slot_name(*slot))).collect()
}

/// A sidecar.
pub struct Sidecar {
    pub base: Base,
    pub service: Arc<CounterService>,
    touched: Arc<TouchedCounters>,
}

impl Sidecar {
    pub fn start(run: &Arc<Run>, generation: &Generation) -> Arc<Self> {
        let base = Base::start(run, false);
        let touched = TouchedCounters::new(1 << 20);
        let index = base.process.index;
        let service = Arc::new(CounterService::new(
            &format!("sidecar-{index}"),
            base.process.clock.clone(),
            touched.clone(),
            Limits { scanned_events: 1 << 10, ..Limits::default() },
        ));
        let wires = (0..run.rollup_slots()).map(|slot| Wire::connect(run, slot, &base.process)).collect::<Vec<_>>();
        let namespaces = base.namespaces(run, generation);
        let routes: Routes = namespaces.iter().map(|namespace| (namespace.name().clone(), wires.clone())).collect();
        touched.route(routes);
        service.serve(namespaces);
        let (dataset, forwarding) = (base.dataset.clone(), touched.clone());
        base.spawn(async move { dataset.keep_fresh().await });
        base.spawn(async move { forwarding.run().await });
        Arc::new(Self { base, service, touched })
    }

    pub fn reload(&self, run: &Run, generation: &Generation) {
        self.service.serve(self.base.namespaces(run, generation));
    }

    /// Ends as on SIGTERM: what was touched is flushed.
    pub async fn stop(&self) {
        self.touched.flush().await;
        self.base.end_tasks();
    }

    /// Ends as on SIGKILL.
    pub fn crash(&self) {
        self.base.process.crash();
        self.base.end_tasks();
    }
}

/// A rollup server.
pub struct Rollup {
    pub base: Base,
    pub server: Arc<RollupServer>,
    stopping: AtomicBool,
}

impl Rollup {
    pub async fn start(run: &Arc<Run>, slot: usize, generation: &Generation) -> Arc<Self> {
        let base = Base::start(run, true);
        let name = slot_name(slot);
        let options = Options { name, scanned_events: 1 << 10, sweep_every: run.plan.sweep_every };
        let server = RollupServer::new(options);
        let dataset = base.dataset.clone();
        base.spawn(async move { dataset.keep_fresh().await });
        server.serve(base.namespaces(run, &given(run, generation))).await;
        if run.broken != Some(Break::NoSweep) {
            let sweeping = server.clone();
            base.spawn(async move { sweeping.keep_swept().await });
        }
        Arc::new(Self { base, server, stopping: AtomicBool::new(false) })
    }

    pub async fn reload(&self, run: &Run, generation: &Generation) {
        self.server.serve(self.base.namespaces(run, &given(run, generation))).await;
    }

    /// The same configuration, but for the rollup servers that are there now.
    pub async fn learn_endpoints(&self, run: &Run) {
        if !self.stopping.load(Ordering::Relaxed) && !self.base.process.has_crashed() {
            let generation = run.plan.generations[self.base.generation.load(Ordering::Relaxed)];
            self.reload(run, &generation).await;
        }
    }

    /// Ends as on SIGTERM: what is queued is rolled up.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.server.drain().await;
        self.base.end_tasks();
    }

    /// Ends as on SIGKILL.
    pub fn crash(&self) {
        self.base.process.crash();
        self.base.end_tasks();
    }
}

/// What a rollup server takes for its configuration.
fn given(run: &Run, generation: &Generation) -> Generation {
    match run.broken {
        Some(Break::QueuesWithoutBound) => Generation { capacity_bytes: generation.capacity_bytes * 64, ..*generation },
        _ => *generation,
    }
}

pub fn slot_name(slot: usize) -> String {
    format!("rollup-{slot}")
}

/// The stream of rollup events from one sidecar to one rollup server.
struct Wire {
    run: Arc<Run>,
    name: String,
    slot: usize,
    process: Arc<Process>,
    random: std::sync::Mutex<Random>,
    /// Readiness as the sidecar last heard of it.
    ready: AtomicBool,
}

impl Wire {
    fn connect(run: &Arc<Run>, slot: usize, process: &Arc<Process>) -> Arc<dyn RollupEndpoint> {
        let random = Random::stream(run.plan.seed, "wire", process.index * 64 + slot);
        Arc::new(Self {
            run: run.clone(),
            name: slot_name(slot),
            slot,
            process: process.clone(),
            random: std::sync::Mutex::new(random),
            ready: AtomicBool::new(true),
        })
    }
}

#[async_trait]
impl RollupEndpoint for Wire {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_ready(&self, _: &NamespaceName) -> bool {
        // Sometimes the news has not come yet.
        if self.run.is_quiet() || self.random.lock().unwrap().chance(0.7) {
            self.ready.store(self.run.rollup(self.slot).is_some(), Ordering::Relaxed);
        }
        self.ready.load(Ordering::Relaxed)
    }

    async fn send(&self, namespace: &NamespaceName, counters: &[CounterName]) -> Result<usize, Undelivered> {
        self.process.gate().await;
        let (delay, lost, misrouted) = {
            let mut random = self.random.lock().unwrap();
            let slow = random.chance(0.05);
            (
                random.millis(0, if slow { 900 } else { 5 }),
                random.chance(self.run.rollup_event_drop()),
                random.chance(self.run.plan.rollup_event_misrouted),
            )
        };
        tokio::time::sleep(delay).await;
        if lost {
            // Acknowledged, and lost with what held it.
            self.run.world.reached(State::RollupEventLost);
            return Ok(counters.len());
        }
        let server = self.run.rollup(self.slot);
        let Some(server) = server.filter(|server| !server.base.process.has_crashed()) else {
            return Err(Undelivered { reason: "the rollup server is gone".into() });
        };
        let taken = server.server.touched(namespace, counters);
        for name in counters {
            let counter = CounterKey { namespace: namespace.clone(), name: name.clone() };
            self.run.history.forwarded(&self.process, &counter);
        }
        if misrouted && let Some((_, other)) = self.run.rollups().into_iter().find(|(slot, _)| *slot != self.slot) {
            self.run.world.reached(State::RollupEventMisrouted);
            other.server.touched(namespace, counters);
        }
        Ok(taken)
    }
}
