//! Reads all counters back and holds them against what was acknowledged.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use tallyman_api::client::Client;

use crate::counters::Counters;
use crate::deployment::Namespace;

const READS_IN_PARALLEL: usize = 64;

/// Fails unless every counter's count is exactly what was acknowledged.
pub async fn verify(client: &Client, namespace: Namespace, counters: &Counters, acknowledged: &[u64]) -> Result<()> {
    let expected: Vec<_> = counters.names().map(str::to_owned).zip(acknowledged.iter().copied()).collect();
    let reads = stream::iter(expected).map(|(name, expected)| verify_one(client, namespace, name, expected));
    reads.buffer_unordered(READS_IN_PARALLEL).try_collect().await
}

async fn verify_one(client: &Client, namespace: Namespace, name: String, expected: u64) -> Result<()> {
    // Exact, whatever is rolled up; best-effort namespaces do not care.
    let count = client.get(namespace.name(), &name, Some(Duration::ZERO)).await?.count;
    ensure!(u64::try_from(count) == Ok(expected), "{name}: {expected} adds were acknowledged, the count is {count}");
    Ok(())
}
