//! HTTP/JSON: paths, spellings, and what is wrong with a request.

use serde_json::json;
use tallyman_api::TOKEN_HONOURED;

use crate::call::{by_http, get as get_call};
use crate::raw_http::{get, post, request};
use crate::world::World;

const COUNTER: &str = "/v1/namespaces/accurate/counters/plays";

#[tokio::test]
async fn a_counter_is_added_to_read_and_cleared() {
    let world = World::new().await;
    let added = post(world.api, &format!("{COUNTER}:add"), r#"{"delta": 7}"#).await;
    assert_eq!((added.status, added.json()), (200, json!({})));
    assert_eq!(added.header(TOKEN_HONOURED), Some("true"));
    let added = post(world.api, &format!("{COUNTER}:addAndGet"), r#"{"delta": "-2"}"#).await;
    assert_eq!(added.json()["count"], "5");
    let read = get(world.api, COUNTER).await;
    assert_eq!((read.status, &read.json()["count"]), (200, &json!("5")));
    assert!(read.json()["asOf"].as_str().unwrap().ends_with('Z'));
    // A clear without a body: all its fields are optional.
    assert_eq!(post(world.api, &format!("{COUNTER}:clear"), "").await.json(), json!({}));
    assert_eq!(get(world.api, COUNTER).await.json()["count"], "0");
}

#[tokio::test]
async fn a_best_effort_namespace_says_that_it_does_not_honour_tokens() {
    let world = World::new().await;
    let path = "/v1/namespaces/best-effort/counters/plays";
    for verb in ["add", "addAndGet", "clear"] {
        let reply = post(world.api, &format!("{path}:{verb}"), "{}").await;
        assert_eq!((reply.status, reply.header(TOKEN_HONOURED)), (200, Some("false")), "{verb}");
    }
    let read = get(world.api, path).await;
    assert_eq!((read.json(), read.header(TOKEN_HONOURED)), (json!({"count": "0"}), Some("false")));
}

#[tokio::test]
async fn a_token_sent_twice_counts_once_in_every_spelling() {
    let world = World::new().await;
    let now = tallyman_api::time::Timestamp::from_micros(crate::refusals::now_plus(0).micros().unwrap());
    for body in [
        json!({"delta": 3, "idempotencyToken": {"token": "t", "generationTime": now}}),
        json!({"delta": "3", "idempotency_token": {"token": "t", "generation_time": now}}),
        json!({"delta": 3.0, "idempotencyToken": {"token": "t", "generation_time": now}, "counterName": "plays"}),
        json!({"delta": 3, "idempotency_token": {"token": "t", "generationTime": now}, "namespace": "accurate"}),
    ] {
        let added = post(world.api, &format!("{COUNTER}:add"), &body.to_string()).await;
        assert_eq!(added.status, 200, "{added:?}");
    }
    assert_eq!(get(world.api, COUNTER).await.json()["count"], "3");
}

#[tokio::test]
async fn every_sint64_is_a_delta_as_number_and_as_string() {
    let world = World::new().await;
    for (index, delta) in [i64::MIN, -1, 0, i64::MAX].into_iter().enumerate() {
        let counter = format!("/v1/namespaces/accurate/counters/extreme-{index}");
        post(world.api, &format!("{counter}:add"), &json!({"delta": delta}).to_string()).await;
        assert_eq!(get(world.api, &counter).await.json()["count"], delta.to_string());
        post(world.api, &format!("{counter}:clear"), "").await;
        post(world.api, &format!("{counter}:add"), &json!({"delta": delta.to_string()}).to_string()).await;
        assert_eq!(get(world.api, &counter).await.json()["count"], delta.to_string());
    }
}

#[tokio::test]
async fn names_with_colons_slashes_and_other_letters_are_percent_encoded() {
    let world = World::new().await;
    for (encoded, name) in [("a%3Ab", "a:b"), ("a%2Fb%3Aadd", "a/b:add"), ("%C3%BC%20%25", "ü %"), ("a+b", "a+b")] {
        let path = format!("/v1/namespaces/accurate/counters/{encoded}:add");
        assert_eq!(post(world.api, &path, r#"{"delta": 1}"#).await.status, 200, "{name}");
        let read = by_http(&world, get_call("accurate", name), "").await.unwrap();
        assert_eq!(read["count"], "1", "{name}");
    }
}

#[tokio::test]
async fn unknown_paths_and_verbs_are_not_found_and_wrong_methods_not_allowed() {
    let world = World::new().await;
    for path in [
        "/",
        "/v1/namespaces/accurate",
        "/v1/namespaces/accurate/counters/a:remove",
        "/v1/namespaces/accurate/counters:x",
    ] {
        let reply = post(world.api, path, "{}").await;
        assert_eq!((reply.status, &reply.json()["code"]), (404, &json!(5)), "{path}");
    }
    for (method, path, allowed) in [
        ("GET", format!("{COUNTER}:add"), "POST"),
        ("POST", COUNTER.to_owned(), "GET"),
        ("DELETE", COUNTER.to_owned(), "GET"),
        ("POST", format!("{COUNTER}:watch"), "GET"),
        ("GET", "/v1/namespaces/accurate/counters:batchGet".to_owned(), "POST"),
    ] {
        let reply = request(world.api, method, &path, "", "").await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allowed)), "{method} {path}");
        assert_eq!(reply.json()["code"], 12, "{method} {path}");
    }
}

#[tokio::test]
async fn a_wrong_request_is_told_by_its_field() {
    let world = World::new().await;
    let add = format!("{COUNTER}:add");
    for (path, body, field) in [
        (add.as_str(), r#"{"delta": 1"#, "body"),
        (&add, r#"{"delta": 1.5}"#, "delta"),
        (&add, r#"{"delta": 9223372036854775808}"#, "delta"),
        (&add, r#"{"dleta": 1}"#, "dleta"),
        (&add, r#"{"counterName": "other"}"#, "counter_name"),
        (&add, r#"{"namespace": "other"}"#, "namespace"),
        (&add, r#"{"idempotencyToken": {"generationTime": "yesterday"}}"#, "idempotency_token.generation_time"),
        (
            &add,
            r#"{"idempotencyToken": {"generationTime": "0000-01-01T00:00:00Z"}}"#,
            "idempotency_token.generation_time",
        ),
        ("/v1/namespaces/accurate/counters:batchAdd", r#"{"adds": [{}, {"delta": []}]}"#, "adds[1].delta"),
        ("/v1/namespaces/accurate/counters:batchAdd", r#"{"namespace": "other"}"#, "namespace"),
        (&format!("{COUNTER}:add?delta=1"), "{}", "delta"),
        ("/v1/namespaces/accurate/counters/%zz:add", "{}", "counter_name"),
    ] {
        let reply = post(world.api, path, body).await;
        let json = reply.json();
        assert_eq!((reply.status, &json["code"]), (400, &json!(3)), "{body}");
        assert_eq!(json["details"][0]["fieldViolations"][0]["field"], field, "{json}");
    }
    for query in ["max_staleness=-1s", "maxStaleness=5", "max_staleness=1s&max_staleness=1s"] {
        let json = get(world.api, &format!("{COUNTER}?{query}")).await.json();
        assert_eq!(json["details"][0]["fieldViolations"][0]["field"], "max_staleness", "{query}");
    }
    assert_eq!(get(world.api, &format!("{COUNTER}?staleness=1s")).await.status, 400);
    assert_eq!(get(world.api, COUNTER).await.json()["count"], "0", "nothing was added");
}

#[tokio::test]
async fn max_staleness_makes_an_eventual_count_exact() {
    let world = World::new().await;
    let counter = "/v1/namespaces/eventual/counters/exact";
    post(world.api, &format!("{counter}:add"), r#"{"delta": 4}"#).await;
    // Nobody rolls up here.
    assert_eq!(get(world.api, counter).await.json()["count"], "0");
    for query in ["max_staleness=0s", "maxStaleness=0.5s"] {
        assert_eq!(get(world.api, &format!("{counter}?{query}")).await.json()["count"], "4", "{query}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let world = World::new().await;
    let body = format!(r#"{{"delta": 1{}}}"#, " ".repeat(4 * 1024 * 1024));
    let reply = post(world.api, &format!("{COUNTER}:add"), &body).await;
    let json = reply.json();
    assert_eq!((reply.status, &json["details"][0]["fieldViolations"][0]["field"]), (400, &json!("body")), "{json}");
    assert_eq!(get(world.api, COUNTER).await.json()["count"], "0");
}
