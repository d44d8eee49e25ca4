//! Reads all counters back and holds them against what was acknowledged.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use tallyman_api::proto::GetCountRequest;

use crate::counters::Counters;
use crate::standalone::{Namespace, Stub};

const READS_IN_PARALLEL: usize = 16;

/// Fails unless every counter's count is exactly what was acknowledged.
pub async fn verify(stub: &Stub, namespace: Namespace, counters: &Counters, acknowledged: &[u64]) -> Result<()> {
    let expected: Vec<_> = counters.names().map(str::to_owned).zip(acknowledged.iter().copied()).collect();
    let reads = stream::iter(expected).map(|(name, expected)| verify_one(stub.clone(), namespace, name, expected));
    reads.buffer_unordered(READS_IN_PARALLEL).try_collect().await
}

async fn verify_one(mut stub: Stub, namespace: Namespace, name: String, expected: u64) -> Result<()> {
    let request = GetCountRequest {
        namespace: namespace.name().to_owned(),
        counter_name: name.clone(),
        // Exact, whatever is rolled up; best-effort namespaces do not care.
        max_staleness: Some(Duration::ZERO.into()),
    };
    let count = stub.get_count(request).await?.into_inner().count;
    ensure!(u64::try_from(count) == Ok(expected), "{name}: {expected} adds were acknowledged, the count is {count}");
    Ok(())
}
