//! The control plane of a run: slices are created ahead, closed and dropped; configuration changes and arrives when it does.

use std::sync::Arc;
use std::time::Duration;

use tallyman_counter::clock::Clock;
use tallyman_counter::configuration::{Retention, TimePartition};
use tallyman_counter::dataset::Dataset;
use tallyman_counter::model::SliceState;
use tallyman_counter::retention::{Ahead, Error, close_and_drop, create_ahead};
use tallyman_counter::store::{EventStore, RollupStore};
use tokio::task::spawn_local;

use super::{Run, reached};
use crate::breaks::Break;
use crate::cassandra::store::Handle;
use crate::clock::SimClock;
use crate::coverage::State;
use crate::process::Process;
use crate::random::Random;
use crate::scenario::plan::Plan;
use crate::world::SimTime;

/// Slices are created this many widths ahead: little, so that changed settings come into force within a run.
const WIDTHS_AHEAD: u32 = 2;

/// The generation of the configuration in force, evenly over the run.
pub fn generation_now(plan: &Plan, now: SimTime) -> usize {
    let count = plan.generations.len() as u64;
    let each = plan.active.as_micros() as u64 / count;
    usize::try_from(now.0 / each.max(1)).unwrap_or(0).min(plan.generations.len() - 1)
}

/// The one process that changes the schema.
pub struct Operator {
    dataset: Arc<Dataset>,
    clock: Arc<SimClock>,
}

impl Operator {
    pub fn start(run: &Arc<Run>) -> Self {
        let index = run.process_started();
        let clock = SimClock::new(&run.world, 0, 0);
        let process = Process::new(&run.world, index, clock.clone());
        let network = |component| Random::stream(run.plan.seed, component, index);
        let events: Arc<dyn EventStore> = Arc::new(Handle::new(&run.cluster, &process, network("event store")));
        let rollups: Arc<dyn RollupStore> = Arc::new(Handle::new(&run.cluster, &process, network("rollup store")));
        Self { dataset: Dataset::new("dataset".into(), events, rollups, clock.clone()), clock }
    }

    /// Creates what is missing ahead, with the settings now in force.
    pub async fn create_slices(&self, run: &Run) -> Result<usize, Error> {
        self.dataset.clock.measure(self.dataset.events.as_ref()).await?;
        let partition = TimePartition { settings: run.generation().slices, slice_width: run.plan.slice_width };
        let ahead =
            Ahead { span: run.plan.slice_width * WIDTHS_AHEAD, slices_max: usize::try_from(WIDTHS_AHEAD).unwrap() };
        create_ahead(&self.dataset, partition, ahead).await
    }

    /// Goes on for as long as it is polled.
    pub async fn run(self, run: Arc<Run>) {
        loop {
            // What fails is tried again.
            let _ = self.create_slices(&run).await;
            if run.broken == Some(Break::CloseWithoutSweep) {
                let _ = self.close_without_sweep(&run).await;
            } else if run.broken != Some(Break::NoSweep) {
                // Closing a slice rolls up every counter that needs it: a sweep as well.
                let retention = Retention { close_after: run.plan.close_after, delete_after: run.plan.delete_after };
                let _ = close_and_drop(&self.dataset, retention).await;
            }
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
    }

    async fn close_without_sweep(&self, run: &Run) -> Result<(), Error> {
        self.dataset.refresh_slices().await?;
        for slice in self.dataset.slices().records() {
            let passed = |span: Duration| slice.end.plus(span) <= self.clock.now();
            if slice.state == SliceState::Open && passed(run.plan.close_after) {
                self.dataset.events.set_slice_state(slice.start, SliceState::Closed).await?;
            } else if slice.state == SliceState::Closed && passed(run.plan.delete_after) {
                self.dataset.events.set_slice_state(slice.start, SliceState::Dropped).await?;
            }
        }
        Ok(())
    }
}

/// Brings each new generation of the configuration to every process, to each when it happens to arrive.
pub async fn reload(run: Arc<Run>) {
    let mut random = Random::stream(run.plan.seed, "reload", 0);
    let mut number = 0;
    while !run.is_quiet() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = generation_now(&run.plan, run.world.now());
        if now == number {
            continue;
        }
        number = now;
        let generation = run.plan.generations[number];
        let mut arrivals = Vec::new();
        for sidecar in run.sidecars.lock().unwrap().clone() {
            let (run, delay) = (run.clone(), random.millis(0, 6_000));
            arrivals.push((delay, false));
            spawn_local(async move {
                tokio::time::sleep(delay).await;
                sidecar.reload(&run, &generation);
            });
        }
        for (_, rollup) in run.rollups() {
            let (run, delay) = (run.clone(), random.millis(0, 6_000));
            arrivals.push((delay, true));
            spawn_local(async move {
                tokio::time::sleep(delay).await;
                rollup.reload(&run, &generation).await;
            });
        }
        arrivals.sort();
        if arrivals.windows(2).filter(|pair| pair[0].1 != pair[1].1).count() > 1 {
            reached(&run, State::ConfigurationOutOfOrder);
        }
    }
}
