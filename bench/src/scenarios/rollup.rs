//! The rollup pipeline, beside the least that any rollup must do: reading the same partitions.

use std::sync::Arc;

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use tallyman_counter::backend::embedded::Database;
use tallyman_counter::dataset::Dataset;
use tallyman_counter::model::{Partition, Timestamp};
use tallyman_counter::store::Scan;
use tempfile::TempDir;
use tokio::time::Instant;

use super::Settings;
use crate::cassandra::{Keyspace, Node, RangeScan};
use crate::comparison::{Better, Comparison, judge};
use crate::dataplane::{self, Durable};
use crate::measurement::Measurement;
use crate::memcached::Memcached;
use crate::rollup::{EVENTS, Engine, Written};

/// Bare scans under way at once: of the embedded store as many as there are queues…
const EMBEDDED_SCANS: usize = 8;
/// …and of Cassandra so many that it is never idle.
const CASSANDRA_SCANS: usize = 64;
/// Partitions of a counter's events in a time bucket: the default.
const BUCKETS_PER_ID: u32 = 4;
/// Events of one page of a bare scan.
const PAGE: usize = 2_048;

/// A short coalescing window: it is waiting, not work, and is part of what is measured.
const EMBEDDED: &str = r#"{"namespace": "rollup", "region": "local", "persistence_configuration": [
    {"id": "CACHE", "physical_storage": {"type": "MEMORY"}},
    {"id": "COUNTER_ROLLUP", "physical_storage": {"type": "EMBEDDED", "dataset": "bench"}, "counter_cardinality": "HIGH",
     "config": {"counter_type": "EVENTUAL", "eventual_counter_config": {"internal_config":
        {"queue_config": {"num_queues": 8, "coalesce_ms": 5}}}}},
    {"id": "EVENT_STORAGE", "physical_storage": {"type": "EMBEDDED", "dataset": "bench"},
     "config": {"accept_limit": "1s", "write_timeout": "0.5s", "max_clock_skew": "0.1s"}}]}"#;

/// Over the embedded store.
pub async fn embedded(settings: &Settings) -> Result<Vec<Comparison>> {
    let dir = TempDir::new()?;
    let engine = Engine::start(EMBEDDED, Some(Database::open(dir.path())?)).await?;
    let bare = BareScan::Store(engine.dataset()?.clone());
    let names = ["tallyman-rollup-pipeline", "scan"];
    let comparison = compare(settings, &engine, &bare, names, EMBEDDED_SCANS).await;
    engine.stop().await;
    Ok(vec![comparison?])
}

/// Over Cassandra and memcached; the bare scan is made with the driver.
pub async fn cassandra(settings: &Settings) -> Result<Vec<Comparison>> {
    let node = settings.cassandra().await?;
    let keyspace = node.reserve();
    let comparison = in_keyspace(settings, node, &keyspace).await;
    keyspace.remove().await?;
    Ok(vec![comparison?])
}

async fn in_keyspace(settings: &Settings, node: &Node, keyspace: &Keyspace) -> Result<Comparison> {
    let dir = TempDir::new()?;
    let memcached = Memcached::start("memcached", dir.path()).await?;
    let durable = Durable { node, keyspace, buckets_per_id: BUCKETS_PER_ID };
    let document = dataplane::provision_rollup(&settings.programs, dir.path(), &memcached, durable)?;
    let engine = Engine::start(&document, None).await?;
    let slices = engine.dataset()?.slices();
    let bare = BareScan::Cassandra(RangeScan::prepare(node, keyspace, slices.records()).await?);
    let names = ["tallyman-rollup-pipeline-cassandra", "cassandra-range-scan"];
    let comparison = compare(settings, &engine, &bare, names, CASSANDRA_SCANS).await;
    engine.stop().await;
    comparison
}

/// Fresh counters in each round, rolled up once and scanned once.
async fn compare(
    settings: &Settings,
    engine: &Engine,
    bare: &BareScan,
    names: [&str; 2],
    in_parallel: usize,
) -> Result<Comparison> {
    let (mut rollups, mut scans) = (Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=settings.rounds {
        let written = engine.write(round).await?;
        let rolled_up = engine.roll_up(&written).await?;
        let scanned = scan(engine.dataset()?, bare, &written, in_parallel).await?;
        engine.verify(&written).await?;
        let [subject, peer] = names;
        eprintln!("rollup round {round}: {subject} {rolled_up:.0} events/s, {peer} {scanned:.0} events/s");
        if round > 0 {
            rollups.push(Measurement::of(rolled_up));
            scans.push(Measurement::of(scanned));
        }
    }
    Ok(judge("rollup", names, "events/s", Better::Higher, [&rollups, &scans], Some(0.5)))
}

/// How partitions are read by themselves.
#[derive(Clone)]
enum BareScan {
    Store(Arc<Dataset>),
    Cassandra(RangeScan),
}

impl BareScan {
    /// How many events the partition has in the window.
    async fn count(&self, partition: Partition, after: Timestamp, through: Timestamp) -> Result<u64> {
        match self {
            Self::Store(dataset) => {
                let mut scan = Scan { partition, after, through, resume: None, limit: PAGE };
                let mut count = 0;
                loop {
                    let page = dataset.events.scan(scan.clone()).await?;
                    count += page.events.len() as u64;
                    if page.next.is_none() {
                        return Ok(count);
                    }
                    scan.resume = page.next;
                }
            }
            Self::Cassandra(range_scan) => range_scan.count(&partition, after, through).await,
        }
    }
}

/// Events a second.
async fn scan(dataset: &Dataset, bare: &BareScan, written: &Written, in_parallel: usize) -> Result<f64> {
    let slices = dataset.slices();
    let (after, through) = (written.first.previous(), written.last);
    let started = Instant::now();
    let shares = written.counters.chunks(written.counters.len().div_ceil(in_parallel)).map(|share| {
        let (bare, slices, share) = (bare.clone(), slices.clone(), share.to_vec());
        tokio::spawn(async move {
            let mut count = 0;
            for counter in &share {
                for partition in slices.partitions(counter, after, through) {
                    count += bare.count(partition, after, through).await?;
                }
            }
            anyhow::Ok(count)
        })
    });
    let mut count = 0;
    for share in try_join_all(shares).await? {
        count += share?;
    }
    let took = started.elapsed();
    ensure!(count == EVENTS, "the scans found {count} events, not {EVENTS}");
    Ok(EVENTS as f64 / took.as_secs_f64())
}
