//! Touched counters on their way: to their owners, around servers that are away, and back.

use std::time::Duration;

use tallyman_counter::forward::RollupEndpoint;
use tallyman_counter::model::CounterName;

use crate::world::{ANY_PORT, World, document, eventually, group, name};

const COALESCE: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sidecars_touch_is_rolled_up_by_its_owners() {
    let world = World::new(&document(&[], COALESCE)).await;
    let servers = [world.start(ANY_PORT).await, world.start(ANY_PORT).await];
    let addresses = servers.each_ref().map(|server| server.address);
    world.configure(&document(&addresses, COALESCE).to_string());
    let endpoints = world.route(&addresses);
    for endpoint in &endpoints {
        eventually("the server is ready", async || endpoint.is_ready(&name())).await;
    }
    world.add(group("a", 100)).await;
    world.wait_for(group("a", 100), 1).await;
    assert_eq!((world.touched.dropped(), world.touched.pending_count()), (0, 0));
    for server in servers {
        let done = server.statistics().rolled_up;
        assert!(done > 0, "each has its share");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_costs_nothing_and_one_that_is_back_is_used() {
    let world = World::new(&document(&[], COALESCE)).await;
    let (stays, goes) = (world.start(ANY_PORT).await, world.start(ANY_PORT).await);
    let addresses = [stays.address, goes.address];
    world.configure(&document(&addresses, COALESCE).to_string());
    let endpoints = world.route(&addresses);
    for endpoint in &endpoints {
        eventually("the server is ready", async || endpoint.is_ready(&name())).await;
    }
    let gone = goes.address;
    goes.crash();
    // Its counters go to the other one, which does not own them by its own list.
    world.add(group("b", 100)).await;
    world.wait_for(group("b", 100), 1).await;
    assert!(!endpoints[1].is_ready(&name()));

    let back = world.start(gone).await;
    eventually("it is connected to again", async || endpoints[1].is_ready(&name())).await;
    world.add(group("b", 100)).await;
    world.wait_for(group("b", 100), 2).await;
    assert!(back.statistics().rolled_up > 0);
    assert_eq!(world.touched.dropped(), 0);
    stays.stop().await;
    back.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_that_are_touched_before_any_server_is_there_wait_for_it() {
    let world = World::new(&document(&[], COALESCE)).await;
    let server = world.start(ANY_PORT).await;
    let address = server.address;
    server.stop().await;
    let endpoints = world.route(&[address]);
    world.add(group("c", 10)).await;
    assert!(!endpoints[0].is_ready(&name()));
    assert!(!world.touched.flush().await);
    assert_eq!(world.touched.pending_count(), 10);
    let server = world.start(address).await;
    world.wait_for(group("c", 10), 1).await;
    assert_eq!(world.touched.dropped(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_learns_what_was_taken_and_what_was_refused() {
    let world = World::new(&document(&[], Duration::from_secs(3600))).await;
    let server = world.start(ANY_PORT).await;
    let endpoint = world.route(&[server.address]).remove(0);
    eventually("the server is ready", async || endpoint.is_ready(&name())).await;
    let counters =
        |count: usize| -> Vec<_> { (0..count).map(|i| CounterName::new(&format!("{i:0500}")).unwrap()).collect() };
    assert_eq!(endpoint.send(&name(), &counters(100)).await, Ok(100));
    let elsewhere = tallyman_counter::model::NamespaceName::new("likes").unwrap();
    assert!(!endpoint.is_ready(&elsewhere));
    assert_eq!(endpoint.send(&elsewhere, &counters(7)).await, Ok(0));
    // Two queues of a mebibyte each hold no ten mebibytes.
    let taken = endpoint.send(&name(), &counters(20_000)).await.unwrap();
    let statistics = server.statistics();
    assert!((1_000..5_000).contains(&taken), "{taken}");
    assert_eq!(statistics.refused, 20_000 - taken as u64);
    assert!(statistics.queued_bytes <= 2 << 20);
    server.crash();
}
