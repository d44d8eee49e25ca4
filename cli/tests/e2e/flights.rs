//! Real data, some of it sent twice: every counter ends at its independent total.

use std::collections::BTreeMap;

use tallyman_api::client::Client;

use crate::data::{COUNTERS, ROWS, flights, totals};
use crate::process::Ended;
use crate::server::{Home, PATIENT, Server};

/// Long enough for a busy machine to send everything in time, short enough to wait for the rollup behind it.
const UNHURRIED: &str = "{acceptLimit: 10s, writeTimeout: 1s, maxClockSkew: 100ms}";

/// Sends the flights; the options come last.
pub fn replay(server: &Server, namespace: &str, more: &[&str]) -> Ended {
    let flights = flights();
    let arguments = ["replay", "--csv", &flights, "--namespace", namespace, "--concurrency", "16"];
    server.run(&[&arguments[..], &COUNTERS, more].concat())
}

/// Every counter of the totals, read by batches.
pub async fn counts(client: &Client, namespace: &str) -> BTreeMap<String, i64> {
    let names: Vec<String> = totals().into_keys().collect();
    let readings = client.batch_get(namespace, names.clone()).await;
    let count = |(name, reading): (String, Result<tallyman_api::client::Reading, _>)| (name, reading.unwrap().count);
    names.into_iter().zip(readings).map(count).collect()
}

/// Waits until the counters show their totals. Past them they must never be.
async fn converge(server: &Server, namespace: &str) {
    let client = server.client();
    let totals = totals();
    for _ in 0..600 {
        let counts = counts(&client, namespace).await;
        // These counters only grow.
        for (name, count) in counts.iter().filter(|(name, _)| !name.starts_with("delay/")) {
            assert!(*count <= totals[name], "{name} counts {count} of {}", totals[name]);
        }
        if counts == totals {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(counts(&client, namespace).await, totals);
}

#[tokio::test]
async fn an_eventual_namespace_converges_to_the_independent_totals_though_rows_are_sent_twice() {
    let home = Home::new(&[("flights", "Eventual", UNHURRIED)]);
    let server = home.start(&[]);
    let ended = replay(&server, "flights", &["--resend", "0.2", "--seed", "7", "--batch", "20"]).succeeded();
    let report = ended.json();
    assert_eq!((report["rows"].as_i64(), report["rowsAcknowledged"].as_i64()), (Some(ROWS), Some(ROWS)));
    assert_eq!(report["addsAcknowledged"].as_i64(), Some(3 * ROWS));
    let resent = report["resent"].as_i64().unwrap();
    assert!((ROWS * 3 / 10..ROWS * 9 / 10).contains(&resent), "{resent}");
    converge(&server, "flights").await;
    assert!(server.terminate().success());
    // What was counted is durable, whoever is asked.
    let server = home.start(&[]);
    converge(&server, "flights").await;
}

#[tokio::test]
async fn an_accurate_namespace_shows_the_independent_totals_at_once() {
    let home = Home::new(&[("flights", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    replay(&server, "flights", &["--resend", "0.2", "--batch", "20"]).succeeded();
    assert_eq!(counts(&server.client(), "flights").await, totals());
}

#[tokio::test]
async fn a_best_effort_namespace_shows_the_independent_totals_at_once_where_nothing_is_sent_twice() {
    let home = Home::new(&[("flights", "BestEffort", "")]);
    let server = home.start(&[]);
    replay(&server, "flights", &["--batch", "20"]).succeeded();
    assert_eq!(counts(&server.client(), "flights").await, totals());
}
