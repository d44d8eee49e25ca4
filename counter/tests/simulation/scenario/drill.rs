//! Graceful stops, when all is well: what a stop owes is checked at the moment it has ended, before any sweep could help.

use std::sync::Arc;

use tallyman_counter::model::CounterName;

use super::client::add_once;
use super::{Run, reached};
use crate::breaks::Break;
use crate::coverage::State;
use crate::history::Outcome;
use crate::invariants::{Invariant, Violation};
use crate::world::SimTime;

/// Stops a sidecar right after it acknowledged adds, then every rollup server right after it was told of all counters.
pub async fn stop_gracefully(run: &Arc<Run>) -> Vec<Violation> {
    let began = run.world.now();
    let mut found = stop_sidecar(run, began).await;
    for slot in run.rollups().into_iter().map(|(slot, _)| slot) {
        found.extend(stop_rollup(run, slot).await);
    }
    found
}

async fn stop_sidecar(run: &Arc<Run>, began: SimTime) -> Vec<Violation> {
    let sidecar = run.sidecar(0);
    let mut acknowledged = Vec::new();
    for counter in 0..run.plan.counters.len() {
        if add_once(run, &sidecar, counter).await == Outcome::Acknowledged {
            acknowledged.push(counter);
        }
    }
    if run.broken == Some(Break::StopThatForgets) {
        sidecar.crash();
    } else {
        sidecar.stop().await;
    }
    reached(run, State::SidecarStopped);
    let process = sidecar.base.process.index;
    let forgotten = acknowledged.into_iter().filter(|counter| !run.history.was_forwarded(process, *counter, began));
    let violation = |counter| Violation {
        invariant: Invariant::GracefulStop,
        evidence: format!("sidecar {process} stopped and forwarded no rollup event of counter {counter}"),
    };
    forgotten.map(violation).collect()
}

async fn stop_rollup(run: &Arc<Run>, slot: usize) -> Vec<Violation> {
    let Some(rollup) = run.rollup(slot) else { return Vec::new() };
    run.set_rollup(slot, None);
    let dataset = &rollup.base.dataset;
    // Without a trusted clock nothing can be rolled up, and what is queued is owed to the next server's sweep.
    let trusted = || dataset.slices().max_clock_skew().is_some_and(|skew| dataset.clock.now(skew).is_ok());
    let was_trusted = trusted();
    let told = run.world.now();
    let mut taken = Vec::new();
    for (index, counter) in run.plan.counters.iter().enumerate() {
        let names: [CounterName; 1] = [counter.name.clone()];
        // One that finds its queue full is refused, and owed nothing.
        if rollup.server.touched(&counter.namespace, &names) == 1 {
            taken.push(index);
        }
    }
    if run.broken == Some(Break::StopThatForgets) {
        rollup.crash();
    } else {
        rollup.stop().await;
    }
    if !was_trusted || !trusted() {
        return Vec::new();
    }
    reached(run, State::RollupStopped);
    let process = rollup.base.process.index;
    let forgotten = taken.into_iter().filter(|counter| !run.history.was_row_read(process, *counter, told));
    let violation = |counter| Violation {
        invariant: Invariant::GracefulStop,
        evidence: format!("rollup server {process} stopped with counter {counter} on its queue"),
    };
    forgotten.map(violation).collect()
}
