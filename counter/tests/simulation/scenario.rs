//! Whole runs of the engine: from a seed to what was found.

mod client;
mod disturbance;
mod drill;
mod load;
mod operator;
mod plan;
mod processes;
mod settle;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::{LocalSet, spawn_local};

use crate::breaks::Break;
use crate::cache::CacheServers;
use crate::cassandra::Cluster;
use crate::cassandra::faults::Faults;
use crate::checkers;
use crate::coverage::{Coverage, State};
use crate::history::History;
use crate::invariants::Violation;
use crate::random::Random;
use crate::world::World;
use plan::{Generation, Plan};
use processes::{Rollup, Sidecar};

/// Rollup servers there can be at most.
const ROLLUP_SLOTS: usize = 4;

/// What a run came to.
pub struct Finished {
    pub violations: Vec<Violation>,
    pub coverage: Coverage,
    pub trace_hash: u64,
}

/// One run's parts. Processes come and go; the rest stays.
pub struct Run {
    plan: Plan,
    broken: Option<Break>,
    world: Arc<World>,
    history: Arc<History>,
    cluster: Arc<Cluster>,
    cache: Arc<CacheServers>,
    sidecars: Mutex<Vec<Arc<Sidecar>>>,
    rollups: Mutex<[Option<Arc<Rollup>>; ROLLUP_SLOTS]>,
    processes: AtomicUsize,
    endpoint_changes: AtomicUsize,
    /// No new requests, no new disturbances.
    quiet: AtomicBool,
}

impl Run {
    fn process_started(&self) -> usize {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    fn rollup_slots(&self) -> usize {
        ROLLUP_SLOTS
    }

    fn rollup(&self, slot: usize) -> Option<Arc<Rollup>> {
        self.rollups.lock().unwrap()[slot].clone()
    }

    fn rollups(&self) -> Vec<(usize, Arc<Rollup>)> {
        let rollups = self.rollups.lock().unwrap();
        rollups.iter().enumerate().filter_map(|(slot, rollup)| Some((slot, rollup.clone()?))).collect()
    }

    fn set_rollup(self: &Arc<Self>, slot: usize, rollup: Option<Arc<Rollup>>) {
        self.rollups.lock().unwrap()[slot] = rollup;
        // Each server is told of all by its configuration, which comes when it comes.
        for (slot, rollup) in self.rollups() {
            let run = self.clone();
            let late =
                Random::stream(self.plan.seed, "endpoints", self.endpoint_changes() * 64 + slot).millis(0, 1_500);
            spawn_local(async move {
                if !run.is_quiet() {
                    tokio::time::sleep(late).await;
                }
                rollup.learn_endpoints(&run).await;
            });
        }
    }

    fn endpoint_changes(&self) -> usize {
        self.endpoint_changes.fetch_add(1, Ordering::Relaxed)
    }

    fn sidecar(&self, index: usize) -> Arc<Sidecar> {
        self.sidecars.lock().unwrap()[index].clone()
    }

    fn sidecar_count(&self) -> usize {
        self.sidecars.lock().unwrap().len()
    }

    fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    fn rollup_event_drop(&self) -> f64 {
        if self.broken == Some(Break::NoSweep) {
            return 1.0;
        }
        if self.is_quiet() { 0.0 } else { self.plan.rollup_event_drop }
    }

    /// The generation of the configuration that processes which start now read.
    fn generation(&self) -> Generation {
        self.plan.generations[operator::generation_now(&self.plan, self.world.now())]
    }
}

/// Runs one seed, broken or not.
pub fn run(seed: u64, broken: Option<Break>, trace: bool) -> Finished {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O always builds");
    // In a local set, as everything happens in one thread.
    LocalSet::new().block_on(&runtime, async move {
        let world = World::new(trace);
        let plan = Plan::drawn(seed, broken);
        let delivering = spawn_local(world.clone().deliver());
        let run = begin(plan, broken, world).await;
        let finished = finish(&run).await;
        delivering.abort();
        finished
    })
}

async fn begin(plan: Plan, broken: Option<Break>, world: Arc<World>) -> Arc<Run> {
    let history = History::new(&world, plan.counters.clone());
    let mut random = Random::stream(plan.seed, "cluster", 0);
    let cluster = Cluster::new(&world, &history, Faults::none(), &mut random);
    let cache = CacheServers::new(&world, &history, plan.cache_faults, broken != Some(Break::CacheWithoutCompare));
    let run = Arc::new(Run {
        broken,
        world,
        history,
        cluster,
        cache,
        sidecars: Mutex::default(),
        rollups: Mutex::default(),
        processes: AtomicUsize::new(0),
        endpoint_changes: AtomicUsize::new(0),
        quiet: AtomicBool::new(false),
        plan,
    });
    let operator = operator::Operator::start(&run);
    operator.create_slices(&run).await.expect("nothing goes wrong yet");
    run.cluster.set_faults(run.plan.store_faults);
    let generation = run.generation();
    for _ in 0..run.plan.sidecars {
        let sidecar = Sidecar::start(&run, &generation);
        run.sidecars.lock().unwrap().push(sidecar);
    }
    for slot in 0..run.plan.rollup_servers {
        let rollup = Rollup::start(&run, slot, &generation).await;
        run.set_rollup(slot, Some(rollup));
    }
    spawn_local(operator.run(run.clone()));
    run
}

async fn finish(run: &Arc<Run>) -> Finished {
    let digits = client::Digits::new(run.plan.counters.len());
    let clients: Vec<_> =
        (0..run.plan.clients).map(|index| spawn_local(client::Client::new(run, index, &digits).run())).collect();
    let watching = spawn_local(client::watch(run.clone()));
    let reloading = spawn_local(operator::reload(run.clone()));
    let disturbing = spawn_local(disturbance::disturb(run.clone()));
    let flooding = spawn_local(load::flood(run.clone()));
    let bounds = spawn_local(load::watch_bounds(run.clone()));
    tokio::time::sleep(run.plan.active).await;
    run.quiet.store(true, Ordering::Relaxed);
    for task in clients.into_iter().chain([watching, reloading, disturbing, flooding, bounds]) {
        task.await.expect("a task of the run does not panic");
    }
    let mut violations = settle::settle(run).await;
    let records = run.history.records();
    violations.extend(checkers::violations(&records, &run.cluster));
    checkers::states::mark(&records, &run.world);
    violations.sort_by_key(|violation| violation.invariant);
    Finished { violations, coverage: run.world.coverage(), trace_hash: run.world.trace_hash() }
}

/// How long a disturbance lasts: mostly short, sometimes long.
fn span(random: &mut Random) -> Duration {
    if random.chance(0.3) { random.millis(2_000, 9_000) } else { random.millis(50, 1_500) }
}

fn reached(run: &Run, state: State) {
    run.world.reached(state);
}
