//! Batches of any length, split into requests of [`BATCH_ITEMS_MAX`]. Only items that failed are sent again.

use futures::{StreamExt, stream};

use super::{
    Client, Error, Reading, Stub,
    call::{Target, Token},
};
use crate::{
    BATCH_ITEMS_MAX,
    proto::{BatchAddCountRequest, BatchGetCountRequest, IdempotencyToken, batch_add_count_request},
    status::Status,
};

/// Requests of one batch that are on their way at once.
const REQUESTS_IN_FLIGHT: usize = 4;

/// One add of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Add {
    /// The counter.
    pub counter_name: String,
    /// What to add.
    pub delta: i64,
    /// The caller's own token; the client makes one if there is none.
    pub token: Option<IdempotencyToken>,
}

impl Client {
    /// Adds to any number of counters. There is one result per add, in their order; the items are independent.
    pub async fn batch_add(&self, namespace: &str, adds: Vec<Add>) -> Vec<Result<(), Error>> {
        let deadline = self.deadline_from_now();
        let items = adds.into_iter().map(|add| {
            let token = self.token_or_ours(add.token);
            ((add.counter_name, add.delta), token)
        });
        stream::iter(split(items.collect()))
            .map(|items| async move {
                let counter_name = items.first().map(|item| item.0.0.clone()).unwrap_or_default();
                let target = Target { namespace, counter_name: &counter_name, deadline };
                let send = |items: Vec<((String, i64), Option<IdempotencyToken>)>| async move {
                    let request = BatchAddCountRequest {
                        namespace: namespace.to_owned(),
                        adds: items.into_iter().map(add_of_request).collect(),
                    };
                    let send = async |mut stub: Stub, request| stub.batch_add_count(request).await;
                    let reply = self.attempt(target, true, &request, &send).await?;
                    Ok(reply.results.into_iter().map(|result| result.status.map_or(Ok(()), Err)).collect())
                };
                self.settle_all(target, items, send).await
            })
            .buffered(REQUESTS_IN_FLIGHT)
            .concat()
            .await
    }

    /// Reads any number of counters. There is one result per name, in their order.
    pub async fn batch_get(&self, namespace: &str, counter_names: Vec<String>) -> Vec<Result<Reading, Error>> {
        let deadline = self.deadline_from_now();
        let items = counter_names.into_iter().map(|name| (name, Token::Read));
        stream::iter(split(items.collect()))
            .map(|items| async move {
                let counter_name = items.first().map(|item| item.0.clone()).unwrap_or_default();
                let target = Target { namespace, counter_name: &counter_name, deadline };
                let send = |items: Vec<(String, Option<IdempotencyToken>)>| async move {
                    let request = BatchGetCountRequest {
                        namespace: namespace.to_owned(),
                        counter_names: items.into_iter().map(|(name, _)| name).collect(),
                    };
                    let send = async |mut stub: Stub, request| stub.batch_get_count(request).await;
                    let reply = self.attempt(target, false, &request, &send).await?;
                    Ok(reply.results.into_iter().map(reading_of_result).collect())
                };
                self.settle_all(target, items, send).await
            })
            .buffered(REQUESTS_IN_FLIGHT)
            .concat()
            .await
    }
}

fn add_of_request(
    ((counter_name, delta), token): ((String, i64), Option<IdempotencyToken>),
) -> batch_add_count_request::Add {
    batch_add_count_request::Add { counter_name, delta, idempotency_token: token }
}

fn reading_of_result(result: crate::proto::batch_get_count_response::Result) -> Result<Reading, Status> {
    match (result.status, result.count) {
        (Some(status), _) => Err(status),
        (None, Some(count)) => Ok(Reading { count, as_of: result.as_of }),
        (None, None) => Err(Status::new(tonic::Code::Internal, "malformed reply: neither a count nor a status")),
    }
}

fn split<T>(mut items: Vec<T>) -> Vec<Vec<T>> {
    let mut chunks = Vec::with_capacity(items.len().div_ceil(BATCH_ITEMS_MAX));
    while items.len() > BATCH_ITEMS_MAX {
        let rest = items.split_off(BATCH_ITEMS_MAX);
        chunks.push(std::mem::replace(&mut items, rest));
    }
    if !items.is_empty() {
        chunks.push(items);
    }
    chunks
}
