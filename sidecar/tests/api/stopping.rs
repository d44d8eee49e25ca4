//! The end of a server: what is under way is answered, watches end, nothing more gets in.

use std::time::Duration;

use serde_json::json;
use tallyman_api::proto::WatchCountRequest;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::call::{add, by_grpc, by_http};
use crate::faults::Fault;
use crate::raw_http::{Events, get};
use crate::world::{Settings, World};

#[tokio::test]
async fn requests_under_way_are_answered_after_the_stop_and_watches_end() {
    let (open, waiting) = watch::channel(false);
    let world = World::with(Settings { waiting: Fault::AppendsWait(waiting), ..Settings::default() }).await;
    let mut events = Events::of(world.api, "/v1/namespaces/eventual/counters/a:watch", "").await;
    assert_eq!(events.next().await.unwrap().0, "message");
    let request = WatchCountRequest { namespace: "eventual".to_owned(), counter_name: "a".to_owned() };
    let mut watch = world.client.clone().watch_count(request).await.unwrap().into_inner();
    let (api, admin) = (world.api, world.admin);
    let answers = async {
        let call = || add("waiting", "a", 1, None);
        tokio::join!(by_grpc(&world, call(), ""), by_http(&world, call(), ""))
    };
    let stopping = async {
        // Both have reached the store.
        while !get(admin, "/metrics").await.body.contains("tallyman_api_requests_in_flight 4") {
            tokio::task::yield_now().await;
        }
        world.stop.cancel();
        let (event, status) = loop {
            let next = events.next().await.unwrap();
            if next.0 == "error" {
                break next;
            }
        };
        assert_eq!((event.as_str(), &status["code"]), ("error", &json!(14)));
        let ended = loop {
            if let Err(status) = watch.message().await {
                break status;
            }
        };
        assert_eq!(ended.code(), tonic::Code::Unavailable);
        let ready = get(admin, "/readyz").await;
        assert_eq!(ready.status, 503);
        assert!(ready.body.contains("[-]serving failed: the server is stopping"), "{}", ready.body);
        // The listener goes right after the watches were told; then nobody gets in.
        while TcpStream::connect(api).await.is_ok() {
            tokio::task::yield_now().await;
        }
        open.send(true).unwrap();
    };
    let ((by_grpc, by_http), ()) = tokio::join!(answers, stopping);
    assert_eq!((by_grpc.unwrap(), by_http.unwrap()), (json!({}), json!({})));
    world.serving.await.unwrap();
}

#[tokio::test]
async fn what_outlives_the_drain_is_cut_off() {
    let settings = Settings { drain: Duration::from_millis(50), ..Settings::default() };
    let World { stop, serving, admin, client, .. } = World::with(settings).await;
    let hanging = tokio::spawn(async move {
        let request = tallyman_api::proto::AddCountRequest {
            namespace: "hanging".to_owned(),
            counter_name: "a".to_owned(),
            ..Default::default()
        };
        client.clone().add_count(request).await
    });
    while !get(admin, "/metrics").await.body.contains("tallyman_api_requests_in_flight 1") {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    serving.await.unwrap();
    assert!(hanging.await.unwrap().is_err());
}
