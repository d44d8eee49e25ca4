//! More than the queues hold: rollup events of counters that were never written, with long names; and a look at the bounds.

use std::sync::Arc;
use std::time::Duration;

use tallyman_counter::model::{CounterName, NamespaceName};

use super::plan::NAMESPACES;
use super::{Run, reached};
use crate::coverage::State;
use crate::invariants::Invariant;
use crate::random::Random;

/// Floods a rollup server now and then.
pub async fn flood(run: Arc<Run>) {
    let mut random = Random::stream(run.plan.seed, "flood", 0);
    while !run.is_quiet() && run.plan.floods {
        tokio::time::sleep(random.millis(500, 6_000)).await;
        let rollups = run.rollups();
        if rollups.is_empty() {
            continue;
        }
        let (_, rollup) = random.pick(&rollups);
        let namespace = NamespaceName::new(random.pick(&NAMESPACES).0).expect("a valid name");
        let name = |index| CounterName::new(&format!("{index:0480}")).expect("a valid name");
        let names: Vec<CounterName> = (0..100).map(name).collect();
        if rollup.server.touched(&namespace, &names) < names.len() {
            reached(&run, State::QueueFull);
        }
    }
}

/// Looks at every server's queues again and again.
pub async fn watch_bounds(run: Arc<Run>) {
    let generations = &run.plan.generations;
    let bytes = |generation: &super::Generation| generation.capacity_bytes * usize::from(generation.num_queues.get());
    let bound = generations.iter().map(bytes).max().unwrap_or_default() * NAMESPACES.len();
    while !run.is_quiet() {
        for (slot, rollup) in run.rollups() {
            let queued = rollup.server.statistics().queued_bytes;
            if queued > bound as u64 {
                let evidence = format!("the queues in slot {slot} take {queued} bytes, the bound is {bound}");
                run.history.violated(Invariant::Bounds, evidence);
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(37)).await;
    }
}
