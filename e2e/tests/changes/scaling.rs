//! Rollup servers come and go, and so do their queues.

use std::sync::Arc;
use std::time::Duration;

use tallyman_e2e::lateness::{self, Late};
use tallyman_e2e::load::{Acknowledged, Load};
use tallyman_e2e::plane::{NAMESPACE, Plane, Reader, Settings};
use tallyman_e2e::tables::checkpoints::Watched;
use tallyman_e2e::{convergence, tables};
use tallyman_servers::Set;

use crate::{one_node, plan};

const ADDS_PER_SECOND: u32 = 100;
/// Some twenty seconds: each change has settled within it, guests and all.
const A_WHILE: usize = 20 * ADDS_PER_SECOND as usize;
/// Long enough for a share of duplicates to mean something.
const MEASURED: usize = 15 * ADDS_PER_SECOND as usize;
/// The share of rollups that may be done twice.
const DUPLICATES_MAX: f64 = 0.05;
/// What a consumer may take for a batch before another takes over from it, and what a sweep waits for the next.
const ONE_BATCH: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra: cargo xtask test"]
async fn no_counter_goes_stale_while_rollup_servers_go_from_one_to_three_to_two() {
    let (servers, mut plane) = prepared("scaling");
    plane.rollups_named = 1;
    plane.tell_all();
    plane.rollups[0].start();
    let scenario = Scenario::begin(&mut plane).await;

    // New servers run before anybody is told of them; sidecars are told first, servers a while later.
    for rollup in &mut plane.rollups[1..] {
        rollup.start();
        rollup.wait_until_ready();
    }
    plane.rollups_named = 3;
    plane.tell(Reader::Sidecar(0));
    scenario.load.acknowledges(A_WHILE / 10).await;
    plane.tell(Reader::Sidecar(1));
    plane.tell(Reader::Rollups);
    scenario.assert_few_duplicates(&plane).await;

    // One goes when it is told so, and the others learn of it afterwards.
    let dropped = plane.rollups[2].metric("tallyman_rollup_queue_refused_total").unwrap();
    let ended = plane.rollups[2].terminate();
    assert!(ended.success(), "{ended}");
    scenario.load.acknowledges(A_WHILE / 10).await;
    plane.rollups_named = 2;
    plane.tell_all();
    scenario.assert_few_duplicates(&plane).await;

    scenario.end(servers, plane, dropped).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra: cargo xtask test"]
async fn queues_become_more_and_fewer_without_losing_a_rollup_event() {
    let (servers, mut plane) = prepared("queues");
    plane.rollups_named = 2;
    plane.tell_all();
    plane.rollups[..2].iter_mut().for_each(|rollup| rollup.start());
    let scenario = Scenario::begin(&mut plane).await;
    for num_queues in [16, 1, 3] {
        plane.settings.num_queues = num_queues;
        plane.tell_all();
        scenario.load.acknowledges(A_WHILE / 2).await;
    }
    scenario.end(servers, plane, 0.0).await;
}

fn prepared(name: &str) -> (Arc<Set>, Plane) {
    let servers = one_node();
    let settings = Settings { rollups: 3, accept_limit: Duration::from_secs(5), ..crate::settings(name) };
    let plane = Plane::prepare(&servers, settings);
    (servers, plane)
}

/// Load, and somebody who watches the checkpoints. Counters are not read: a read would mend what is stale.
struct Scenario {
    load: Load,
    watch: tables::checkpoints::CheckpointWatch,
}

impl Scenario {
    async fn begin(plane: &mut Plane) -> Self {
        plane.sidecars.iter_mut().for_each(|sidecar| sidecar.start());
        let processes = plane.sidecars.iter_mut().chain(&mut plane.rollups).filter(|process| process.is_running());
        processes.for_each(|process| process.wait_until_ready());
        let watch = plane.keyspace.watch_checkpoints();
        let load = Load::start(plane.clients(), plan(ADDS_PER_SECOND));
        load.acknowledges(A_WHILE / 2).await;
        Self { load, watch }
    }

    /// Lets the servers agree, and asserts that from then on they hardly ever do a rollup twice.
    async fn assert_few_duplicates(&self, plane: &Plane) {
        self.load.acknowledges(A_WHILE).await;
        let before = Rollups::of(plane);
        self.load.acknowledges(MEASURED).await;
        let after = Rollups::of(plane);
        let (all, duplicates) = (after.all - before.all, after.duplicates - before.duplicates);
        eprintln!("{duplicates} of {all} rollups are duplicates, by {} servers", plane.rollups_named);
        assert!(all > 100.0, "{all} rollups");
        assert!(duplicates < DUPLICATES_MAX * all, "{duplicates} of {all} rollups are duplicates");
    }

    /// Stops the load, and asserts that every count is right, and that none was stale for long.
    async fn end(self, servers: Arc<Set>, plane: Plane, dropped_by_ended: f64) {
        let (ledger, acknowledged) = self.load.stop_and_tell_times().await;
        let settings = &plane.settings;
        // Invariant 6; a touched counter that nobody took waits for the next sweep.
        let running = plane.sidecars.iter().chain(&plane.rollups).filter(|process| process.is_running());
        let dropped = running.map(|process| {
            let series = ["tallyman_touched_dropped_total", "tallyman_rollup_queue_refused_total"];
            series.iter().filter_map(|series| process.metric(series)).sum::<f64>()
        });
        let dropped: f64 = dropped.sum::<f64>() + dropped_by_ended;
        let sweep = if dropped > 0.0 { SWEEP_EVERY } else { Duration::ZERO };
        let bound = settings.coalesce
            + 2 * settings.accept_limit
            + settings.write_timeout
            + settings.max_clock_skew
            + ONE_BATCH
            + sweep;
        // As long as the bound allows for the last of them; nobody reads meanwhile.
        tokio::time::sleep(bound).await;
        let watched = self.watch.finish();
        assert_fresh(&acknowledged, &watched, bound, dropped);
        convergence::with_ledger(&plane.clients(), NAMESPACE, &ledger).await;
        tables::agree_with_ledger(&plane.keyspace.totals(NAMESPACE), &ledger);
        plane.stop();
        drop(servers);
    }
}

fn assert_fresh(acknowledged: &[Acknowledged], watched: &Watched, bound: Duration, dropped: f64) {
    let Late { add, by } = lateness::worst(acknowledged, &watched.sights).unwrap();
    eprintln!(
        "the latest add was rolled up {by:?} after it was acknowledged, allowed: {bound:?}; {dropped} events dropped"
    );
    assert!(by.is_some_and(|by| by <= bound), "{add:?} was rolled up after {by:?}, allowed: {bound:?}");
}

/// What the running rollup servers have done.
struct Rollups {
    all: f64,
    duplicates: f64,
}

impl Rollups {
    fn of(plane: &Plane) -> Self {
        let sum = |series: &str| {
            let running = plane.rollups.iter().filter(|rollup| rollup.is_running());
            running.map(|rollup| rollup.metric(series).unwrap()).sum()
        };
        Self { all: sum("tallyman_rollups_total"), duplicates: sum("tallyman_rollup_duplicates_total") }
    }
}
