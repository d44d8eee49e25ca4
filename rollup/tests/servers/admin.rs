//! What a server tells of itself.

use std::time::Duration;

use tallyman_counter::forward::RollupEndpoint;

use crate::world::{ANY_PORT, World, document, eventually, get, group, name};

const COALESCE: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_document_is_shown_and_what_was_right_before_stays_in_force() {
    let world = World::new(&document(&[], COALESCE)).await;
    let server = world.start(ANY_PORT).await;
    let endpoint = world.route(&[server.address]).remove(0);
    let readyz = async || get(server.admin, "/readyz").await.unwrap();
    eventually("it is ready", async || readyz().await.0 == 200).await;

    let mut wrong = document(&[], COALESCE);
    wrong["persistence_configuration"][1]["config"]["accept_limit"] = "2h".into();
    world.configure(&wrong.to_string());
    eventually("the problem is shown", async || readyz().await.1.contains("[!]configuration")).await;
    let (code, page) = readyz().await;
    assert!(code == 200 && page.contains("accept_limit") && page.contains("stays in force"), "{page}");
    assert!(endpoint.is_ready(&name()));
    world.add(group("a", 10)).await;
    world.wait_for(group("a", 10), 1).await;

    std::fs::remove_file(world.document_file()).unwrap();
    eventually("it is not ready", async || readyz().await.0 == 503).await;
    assert!(readyz().await.1.contains("no namespace is configured"));
    eventually("senders are told", async || !endpoint.is_ready(&name())).await;

    world.configure(&document(&[], COALESCE).to_string());
    eventually("it is ready again", async || readyz().await.0 == 200).await;
    eventually("senders are told", async || endpoint.is_ready(&name())).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_its_namespace_does_not_name_says_so() {
    let other = "127.0.0.1:9".parse().unwrap();
    let world = World::new(&document(&[other], COALESCE)).await;
    let server = world.start(ANY_PORT).await;
    let readyz = async || get(server.admin, "/readyz").await.unwrap().1;
    eventually("it warns", async || readyz().await.contains("[!]namespace plays")).await;
    let page = readyz().await;
    assert!(page.contains(&server.address.to_string()) && page.contains("127.0.0.1:9"), "{page}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_show_queues_rollups_sweeps_and_streams() {
    let world = World::new(&document(&[], COALESCE)).await;
    let server = world.start(ANY_PORT).await;
    let _endpoint = world.route(&[server.address]);
    world.add(group("a", 10)).await;
    world.wait_for(group("a", 10), 1).await;
    let (_, page) = get(server.admin, "/metrics").await.unwrap();
    let value = |series: &str| -> f64 {
        let line = page.lines().find(|line| line.starts_with(&format!("{series} ")));
        line.unwrap_or_else(|| panic!("{series} is not in\n{page}")).split(' ').nth(1).unwrap().parse().unwrap()
    };
    assert!(value("tallyman_rollups_total") >= 10.0 && value("tallyman_rollup_sweeps_total") >= 1.0);
    assert_eq!(value("tallyman_forwarding_streams"), 1.0);
    assert!(
        value("tallyman_rollup_queue_counters") <= 10.0 && value("tallyman_rollup_queue_bytes") <= (2 << 20) as f64
    );
    assert!(value("tallyman_rollup_duplicates_total") <= value("tallyman_rollups_total"));
    assert_eq!(value("tallyman_rollup_queue_refused_total"), 0.0);
    assert!(page.contains("tallyman_clock_trusted{dataset=\"plays\"} 1"), "{page}");
    server.stop().await;
}
