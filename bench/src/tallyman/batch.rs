//! One batch of adds.

use anyhow::{Result, bail, ensure};
use tallyman_api::proto::{BatchAddCountRequest, batch_add_count_request};

use crate::counters::Acknowledged;
use crate::standalone::{Namespace, Stub};
use crate::tokens::Tokens;

/// Adds 1 to each of the next `count` counters, each add with its own token. All of them are acknowledged, or it fails.
pub async fn add_batch(
    stub: &mut Stub,
    namespace: Namespace,
    tokens: &mut Tokens,
    acknowledged: &mut Acknowledged,
    count: usize,
) -> Result<()> {
    let mut indices = Vec::with_capacity(count);
    let mut adds = Vec::with_capacity(count);
    for _ in 0..count {
        let (index, name) = acknowledged.next();
        indices.push(index);
        adds.push(batch_add_count_request::Add {
            counter_name: name.to_owned(),
            delta: 1,
            idempotency_token: Some(tokens.next()),
        });
    }
    let request = BatchAddCountRequest { namespace: namespace.name().to_owned(), adds };
    let reply = stub.batch_add_count(request).await?.into_inner();
    ensure!(reply.results.len() == indices.len(), "another number of results than of adds");
    for (index, result) in indices.into_iter().zip(reply.results) {
        if let Some(status) = result.status {
            bail!("an add of a batch failed: {status:?}");
        }
        acknowledged.record(index);
    }
    Ok(())
}
