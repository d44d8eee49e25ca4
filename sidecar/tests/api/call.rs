//! One call, by either transport.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;
use tallyman_api::TOKEN_HONOURED;
use tallyman_api::proto::*;
use tallyman_api::status::{Status, http_status};
use tallyman_api::time::Timestamp;
use tonic::metadata::MetadataMap;

use crate::raw_http;
use crate::world::World;

/// A request of one of the methods.
#[derive(Debug, Clone)]
pub enum Call {
    Add(AddCountRequest),
    AddAndGet(AddAndGetCountRequest),
    Get(GetCountRequest),
    Clear(ClearCountRequest),
    BatchAdd(BatchAddCountRequest),
    BatchGet(BatchGetCountRequest),
    Watch(WatchCountRequest),
}

/// A refusal as it came.
#[derive(Debug)]
pub struct Refused {
    pub status: Status,
    pub token_honoured: Option<String>,
}

pub fn token(token: &str, generation_time: Timestamp) -> Option<IdempotencyToken> {
    Some(IdempotencyToken { token: token.to_owned(), generation_time: Some(generation_time) })
}

pub fn add(namespace: &str, counter_name: &str, delta: i64, token: Option<IdempotencyToken>) -> Call {
    let (namespace, counter_name) = (namespace.to_owned(), counter_name.to_owned());
    Call::Add(AddCountRequest { namespace, counter_name, delta, idempotency_token: token })
}

pub fn add_and_get(namespace: &str, counter_name: &str, delta: i64) -> Call {
    let (namespace, counter_name) = (namespace.to_owned(), counter_name.to_owned());
    Call::AddAndGet(AddAndGetCountRequest { namespace, counter_name, delta, idempotency_token: None })
}

pub fn clear(namespace: &str, counter_name: &str, token: Option<IdempotencyToken>) -> Call {
    let (namespace, counter_name) = (namespace.to_owned(), counter_name.to_owned());
    Call::Clear(ClearCountRequest { namespace, counter_name, idempotency_token: token })
}

pub fn get(namespace: &str, counter_name: &str) -> Call {
    let (namespace, counter_name) = (namespace.to_owned(), counter_name.to_owned());
    Call::Get(GetCountRequest { namespace, counter_name, max_staleness: None })
}

pub fn watch(namespace: &str, counter_name: &str) -> Call {
    let (namespace, counter_name) = (namespace.to_owned(), counter_name.to_owned());
    Call::Watch(WatchCountRequest { namespace, counter_name })
}

pub fn batch_add(namespace: &str, count: usize) -> Call {
    let item = |index: usize| batch_add_count_request::Add { counter_name: index.to_string(), ..Default::default() };
    Call::BatchAdd(BatchAddCountRequest { namespace: namespace.to_owned(), adds: (0..count).map(item).collect() })
}

pub fn batch_get(namespace: &str, count: usize) -> Call {
    let counter_names = (0..count).map(|index| index.to_string()).collect();
    Call::BatchGet(BatchGetCountRequest { namespace: namespace.to_owned(), counter_names })
}

fn honoured(metadata: &MetadataMap) -> Option<String> {
    metadata.get(TOKEN_HONOURED).map(|value| value.to_str().unwrap().to_owned())
}

/// The reply as JSON.
fn reply<T: Serialize>(answer: Result<tonic::Response<T>, tonic::Status>) -> Result<Value, Refused> {
    match answer {
        Ok(response) => Ok(serde_json::to_value(response.into_inner()).unwrap()),
        Err(status) => Err(Refused { token_honoured: honoured(status.metadata()), status: Status::from(&status) }),
    }
}

/// Calls by gRPC. `timeout` is `grpc-timeout`, empty for none.
pub async fn by_grpc(world: &World, call: Call, timeout: &str) -> Result<Value, Refused> {
    fn request<T>(message: T, timeout: &str) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if !timeout.is_empty() {
            request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        request
    }
    let mut client = world.client.clone();
    match call {
        Call::Add(message) => reply(client.add_count(request(message, timeout)).await),
        Call::AddAndGet(message) => reply(client.add_and_get_count(request(message, timeout)).await),
        Call::Get(message) => reply(client.get_count(request(message, timeout)).await),
        Call::Clear(message) => reply(client.clear_count(request(message, timeout)).await),
        Call::BatchAdd(message) => reply(client.batch_add_count(request(message, timeout)).await),
        Call::BatchGet(message) => reply(client.batch_get_count(request(message, timeout)).await),
        Call::Watch(message) => match client.watch_count(request(message, timeout)).await {
            Ok(stream) => reply(stream.into_inner().message().await.map(|first| tonic::Response::new(first.unwrap()))),
            Err(status) => reply::<()>(Err(status)),
        },
    }
}

/// Calls by HTTP/JSON: the same request, its names in the path.
pub async fn by_http(world: &World, call: Call, timeout: &str) -> Result<Value, Refused> {
    let encoded = |name: &str| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
    let counter =
        |namespace: &str, name: &str| format!("/v1/namespaces/{}/counters/{}", encoded(namespace), encoded(name));
    let batch = |namespace: &str, verb: &str| format!("/v1/namespaces/{}/counters:{verb}", encoded(namespace));
    fn body<T: Serialize>(message: &T) -> Option<String> {
        let mut json = serde_json::to_value(message).unwrap();
        let fields = json.as_object_mut().unwrap();
        fields.remove("namespace");
        fields.remove("counterName");
        Some(json.to_string())
    }
    let (path, body) = match &call {
        Call::Add(message) => (counter(&message.namespace, &message.counter_name) + ":add", body(message)),
        Call::AddAndGet(message) => (counter(&message.namespace, &message.counter_name) + ":addAndGet", body(message)),
        Call::Clear(message) => (counter(&message.namespace, &message.counter_name) + ":clear", body(message)),
        Call::BatchAdd(message) => (batch(&message.namespace, "batchAdd"), body(message)),
        Call::BatchGet(message) => (batch(&message.namespace, "batchGet"), body(message)),
        Call::Watch(message) => (counter(&message.namespace, &message.counter_name) + ":watch", None),
        Call::Get(message) => {
            let query = message.max_staleness.map(|staleness| format!("?max_staleness={staleness}"));
            (counter(&message.namespace, &message.counter_name) + &query.unwrap_or_default(), None)
        }
    };
    let method = if body.is_some() { "POST" } else { "GET" };
    let headers = if timeout.is_empty() { String::new() } else { format!("Grpc-Timeout: {timeout}\r\n") };
    let response = raw_http::request(world.api, method, &path, &headers, &body.unwrap_or_default()).await;
    if response.status == 200 {
        return Ok(response.json());
    }
    let status: Status = serde_json::from_value(response.json()).unwrap();
    assert_eq!(response.status, http_status(status.code()).as_u16(), "{response:?}");
    Err(Refused { status, token_honoured: response.header(TOKEN_HONOURED).map(str::to_owned) })
}
