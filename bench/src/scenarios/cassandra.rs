//! Durable, idempotent adds through a sidecar into Cassandra, beside writing to the same Cassandra directly.

use anyhow::Result;
use tempfile::TempDir;

use super::{CALLERS, Scenario, Settings};
use crate::cassandra::{self, Keyspace, Kind, Node};
use crate::comparison::{Comparison, Peer, Rounds, compare};
use crate::counters::Counters;
use crate::dataplane::{self, Durable, Stores};
use crate::deployment::Namespace;
use crate::measurement::Span;
use crate::memcached::Memcached;
use crate::tallyman::Adds;

/// Counters that adds are spread over.
const SPREAD: usize = 100_000;
/// Partitions of the hot counter: the default.
const HOT_BUCKETS: u32 = 4;
/// Adds of one batch of one counter: as many as a request may have.
const HOT_BATCH: usize = 1_000;
/// Adds of one batch that are spread: what is under way at once is to be written well before its deadline.
const SPREAD_BATCH: usize = 200;
/// Batches under way at once.
const BATCH_CALLERS: usize = 8;
/// The Java machine compiles for a while what it runs often.
const WARM_UP_ROUNDS: usize = 2;

/// Measurements take longer by this factor than others: rollups of what is added begin after some seconds, and are to be on the
/// bill.
const LONGER: u32 = 3;

/// What a scenario does, and the ratios to reach beside each peer.
struct Plan {
    counters: usize,
    buckets_per_id: u32,
    callers: usize,
    batch: usize,
    goals: [(Kind, Option<f64>); 3],
}

fn plan(scenario: Scenario) -> Plan {
    let spread = |goals| Plan { counters: SPREAD, buckets_per_id: 1, callers: CALLERS, batch: 1, goals };
    let hot = |goals| Plan { counters: 1, buckets_per_id: HOT_BUCKETS, ..spread(goals) };
    let goals = |counter_column, token| {
        [(Kind::CounterColumn, Some(counter_column)), (Kind::TokenThenCounterColumn, token), (Kind::EventRow, None)]
    };
    match scenario {
        Scenario::CassandraAddSpreadBatch => {
            Plan { batch: SPREAD_BATCH, callers: BATCH_CALLERS, ..spread(goals(4.0, None)) }
        }
        Scenario::CassandraAddHot => hot(goals(1.5, None)),
        Scenario::CassandraAddHotBatch => Plan { batch: HOT_BATCH, callers: BATCH_CALLERS, ..hot(goals(10.0, None)) },
        _ => spread(goals(1.0, Some(5.0))),
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
    let Plan { counters, buckets_per_id, callers, batch, goals } = plan(scenario);
    let counters = Counters::new(counters);
    let mut peers = Vec::with_capacity(goals.len());
    for (kind, goal) in goals {
        let peer = cassandra::Peer::prepare(kind, node, theirs, CALLERS, &counters).await?;
        peers.push(Peer { contender: Box::new(peer), goal });
    }
    let dir = TempDir::new()?;
    let memcached = Memcached::start("memcached", dir.path()).await?;
    let durable = Durable { node, keyspace: ours, buckets_per_id };
    let stores = Stores { memcached: &memcached, cassandra: Some(durable) };
    let deployment = dataplane::start(&settings.programs, dir.path(), &stores).await?;
    let mut subject = Adds::new(deployment, Namespace::Eventual, callers, batch, &counters)?;
    let rounds = Rounds { warm_up: WARM_UP_ROUNDS, counted: settings.rounds };
    let span = Span { warm_up: settings.span.warm_up * LONGER, measured: settings.span.measured * LONGER };
    compare(&scenario.name(), "adds/s", rounds, span, &mut subject, &mut peers).await
}
