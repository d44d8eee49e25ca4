//! Real data through the whole data plane: two sidecars, two rollup servers, Cassandra; a fifth of the rows sent twice. Every
//! counter is exact, and so is an independent reading of the event tables.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::time::Duration;

use tallyman_e2e::binaries::Binaries;
use tallyman_e2e::convergence;
use tallyman_e2e::flights::{COUNTERS, Flights};
use tallyman_e2e::plane::{NAMESPACE, Plane, Settings};
use tallyman_e2e::tables;
use tallyman_servers::{Place, Set, Shape};

const ADDRESSES: u8 = 22;
#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra: cargo xtask test"]
async fn every_flight_counts_once_through_two_sidecars_and_two_rollup_servers() {
    let flights = Flights::find();
    let (rows, totals) = flights.totals();
    // Before servers run, which it would keep waiting and starve.
    Binaries::built();
    let shape = Shape { memcached: 2, ..Shape::default() };
    let servers = Set::start(&Place::in_memory("flights", ADDRESSES).unwrap(), &shape).unwrap();
    let settings = Settings { accept_limit: Duration::from_secs(30), ..Settings::new("flights") };
    let plane = Plane::start(&servers, settings);
    let watch = plane.keyspace.watch_checkpoints();

    // Each sidecar gets half of the rows, at the same time.
    let half = rows / 2;
    std::thread::scope(|scope| {
        let halves = [(1, half), (half + 1, rows - half)];
        let replays = halves.into_iter().zip(&plane.sidecars).map(|((from, limit), sidecar)| {
            let (plane, file) = (&plane, flights.file.to_str().unwrap());
            let (address, from, limit) = (format!("http://{}", sidecar.listen()), from.to_string(), limit.to_string());
            scope.spawn(move || {
                let replay = ["-o", "json", "replay", "--csv", file, "--namespace", NAMESPACE, "--addr", &address];
                let rows = ["--from", &from, "--limit", &limit, "--resend", "0.2"];
                // A row that is not acknowledged in time ends a replay. A busy machine has time, within the accept limit.
                let pace = ["--batch", "20", "--concurrency", "16", "--timeout", "20s"];
                let report = plane.tallyman(&[&replay[..], &rows, &pace, &COUNTERS].concat());
                let report: serde_json::Value = serde_json::from_str(&report).unwrap();
                assert_eq!(report["rowsAcknowledged"].as_u64(), limit.parse().ok(), "{report}");
                assert!(report["resent"].as_u64() > Some(0), "{report}");
            })
        });
        replays.collect::<Vec<_>>().into_iter().for_each(|replay| replay.join().unwrap());
    });

    convergence::to(&plane.clients(), NAMESPACE, &totals).await;
    tables::agree_with_counts(&plane.keyspace.totals(NAMESPACE), &totals);
    assert!(watch.finish().counters() >= totals.len());
    plane.stop();
    drop(servers);
}
