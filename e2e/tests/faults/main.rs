//! What goes wrong in real life, on three Cassandra nodes, under load: nothing that was acknowledged is lost, nothing counts
//! twice, no checkpoint moves back.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod scenario;
mod servers;

use self::scenario::Scenario;

/// At the scenario's pace some ten seconds, many coalescing windows.
const A_WHILE: usize = 3_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts three Cassandra nodes: cargo xtask test"]
async fn a_cassandra_node_that_is_killed_and_comes_back_costs_no_count() {
    let mut scenario = Scenario::begin("node_killed").await;
    scenario.servers.kill_node(1).unwrap();
    scenario.load.acknowledges(A_WHILE).await;
    scenario.servers.restart_node(1).unwrap();
    scenario.load.acknowledges(A_WHILE).await;
    scenario.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts three Cassandra nodes: cargo xtask test"]
async fn the_counters_of_a_killed_rollup_server_are_rolled_up_by_the_other() {
    let mut scenario = Scenario::begin("rollup_killed").await;
    scenario.plane.rollups[0].kill();
    scenario.load.acknowledges(A_WHILE).await;
    scenario.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts three Cassandra nodes: cargo xtask test"]
async fn a_killed_sidecar_takes_nothing_with_it_that_it_acknowledged() {
    let mut scenario = Scenario::begin("sidecar_killed").await;
    scenario.plane.sidecars[0].kill();
    scenario.load.acknowledges(A_WHILE).await;
    scenario.plane.sidecars[0].start();
    scenario.plane.sidecars[0].wait_until_ready();
    scenario.load.acknowledges(A_WHILE).await;
    scenario.plane.sidecars[1].kill();
    scenario.load.acknowledges(A_WHILE / 10).await;
    scenario.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts three Cassandra nodes: cargo xtask test"]
async fn caches_that_are_flushed_killed_and_come_back_empty_change_no_count() {
    let mut scenario = Scenario::begin("caches_lost").await;
    for server in 0..scenario.servers.memcached().len() {
        scenario.servers.flush_memcached(server).unwrap();
    }
    scenario.load.acknowledges(A_WHILE / 2).await;
    scenario.servers.kill_memcached(0).unwrap();
    scenario.load.acknowledges(A_WHILE / 2).await;
    scenario.servers.kill_memcached(1).unwrap();
    scenario.load.acknowledges(A_WHILE / 2).await;
    scenario.servers.restart_memcached(0).unwrap();
    scenario.load.acknowledges(A_WHILE / 2).await;
    scenario.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts three Cassandra nodes: cargo xtask test"]
async fn a_rollup_server_that_sleeps_through_windows_and_wakes_moves_nothing_back() {
    let scenario = Scenario::begin("rollup_paused").await;
    for server in [0, 1] {
        scenario.plane.rollups[server].pause();
        scenario.load.acknowledges(A_WHILE).await;
        scenario.plane.rollups[server].resume();
        scenario.load.acknowledges(A_WHILE / 2).await;
    }
    scenario.end().await;
}
