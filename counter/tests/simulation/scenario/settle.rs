//! The end of a run: everything heals, the bound of convergence passes, and every counter is read once more.

use std::sync::Arc;
use std::time::Duration;

use super::client::read_once;
use super::disturbance::start_rollup;
use super::drill::stop_gracefully;
use super::{Run, reached};
use crate::cache;
use crate::cassandra::faults::Faults;
use crate::checkers::convergence;
use crate::coverage::State;
use crate::history::{Promise, Reply};
use crate::invariants::{Invariant, Violation};

pub async fn settle(run: &Arc<Run>) -> Vec<Violation> {
    run.cluster.set_faults(Faults::none());
    run.cluster.bring_up();
    run.cache.set_faults(cache::Faults::NONE);
    for slot in 0..run.plan.rollup_servers {
        start_rollup(run, slot).await;
    }
    let sidecars: Vec<_> = (0..run.sidecar_count()).map(|index| run.sidecar(index)).collect();
    for sidecar in &sidecars {
        sidecar.base.process.heal();
        sidecar.base.process.clock.step_to(0);
    }
    for (_, rollup) in run.rollups() {
        rollup.base.process.heal();
        rollup.base.process.clock.step_to(0);
    }
    // A clock that stepped is trusted again when it is next measured; slices are read again every ten seconds.
    let freshness = Duration::from_secs(11);
    tokio::time::sleep(run.plan.convergence_bound() + freshness).await;
    let stored = stored(run);
    let mut found = convergence::check(&run.history.records(), Invariant::Convergence, &stored);
    if run.broken.is_none() && run.plan.rollup_event_drop >= 1.0 && found.is_empty() {
        reached(run, State::SweepHealed);
    }
    // A read brings a lost cache entry back: it is a rollup event, and every rollup offers its checkpoint.
    for round in 0..2 {
        for sidecar in &sidecars {
            for counter in 0..run.plan.counters.len() {
                let reply = read_once(run, sidecar, counter, None).await;
                match reply {
                    Some(reply) if round == 1 && reply.promise == Promise::Eventual => {
                        found.extend(convergence::check(&run.history.records(), Invariant::Convergence, &[reply]));
                    }
                    Some(_) => {}
                    None => found.push(Violation {
                        invariant: Invariant::Convergence,
                        evidence: format!("counter {counter} could not be read when all was well"),
                    }),
                }
            }
        }
        tokio::time::sleep(run.plan.generations.iter().map(|g| g.coalesce).max().unwrap_or_default() * 2).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    found.extend(stop_gracefully(run).await);
    found
}

/// What every quorum is certain to read as each counter's checkpoint time, put as replies.
fn stored(run: &Run) -> Vec<Reply> {
    let certain = run.cluster.certain_checkpoints();
    let now = run.world.now();
    let reply = |(index, counter)| Reply {
        counter: index,
        process: usize::MAX,
        promise: Promise::Eventual,
        began: now,
        ended: now,
        count: 0,
        as_of: certain.get(counter).copied().unwrap_or(tallyman_counter::model::Timestamp::MIN),
        own: None,
    };
    run.plan.counters.iter().enumerate().map(reply).collect()
}
