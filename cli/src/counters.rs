//! The commands on single counters.

use std::pin::pin;
use std::process::ExitCode;

use futures::StreamExt;
use serde::Serialize;
use tallyman_api::client::Reading;
use tallyman_api::proto::{AddAndGetCountResponse, GetCountResponse, IdempotencyToken, WatchCountResponse};

use crate::arguments::{Add, Clear, Get, Watch};
use crate::failure::Failure;
use crate::output::Format;

/// What a change printed as JSON says: the token with which to repeat it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed<'a> {
    namespace: &'a str,
    counter_name: &'a str,
    idempotency_token: IdempotencyToken,
}

/// `tallyman add`.
pub async fn add(add: &Add, format: Format) -> Result<ExitCode, Failure> {
    let client = add.connection.client()?;
    let token = add.token.token(&client);
    let counter = &add.counter;
    let added = client.add(&counter.namespace, &counter.name, add.delta, Some(token.clone())).await;
    added.map_err(|error| Failure::of_client(&error, &add.connection.addr))?;
    let changed = Changed { namespace: &counter.namespace, counter_name: &counter.name, idempotency_token: token };
    format.print(&format!("added {} to {counter}", add.delta), &changed)?;
    Ok(ExitCode::SUCCESS)
}

/// `tallyman add-and-get`: prints the count.
pub async fn add_and_get(add: &Add, format: Format) -> Result<ExitCode, Failure> {
    let client = add.connection.client()?;
    let token = add.token.token(&client);
    let counter = &add.counter;
    let counted = client.add_and_get(&counter.namespace, &counter.name, add.delta, Some(token)).await;
    let Reading { count, as_of } = counted.map_err(|error| Failure::of_client(&error, &add.connection.addr))?;
    format.print(&count.to_string(), &AddAndGetCountResponse { count, as_of })?;
    Ok(ExitCode::SUCCESS)
}

/// `tallyman get`: prints the count.
pub async fn get(get: &Get, format: Format) -> Result<ExitCode, Failure> {
    let client = get.connection.client()?;
    let counted = client.get(&get.counter.namespace, &get.counter.name, get.max_staleness).await;
    let Reading { count, as_of } = counted.map_err(|error| Failure::of_client(&error, &get.connection.addr))?;
    format.print(&count.to_string(), &GetCountResponse { count, as_of })?;
    Ok(ExitCode::SUCCESS)
}

/// `tallyman clear`.
pub async fn clear(clear: &Clear, format: Format) -> Result<ExitCode, Failure> {
    let client = clear.connection.client()?;
    let token = clear.token.token(&client);
    let counter = &clear.counter;
    let cleared = client.clear(&counter.namespace, &counter.name, Some(token.clone())).await;
    cleared.map_err(|error| Failure::of_client(&error, &clear.connection.addr))?;
    let changed = Changed { namespace: &counter.namespace, counter_name: &counter.name, idempotency_token: token };
    format.print(&format!("cleared {counter}"), &changed)?;
    Ok(ExitCode::SUCCESS)
}

/// `tallyman watch`: prints each count with the time it speaks of, until it is ended.
pub async fn watch(watch: &Watch, format: Format) -> Result<ExitCode, Failure> {
    let client = watch.connection.client()?;
    let messages = client.watch(&watch.counter.namespace, &watch.counter.name);
    let limit = watch.messages.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut messages = pin!(messages.take(limit));
    while let Some(message) = messages.next().await {
        let Reading { count, as_of } = message.map_err(|error| Failure::of_client(&error, &watch.connection.addr))?;
        let text = as_of.map_or_else(|| count.to_string(), |as_of| format!("{count}\tas of {as_of}"));
        format.print(&text, &WatchCountResponse { count, as_of })?;
    }
    Ok(ExitCode::SUCCESS)
}
