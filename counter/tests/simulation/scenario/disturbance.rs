//! What happens to a run: processes stall, crash, stop, come and go; replicas go down; clocks step.

use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_local;

use super::processes::{Rollup, Sidecar};
use super::{ROLLUP_SLOTS, Run, reached, span};
use crate::coverage::State;
use crate::process::Process;
use crate::random::Random;

/// Disturbs the run until it is to be quiet.
pub async fn disturb(run: Arc<Run>) {
    let Some(every) = run.plan.disturbed_every else { return };
    let mut random = Random::stream(run.plan.seed, "disturbance", 0);
    let every_ms = every.as_millis() as u64;
    loop {
        tokio::time::sleep(random.millis(every_ms / 2, every_ms * 3 / 2)).await;
        if run.is_quiet() {
            return;
        }
        once(&run, &mut random).await;
    }
}

async fn once(run: &Arc<Run>, random: &mut Random) {
    let kind = random.below(14);
    run.world.note("disturbance", &[kind as i128]);
    match kind {
        0 => run.cluster.take_down(random.below(3), span(random)),
        1 => {
            run.cluster.take_down(random.below(3), span(random));
            run.cluster.take_down(random.below(3), random.millis(100, 2_000));
        }
        2 => crash_sidecar(run, random),
        3 => stop_sidecar(run, random).await,
        4 => sidecar_process(run, random).stall(span(random)),
        5 => sidecar_process(run, random).cut_off(span(random)),
        6 | 7 => {
            if let Some(process) = rollup_process(run, random) {
                reached(run, State::RollupStalled);
                process.stall(span(random));
            }
        }
        8 => {
            if let Some(process) = rollup_process(run, random) {
                process.cut_off(span(random));
            }
        }
        9 => crash_rollup(run, random).await,
        10 => scale(run, random).await,
        11 => run.cache.flush(),
        _ => {
            if run.plan.clocks_step {
                step_clock(run, random);
            }
        }
    }
}

fn sidecar_process(run: &Run, random: &mut Random) -> Arc<Process> {
    run.sidecar(random.below(run.sidecar_count())).base.process.clone()
}

fn rollup_process(run: &Run, random: &mut Random) -> Option<Arc<Process>> {
    let rollups = run.rollups();
    (!rollups.is_empty()).then(|| random.pick(&rollups).1.base.process.clone())
}

fn crash_sidecar(run: &Arc<Run>, random: &mut Random) {
    let index = random.below(run.sidecar_count());
    run.sidecar(index).crash();
    reached(run, State::SidecarCrashed);
    let started = Sidecar::start(run, &run.generation());
    run.sidecars.lock().unwrap()[index] = started;
}

async fn stop_sidecar(run: &Arc<Run>, random: &mut Random) {
    let index = random.below(run.sidecar_count());
    let started = Sidecar::start(run, &run.generation());
    let stopped = std::mem::replace(&mut run.sidecars.lock().unwrap()[index], started);
    reached(run, State::SidecarStopped);
    // Requests under way are answered before it ends.
    spawn_local(async move {
        tokio::time::sleep(Duration::from_secs(4)).await;
        stopped.stop().await;
    });
}

async fn crash_rollup(run: &Arc<Run>, random: &mut Random) {
    let rollups = run.rollups();
    if rollups.is_empty() {
        return;
    }
    let (slot, rollup) = random.pick(&rollups);
    rollup.crash();
    reached(run, State::RollupCrashed);
    run.set_rollup(*slot, None);
    let (run, slot, delay) = (run.clone(), *slot, span(random));
    spawn_local(async move {
        tokio::time::sleep(delay).await;
        start_rollup(&run, slot).await;
    });
}

/// Starts a server in a slot that has none.
pub async fn start_rollup(run: &Arc<Run>, slot: usize) {
    if run.rollup(slot).is_none() {
        let rollup = Rollup::start(run, slot, &run.generation()).await;
        // Another may have started meanwhile; the one that is not known takes no events.
        run.set_rollup(slot, Some(rollup));
    }
}

async fn scale(run: &Arc<Run>, random: &mut Random) {
    let slot = random.below(ROLLUP_SLOTS);
    reached(run, State::RollupScaled);
    match run.rollup(slot) {
        None => start_rollup(run, slot).await,
        Some(rollup) if run.rollups().len() > 1 => {
            run.set_rollup(slot, None);
            reached(run, State::RollupStopped);
            spawn_local(async move { rollup.stop().await });
        }
        Some(_) => {}
    }
}

fn step_clock(run: &Run, random: &mut Random) {
    let process = if random.chance(0.5) { Some(sidecar_process(run, random)) } else { rollup_process(run, random) };
    let Some(process) = process else { return };
    let skew = run.plan.generations[0].slices.max_clock_skew;
    let far = random.chance(0.5);
    let limit = if far { Duration::from_secs(*random.pick(&[1, 5, 30, 3600])) } else { skew / 2 };
    reached(run, if far { State::ClockSteppedFar } else { State::ClockSteppedWithin });
    process.clock.step_to(random.offset(limit));
}
