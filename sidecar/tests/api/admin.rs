//! The admin pages.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::call::{add, by_grpc, by_http, get as get_call};
use crate::raw_http::{get, post, request};
use crate::world::World;

#[tokio::test]
async fn a_process_that_is_not_ready_is_alive_and_says_what_is_missing() {
    let world = World::new().await;
    let ready = get(world.admin, "/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (200, "[+]engine ok\n[+]told ok\n[+]serving ok\nready\n"));
    world.ready.store(false, Ordering::SeqCst);
    let ready = get(world.admin, "/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.body, "[+]engine ok\n[-]told failed: told so\n[+]serving ok\nnot ready\n");
    assert_eq!(get(world.admin, "/livez").await.status, 200);

    let expected = json!({"ready": false, "checks": [
        {"name": "engine"}, {"name": "told", "failed": "told so"}, {"name": "serving"}]});
    let by_query = get(world.admin, "/readyz?format=json").await;
    let by_header = request(world.admin, "GET", "/readyz", "Accept: application/json\r\n", "").await;
    assert_eq!((by_query.status, by_query.json()), (503, expected.clone()));
    assert_eq!(by_header.json(), expected);
}

#[tokio::test]
async fn metrics_count_requests_of_both_transports_by_method_and_code() {
    let world = World::new().await;
    by_grpc(&world, add("accurate", "a", 1, None), "").await.unwrap();
    by_http(&world, add("accurate", "a", 1, None), "").await.unwrap();
    by_http(&world, get_call("nowhere", "a"), "").await.unwrap_err();
    let metrics = get(world.admin, "/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for line in [
        r#"tallyman_api_requests_total{method="AddCount",code="Ok"} 2"#,
        r#"tallyman_api_requests_total{method="GetCount",code="NotFound"} 1"#,
        r#"tallyman_api_request_duration_seconds_count{method="AddCount"} 2"#,
        "tallyman_api_requests_in_flight 0",
    ] {
        assert!(metrics.body.lines().any(|found| found == line), "{line} is not in\n{}", metrics.body);
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_nothing_is_changed_here() {
    let world = World::new().await;
    assert_eq!(get(world.admin, "/").await.status, 404);
    assert_eq!(post(world.admin, "/livez", "").await.status, 405);
}
