//! One batch of adds.

use anyhow::{Context, Result, ensure};
use tallyman_api::client::{Add, Client};

use crate::counters::Acknowledged;
use crate::deployment::Namespace;

/// Adds 1 to each of the next `count` counters, each add with its own token. All of them are acknowledged, or it fails.
pub async fn add_batch(
    client: &Client,
    namespace: Namespace,
    acknowledged: &mut Acknowledged,
    count: usize,
) -> Result<()> {
    let mut indices = Vec::with_capacity(count);
    let mut adds = Vec::with_capacity(count);
    for _ in 0..count {
        let (index, name) = acknowledged.next();
        indices.push(index);
        adds.push(Add { counter_name: name.to_owned(), delta: 1, token: None });
    }
    let results = client.batch_add(namespace.name(), adds).await;
    ensure!(results.len() == indices.len(), "another number of results than of adds");
    for (index, result) in indices.into_iter().zip(results) {
        result.context("an add of a batch failed")?;
        acknowledged.record(index);
    }
    Ok(())
}
