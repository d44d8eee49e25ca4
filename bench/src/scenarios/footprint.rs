//! What the program costs before anybody calls it: its start and its memory. Here the peer is the goal itself.

use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{CALLERS, Settings};
use crate::comparison::{Better, Comparison, judge};
use crate::counters::Counters;
use crate::deployment::Namespace;
use crate::measurement::{Contender, Measurement};
use crate::standalone;
use crate::tallyman::Adds;

const STARTUP_GOAL_MS: f64 = 100.0;
const MEMORY_GOAL_MIB: f64 = 25.0;
const MIB: f64 = 1024.0 * 1024.0;
/// How long nothing is asked of a server before its memory is looked at.
const IDLE: Duration = Duration::from_secs(3);

/// Starts the program with empty stores, once a round.
pub async fn startup(settings: &Settings) -> Result<Vec<Comparison>> {
    let program = settings.programs.path("tallyman")?;
    let mut measured = Vec::with_capacity(settings.rounds);
    for round in 1..=settings.rounds {
        let dir = TempDir::new()?;
        let started = Instant::now();
        let _server = standalone::start(&program, dir.path(), Duration::from_millis(1)).await?;
        let took = started.elapsed().as_secs_f64() * 1e3;
        eprintln!("startup round {round}: {took:.1} ms");
        measured.push(Measurement::of(took));
    }
    let goal = vec![Measurement::of(STARTUP_GOAL_MS); settings.rounds];
    let names = ["tallyman-standalone", "goal-100-ms"];
    Ok(vec![judge("startup", names, "ms", Better::Lower, [&measured, &goal], Some(1.0))])
}

/// Looks at the memory of a server that was just started, and of one that was busy before.
pub async fn idle_memory(settings: &Settings, counters: &Counters) -> Result<Vec<Comparison>> {
    let (mut fresh, mut used) = (Vec::new(), Vec::new());
    for round in 1..=settings.rounds {
        let dir = TempDir::new()?;
        let server = settings.standalone(&dir).await?;
        tokio::time::sleep(IDLE).await;
        fresh.push(Measurement::of(server.resident_bytes()? as f64 / MIB));
        let mut adds = Adds::new(server, Namespace::Eventual, CALLERS, 1, counters)?;
        adds.measure(settings.span).await?;
        tokio::time::sleep(IDLE).await;
        used.push(Measurement::of(adds.resident_bytes()? as f64 / MIB));
        eprintln!(
            "idle-memory round {round}: {:.1} MiB fresh, {:.1} MiB after adds",
            fresh[round - 1].value,
            used[round - 1].value
        );
    }
    let goal = vec![Measurement::of(MEMORY_GOAL_MIB); settings.rounds];
    let compare = |subject, measured: &[Measurement], ratio_goal| {
        judge("idle-memory", [subject, "goal-25-mib"], "MiB", Better::Lower, [measured, &goal], ratio_goal)
    };
    Ok(vec![compare("tallyman-standalone", &fresh, Some(1.0)), compare("tallyman-standalone-after-adds", &used, None)])
}
