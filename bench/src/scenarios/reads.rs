//! Reads through the API, beside the bare call.

use anyhow::Result;
use tempfile::TempDir;

use super::{CALLERS, Scenario, Settings};
use crate::cassandra::{Keyspace, Node};
use crate::comparison::{Comparison, Peer, compare};
use crate::counters::Counters;
use crate::dataplane::{self, Durable, Stores};
use crate::deployment::{Deployment, Namespace};
use crate::echo::Echo;
use crate::memcached::Memcached;
use crate::tallyman::{Reads, read_encoded_len};

/// One read a call, of the embedded store.
pub async fn unary(scenario: Scenario, settings: &Settings, counters: &Counters) -> Result<Vec<Comparison>> {
    let (namespace, goal) = match scenario {
        Scenario::AccurateGet => (Namespace::Accurate, None),
        _ => (Namespace::Eventual, Some(0.8)),
    };
    let dir = TempDir::new()?;
    let deployment = settings.standalone(&dir).await?;
    beside_the_bare_call(scenario, settings, &dir, deployment, namespace, goal, counters).await
}

/// One read a call through a sidecar: the cache is memcached, and Cassandra is behind it.
pub async fn sidecar(scenario: Scenario, settings: &Settings, counters: &Counters) -> Result<Vec<Comparison>> {
    let node = settings.cassandra().await?;
    let keyspace = node.reserve();
    let comparisons = in_keyspace(scenario, settings, node, &keyspace, counters).await;
    keyspace.remove().await?;
    comparisons
}

async fn in_keyspace(
    scenario: Scenario,
    settings: &Settings,
    node: &Node,
    keyspace: &Keyspace,
    counters: &Counters,
) -> Result<Vec<Comparison>> {
    let dir = TempDir::new()?;
    let memcached = Memcached::start("memcached", dir.path()).await?;
    let durable = Durable { node, keyspace, buckets_per_id: 1 };
    let stores = Stores { memcached: &memcached, cassandra: Some(durable) };
    let deployment = dataplane::start(&settings.programs, dir.path(), &stores).await?;
    let (namespace, goal) = (Namespace::Eventual, Some(0.8));
    beside_the_bare_call(scenario, settings, &dir, deployment, namespace, goal, counters).await
}

async fn beside_the_bare_call(
    scenario: Scenario,
    settings: &Settings,
    dir: &TempDir,
    deployment: Deployment,
    namespace: Namespace,
    goal: Option<f64>,
    counters: &Counters,
) -> Result<Vec<Comparison>> {
    let mut subject = Reads::prepare(deployment, namespace, CALLERS, counters).await?;
    let echo = Echo::start(dir.path(), CALLERS, read_encoded_len(namespace, counters)?).await?;
    let mut peers = [Peer { contender: Box::new(echo), goal }];
    compare(&scenario.name(), "gets/s", settings.rounds(), settings.span, &mut subject, &mut peers).await
}
