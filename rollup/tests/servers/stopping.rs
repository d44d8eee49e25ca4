//! The end of a server.

use std::time::Duration;

use tallyman_counter::forward::RollupEndpoint;

use crate::world::{ANY_PORT, World, document, eventually, get, group, name};

/// Longer than any test: what is rolled up was drained.
const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_tells_its_senders_and_rolls_up_what_is_queued() {
    let world = World::new(&document(&[], NEVER)).await;
    let server = world.start(ANY_PORT).await;
    let endpoint = world.route(&[server.address]).remove(0);
    world.add(group("a", 50)).await;
    eventually("all are queued", async || server.statistics().queued == 50).await;
    // Until nobody can write before them any more.
    let last = world.dataset.clock.clock().now();
    eventually("the events are final", async || {
        world.dataset.slices().boundary(world.dataset.clock.clock().now()) > last
    })
    .await;
    assert_eq!(world.count("a-0").await, None);
    let statistics = server.stop().await;
    assert_eq!((statistics.rolled_up, statistics.failed), (50, 0));
    for counter in group("a", 50) {
        assert_eq!(world.count(&counter).await, Some(1));
    }
    assert!(!endpoint.is_ready(&name()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_does_not_end_its_stream_holds_up_no_server() {
    let world = World::new(&document(&[], NEVER)).await;
    let server = world.start(ANY_PORT).await;
    // It opens a connection, and says nothing more.
    let silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let admin = server.admin;
    eventually("it is ready", async || get(admin, "/readyz").await.is_ok_and(|(code, _)| code == 200)).await;
    server.stop().await;
    drop(silent);
    assert!(get(admin, "/readyz").await.is_err(), "nothing listens any more");
}
