//! Durable, idempotent adds through a sidecar into Cassandra, beside writing to the same Cassandra directly.

use anyhow::Result;
use tempfile::TempDir;

use super::{CALLERS, Scenario, Settings};
use crate::cassandra::{self, Keyspace, Kind, Node};
use crate::comparison::{Comparison, Peer, Rounds, compare};
use crate::counters::Counters;
use crate::dataplane::{self, Stores};
use crate::deployment::Namespace;
use crate::memcached::Memcached;
use crate::tallyman::Adds;

/// Counters that adds are spread over.
const SPREAD: usize = 100_000;
/// Adds of one batch: as many as a request may have.
const BATCH: usize = 1_000;
/// Batches under way at once.
const BATCH_CALLERS: usize = 8;
/// The Java machine compiles for a while what it runs often.
const WARM_UP_ROUNDS: usize = 1;

/// What a scenario does, and the ratios to reach beside each peer.
struct Plan {
    counters: usize,
    callers: usize,
    batch: usize,
    goals: [(Kind, Option<f64>); 3],
}

fn plan(scenario: Scenario) -> Plan {
    let goals = |counter_column, token| {
        [(Kind::CounterColumn, Some(counter_column)), (Kind::TokenThenCounterColumn, token), (Kind::EventRow, None)]
    };
    match scenario {
        Scenario::CassandraAddSpreadBatch => {
            Plan { counters: SPREAD, callers: BATCH_CALLERS, batch: BATCH, goals: goals(4.0, None) }
        }
        Scenario::CassandraAddHot => Plan { counters: 1, callers: CALLERS, batch: 1, goals: goals(1.5, None) },
        Scenario::CassandraAddHotBatch => {
            Plan { counters: 1, callers: BATCH_CALLERS, batch: BATCH, goals: goals(10.0, None) }
        }
        _ => Plan { counters: SPREAD, callers: CALLERS, batch: 1, goals: goals(1.0, Some(5.0)) },
    }
}

/// Runs one of the scenarios and removes what it wrote.
pub async fn run(scenario: Scenario, settings: &Settings) -> Result<Vec<Comparison>> {
    let node = settings.cassandra().await?;
    let (ours, theirs) = (node.reserve(), node.create().await?);
    let comparisons = measure(scenario, settings, node, &ours, &theirs).await;
    ours.remove().await?;
    theirs.remove().await?;
    comparisons
}

async fn measure(
    scenario: Scenario,
    settings: &Settings,
    node: &Node,
    ours: &Keyspace,
    theirs: &Keyspace,
) -> Result<Vec<Comparison>> {
    let Plan { counters, callers, batch, goals } = plan(scenario);
    let counters = Counters::new(counters);
    let mut peers = Vec::with_capacity(goals.len());
    for (kind, goal) in goals {
        let peer = cassandra::Peer::prepare(kind, node, theirs, CALLERS, &counters).await?;
        peers.push(Peer { contender: Box::new(peer), goal });
    }
    let dir = TempDir::new()?;
    let memcached = Memcached::start("memcached", dir.path()).await?;
    let stores = Stores { memcached: &memcached, cassandra: Some((node, ours)) };
    let deployment = dataplane::start(&settings.programs, dir.path(), &stores).await?;
    let mut subject = Adds::new(deployment, Namespace::Eventual, callers, batch, &counters)?;
    let rounds = Rounds { warm_up: WARM_UP_ROUNDS, counted: settings.rounds };
    compare(&scenario.name(), "adds/s", rounds, settings.span, &mut subject, &mut peers).await
}
