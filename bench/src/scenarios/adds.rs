//! Adds through the API, beside the bare call, Redis and memcached.

use anyhow::Result;
use tempfile::TempDir;

use super::{CALLERS, Scenario, Settings};
use crate::comparison::{Comparison, Peer, compare};
use crate::counters::Counters;
use crate::dataplane::{self, Stores};
use crate::deployment::Namespace;
use crate::echo::Echo;
use crate::memcached::{Increments, Memcached};
use crate::redis::{Command, Durability, Redis};
use crate::tallyman::{Adds, add_encoded_len};

const UNIT: &str = "adds/s";
/// Adds of one batch, or commands of one pipeline.
const BATCH: usize = 500;
/// Batches, or pipelines, under way at once.
const BATCH_CALLERS: usize = 8;

/// One add a call.
pub async fn unary(scenario: Scenario, settings: &Settings, counters: &Counters) -> Result<Vec<Comparison>> {
    let (namespace, callers, goal) = match scenario {
        Scenario::EmbeddedAdd1 => (Namespace::Eventual, 1, None),
        Scenario::AccurateAdd64 => (Namespace::Accurate, CALLERS, None),
        Scenario::BestEffortAdd64 => (Namespace::BestEffort, CALLERS, Some(0.8)),
        _ => (Namespace::Eventual, CALLERS, Some(0.8)),
    };
    let dir = TempDir::new()?;
    let deployment = settings.standalone(&dir).await?;
    let echo = Echo::start(dir.path(), callers, add_encoded_len(&deployment, namespace, counters)?).await?;
    let mut peers = vec![Peer { contender: Box::new(echo), goal }];
    let suffix = if callers == CALLERS { String::new() } else { format!("-{callers}") };
    let (durability, kinds) = match namespace {
        Namespace::BestEffort => (Durability::Memory, [("redis-incr-memory", Command::Increment)].as_slice()),
        Namespace::Eventual | Namespace::Accurate => (
            Durability::Always,
            [("redis-incr-always", Command::Increment), ("redis-dedup-always", Command::Deduplicate)].as_slice(),
        ),
    };
    for (name, command) in kinds {
        let name = format!("{name}{suffix}");
        let redis = Redis::start(&name, dir.path(), durability, *command, callers, 1, counters).await?;
        peers.push(Peer { contender: Box::new(redis), goal: None });
    }
    let mut subject = Adds::new(deployment, namespace, callers, 1, counters)?;
    compare(&scenario.name(), UNIT, settings.rounds(), settings.span, &mut subject, &mut peers).await
}

/// Many adds a call; beside Redis both with one command a round trip and with as many in a pipeline.
pub async fn batch(scenario: Scenario, settings: &Settings, counters: &Counters) -> Result<Vec<Comparison>> {
    let (namespace, durability, command, name, goal) = match scenario {
        Scenario::BestEffortAddBatch => {
            (Namespace::BestEffort, Durability::Memory, Command::Increment, "redis-incr-memory", None)
        }
        _ => (Namespace::Eventual, Durability::Always, Command::Deduplicate, "redis-dedup-always", Some(4.0)),
    };
    let dir = TempDir::new()?;
    let single = Redis::start(name, dir.path(), durability, command, CALLERS, 1, counters).await?;
    let pipelined_name = format!("{name}-pipelined");
    let pipelined =
        Redis::start(&pipelined_name, dir.path(), durability, command, BATCH_CALLERS, BATCH, counters).await?;
    let mut peers = [Peer { contender: Box::new(single), goal }, Peer { contender: Box::new(pipelined), goal: None }];
    let mut subject = Adds::new(settings.standalone(&dir).await?, namespace, BATCH_CALLERS, BATCH, counters)?;
    compare(&scenario.name(), UNIT, settings.rounds(), settings.span, &mut subject, &mut peers).await
}

/// Best-effort adds through a sidecar into memcached: one a call beside the bare call, many a call beside incrementing in
/// memcached directly.
pub async fn best_effort_sidecar(
    scenario: Scenario,
    settings: &Settings,
    counters: &Counters,
) -> Result<Vec<Comparison>> {
    let dir = TempDir::new()?;
    let memcached = Memcached::start("memcached", dir.path()).await?;
    let stores = Stores { memcached: &memcached, cassandra: None };
    let deployment = dataplane::start(&settings.programs, dir.path(), &stores).await?;
    let direct = Memcached::start("memcached-peer", dir.path()).await?;
    let direct = Increments::prepare(direct, CALLERS, counters).await?;
    let (callers, batch, mut peers) = if scenario == Scenario::BestEffortAddBatch {
        (BATCH_CALLERS, BATCH, vec![Peer { contender: Box::new(direct), goal: Some(1.5) }])
    } else {
        let encoded_len = add_encoded_len(&deployment, Namespace::BestEffort, counters)?;
        let echo = Echo::start(dir.path(), CALLERS, encoded_len).await?;
        let echo = Peer { contender: Box::new(echo), goal: Some(0.8) };
        (CALLERS, 1, vec![echo, Peer { contender: Box::new(direct), goal: None }])
    };
    let mut subject = Adds::new(deployment, Namespace::BestEffort, callers, batch, counters)?;
    compare(&scenario.name(), UNIT, settings.rounds(), settings.span, &mut subject, &mut peers).await
}
