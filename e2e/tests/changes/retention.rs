//! Slices end, though nobody ever rolled up what is in them, and no count ends with them.

use std::time::Duration;

use tallyman_e2e::convergence;
use tallyman_e2e::ledger::{Fate, Ledger, delta};
use tallyman_e2e::load::Load;
use tallyman_e2e::operator::Run;
use tallyman_e2e::plane::{NAMESPACE, Plane, Settings};
use tallyman_e2e::tables::slices::Slice;
use tallyman_e2e::{PATIENCE, now_micros, tables};

use crate::{one_node, plan};

const CLOSED: u8 = 1;
const DROPPED: u8 = 2;
const SLICE_WIDTH: Duration = Duration::from_secs(15);

/// No rollup server is there at all: every rollup event is lost.
fn settings(name: &str) -> Settings {
    Settings {
        rollups: 0,
        accept_limit: Duration::from_secs(3),
        slice_width: SLICE_WIDTH,
        bucket_width: Duration::from_secs(5),
        ahead: Some(Duration::from_secs(60)),
        ..crate::settings(name)
    }
}

/// So short that slices end while the test runs; the limits allow no shorter.
fn short_retention(settings: &Settings) -> Option<(Duration, Duration)> {
    let close_after = Duration::from_secs(settings.lag().as_secs() + 2);
    Some((close_after, close_after + Duration::from_secs(10)))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra: cargo xtask test"]
async fn counters_written_once_and_never_rolled_up_outlive_their_slices() {
    let servers = one_node();
    let mut plane = Plane::start(&servers, settings("retention"));
    let operator = plane.operator();
    let load = Load::start(plane.clients(), plan(100));
    // Over several slices.
    let enough = now_micros() + 3 * i64::try_from(SLICE_WIDTH.as_micros()).unwrap();
    while now_micros() < enough {
        load.acknowledges(100).await;
    }
    let ledger = load.stop().await;
    operator.stop();
    assert!(ledger.number_of(Fate::Acknowledged) > 0, "{ledger}");
    let clients = plane.clients();

    let patient = clients[0].with_deadline(PATIENCE);
    // Nobody rolled anything up; a scan of all slices shows that it is there.
    for counter in ledger.counters() {
        assert_eq!(patient.get(NAMESPACE, counter, None).await.unwrap().count, 0, "{counter} was rolled up");
    }
    convergence::accurately(&clients, NAMESPACE, &ledger).await;
    let written = with_events(&plane.keyspace.slices());
    assert!(written.len() > 1, "events lie in one slice only: {written:?}");

    plane.settings.retention = short_retention(&plane.settings);
    plane.tell_all();
    until_slices(&plane, "are dropped", |slices| {
        slices.iter().filter(|slice| written.contains(&slice.start)).all(|slice| slice.state == DROPPED)
    });

    let slices = plane.keyspace.slices();
    let gone = slices.iter().filter(|slice| written.contains(&slice.start));
    assert!(gone.clone().all(|slice| slice.contents.is_none()), "{slices:?}");
    assert_eq!(gone.count(), written.len());
    let counts = convergence::with_ledger(&clients, NAMESPACE, &ledger).await;
    assert_eq!(convergence::accurately(&clients, NAMESPACE, &ledger).await, counts);
    plane.stop();
    drop(servers);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra: cargo xtask test"]
async fn a_sweep_that_cannot_finish_keeps_its_slice_says_so_and_goes_on_once_it_can() {
    let servers = one_node();
    let mut plane = Plane::start(&servers, settings("unfinished"));
    let clients = plane.clients();
    let mut ledger = Ledger::default();
    for counter in (0..20).map(|number| format!("counter {number}")) {
        clients[0].add(NAMESPACE, &counter, delta(0), None).await.unwrap();
        ledger.record(&counter, 0, Fate::Acknowledged);
    }
    let written = with_events(&plane.keyspace.slices());
    // A checkpoint in an encoding of the future; the oldest of writes, so that what mends it is younger.
    let broken = "namespace = 'plays' AND counter_name = 'counter 7' AND region = 'dc1'";
    plane.keyspace.run(&[&format!("UPDATE rollup USING TIMESTAMP 1 SET checkpoint = 0xff WHERE {broken}")]);

    plane.settings.retention = short_retention(&plane.settings);
    plane.tell_all();
    let (_, delete_after) = plane.settings.retention.unwrap();
    let last_end =
        plane.keyspace.slices().iter().filter(|slice| written.contains(&slice.start)).map(|slice| slice.end).max();
    let due = (last_end.unwrap() + i64::try_from(delete_after.as_secs()).unwrap()) * 1_000_000;
    let mut is_refused = false;
    loop {
        let is_due = now_micros() > due;
        let run = Run::of(&mut plane.schema_application());
        if is_due && !run.is_to_be_repeated() {
            // The first slice of a dataset begins at the epoch; nothing but the sweep holds it.
            assert!(!run.is_well(), "the slice was to be kept");
            assert!(run.errors().contains("is kept: ") && run.errors().contains("plays/counter 7"), "{}", run.errors());
            break;
        }
        is_refused |= !run.is_well();
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    assert!(is_refused, "no run was refused before the slices were to be dropped");
    let slices = plane.keyspace.slices();
    let kept = slices.iter().filter(|slice| written.contains(&slice.start));
    assert!(kept.clone().all(|slice| slice.state < CLOSED && slice.events() > 0), "{slices:?}");
    assert!(slices.last().unwrap().end * 1_000_000 > now_micros(), "slices ahead are created all the same: {slices:?}");

    plane.keyspace.run(&[&format!("DELETE checkpoint FROM rollup USING TIMESTAMP 2 WHERE {broken}")]);
    until_slices(&plane, "are dropped once the checkpoint is mended", |slices| {
        slices.iter().filter(|slice| written.contains(&slice.start)).all(|slice| slice.state == DROPPED)
    });
    convergence::with_ledger(&clients, NAMESPACE, &ledger).await;
    let totals = plane.keyspace.totals(NAMESPACE);
    tables::agree_with_counts(&totals, &convergence::Counts::new());
    plane.stop();
    drop(servers);
}

fn with_events(slices: &[Slice]) -> Vec<i64> {
    slices.iter().filter(|slice| slice.events() > 0).map(|slice| slice.start).collect()
}

/// Applies the schema until the slices are as they should be.
fn until_slices(plane: &Plane, what: &str, are_so: impl Fn(&[Slice]) -> bool) {
    let patience = now_micros() + i64::try_from(PATIENCE.as_micros()).unwrap();
    loop {
        plane.apply_schema();
        let slices = plane.keyspace.slices();
        if are_so(&slices) {
            return;
        }
        assert!(now_micros() < patience, "not all slices {what}: {slices:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}
