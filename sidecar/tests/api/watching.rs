//! Watches, by gRPC and as server-sent events.

use serde_json::json;
use tallyman_api::proto::{WatchCountRequest, WatchCountResponse};
use tallyman_api::status::{Reason, Status};
use tonic::{Code, Streaming};

use crate::call::{add, by_grpc};
use crate::raw_http::Events;
use crate::world::World;

async fn watch(world: &World, namespace: &str, counter_name: &str) -> Streaming<WatchCountResponse> {
    let (namespace, counter_name) = (namespace.to_owned(), counter_name.to_owned());
    world.client.clone().watch_count(WatchCountRequest { namespace, counter_name }).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_watch_tells_the_count_at_once_and_then_its_changes_and_as_of_never_goes_back() {
    let world = World::new().await;
    let mut stream = watch(&world, "accurate", "watched").await;
    let mut last = stream.message().await.unwrap().unwrap();
    assert_eq!(last.count, 0);
    for expected in 1..=3 {
        by_grpc(&world, add("accurate", "watched", 1, None), "").await.unwrap();
        let message = stream.message().await.unwrap().unwrap();
        assert_eq!(message.count, expected);
        assert!(message.as_of >= last.as_of && message.as_of.is_some());
        last = message;
    }
}

#[tokio::test]
async fn server_sent_events_carry_the_json_of_get_count() {
    let world = World::new().await;
    let mut events = Events::of(world.api, "/v1/namespaces/accurate/counters/sse%3Aa:watch", "").await;
    let (event, first) = events.next().await.unwrap();
    assert_eq!((event.as_str(), &first["count"]), ("message", &json!("0")));
    by_grpc(&world, add("accurate", "sse:a", 8, None), "").await.unwrap();
    let (_, second) = events.next().await.unwrap();
    assert_eq!(second["count"], "8");
    // RFC 3339 in UTC with the same number of decimals or fewer compares as text up to the seconds.
    assert!(second["asOf"].as_str().unwrap()[..19] >= first["asOf"].as_str().unwrap()[..19]);
}

#[tokio::test]
async fn an_error_ends_a_watch_and_is_its_last_message() {
    let world = World::new().await;
    let path = "/v1/namespaces/accurate/counters/overflown:watch";
    let mut events = Events::of(world.api, path, "").await;
    let mut stream = watch(&world, "accurate", "overflown").await;
    assert_eq!(events.next().await.unwrap().0, "message");
    assert_eq!(stream.message().await.unwrap().unwrap().count, 0);
    for _ in 0..2 {
        by_grpc(&world, add("accurate", "overflown", i64::MAX, None), "").await.unwrap();
    }
    let (event, status) = loop {
        // The count in between may be seen or not.
        let next = events.next().await.unwrap();
        if next.0 != "message" {
            break next;
        }
    };
    assert_eq!((event.as_str(), &status["details"][0]["reason"]), ("error", &json!("COUNT_OVERFLOW")));
    assert_eq!(events.next().await, None);
    let status = loop {
        if let Err(status) = stream.message().await {
            break status;
        }
    };
    assert_eq!(Status::from(&status).reason(), Some(Reason::CountOverflow));
}

#[tokio::test]
async fn a_deadline_ends_a_watch() {
    let world = World::new().await;
    let path = "/v1/namespaces/eventual/counters/short:watch";
    let mut events = Events::of(world.api, path, "Grpc-Timeout: 300m\r\n").await;
    let (_, error) = loop {
        let next = events.next().await.unwrap();
        if next.0 == "error" {
            break next;
        }
    };
    assert_eq!(error["code"], Code::DeadlineExceeded as i32);
    assert_eq!(events.next().await, None);
}
