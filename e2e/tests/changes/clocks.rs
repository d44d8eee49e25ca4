//! Clocks that are wrong, or jump: they are noticed, and cost no count.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tallyman_api::client::{Client, Error};
use tallyman_e2e::daemon::Daemon;
use tallyman_e2e::faketime::WrongClock;
use tallyman_e2e::ledger::{ADDS_MAX, Fate, Ledger, delta};
use tallyman_e2e::load::Load;
use tallyman_e2e::operator::Run;
use tallyman_e2e::plane::{NAMESPACE, Plane, Settings};
use tallyman_e2e::tables::checkpoints::Watched;
use tallyman_e2e::{convergence, micros, tables};

use crate::{one_node, plan};

/// Of the processes of a kind, the second one has the wrong clock.
const WRONG: usize = 1;
const AN_HOUR: i64 = 3_600;
const SHIFTS: [i64; 4] = [30, -30, AN_HOUR, -AN_HOUR];
/// Some five seconds.
const A_WHILE: usize = 500;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra: cargo xtask test"]
async fn a_sidecar_and_a_rollup_server_whose_clocks_are_wrong_stop_and_say_so_and_cost_no_count() {
    let servers = one_node();
    // Slices end where a clock that is ahead asks for more of them.
    let settings = Settings {
        slice_width: Duration::from_secs(900),
        ahead: Some(Duration::from_secs(900)),
        ..crate::settings("clocks")
    };
    let mut plane = Plane::start(&servers, settings);
    let clock = WrongClock::new(plane.folder());
    let watch = plane.keyspace.watch_checkpoints();
    let load = Load::start(plane.clients(), plan(100));
    load.acknowledges(A_WHILE).await;

    for shift in SHIFTS {
        clock.set(shift);
        restart(&mut plane, &clock.environment());
        for process in [&plane.sidecars[WRONG], &plane.rollups[WRONG]] {
            process.wait_until_told(&["503", "clock is not trusted"]);
            assert_eq!(process.metric("tallyman_clock_trusted{dataset=\"clocks\"}"), Some(0.0), "{shift} s");
            let offset = process.metric("tallyman_clock_offset_max_seconds{dataset=\"clocks\"}").unwrap();
            let expected = Duration::from_secs(shift.unsigned_abs()).as_secs_f64();
            assert!((offset - expected).abs() < 2.0, "{shift} s, and the metric says {offset}");
        }
        assert_refused(&plane, shift).await;
        let rollups = rollups(&plane.rollups[WRONG]);
        load.acknowledges(A_WHILE).await;
        assert_eq!(rollups, self::rollups(&plane.rollups[WRONG]), "a server that knows no time rolled up ({shift} s)");
        if shift == AN_HOUR {
            assert_operator_refuses(&plane, &clock);
        }

        restart(&mut plane, &[]);
        plane.sidecars[WRONG].wait_until_ready();
        plane.rollups[WRONG].wait_until_ready();
        load.acknowledges(A_WHILE / 2).await;
    }

    let ledger = load.stop().await;
    convergence::with_ledger(&plane.clients(), NAMESPACE, &ledger).await;
    tables::agree_with_ledger(&plane.keyspace.totals(NAMESPACE), &ledger);
    assert_no_checkpoint_of_the_future(&plane, &watch.finish());
    plane.stop();
    drop(servers);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra: cargo xtask test"]
async fn clocks_that_jump_while_it_counts_cost_no_count() {
    let servers = one_node();
    let mut plane = Plane::start(&servers, crate::settings("jumps"));
    let clock = WrongClock::new(plane.folder());
    restart(&mut plane, &clock.environment());
    plane.sidecars[WRONG].wait_until_ready();
    plane.rollups[WRONG].wait_until_ready();
    let watch = plane.keyspace.watch_checkpoints();
    let load = Load::start(plane.clients(), plan(100));

    let is_over = AtomicBool::new(false);
    let timed_by_sidecars = std::thread::scope(|scope| {
        let adding = scope.spawn(|| add_without_tokens(&plane.sidecars[WRONG], &is_over));
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for shift in SHIFTS.into_iter().flat_map(|shift| [shift, 0]) {
                    load.acknowledges(A_WHILE / 2).await;
                    clock.set(shift);
                }
                load.acknowledges(A_WHILE).await;
            });
        });
        is_over.store(true, Ordering::Relaxed);
        adding.join().unwrap()
    });
    plane.sidecars[WRONG].wait_until_ready();
    plane.rollups[WRONG].wait_until_ready();

    let ledger = load.stop().await;
    eprintln!("times by the sidecar whose clock jumped: {timed_by_sidecars}");
    assert!(timed_by_sidecars.number_of(Fate::Acknowledged) > 0 && timed_by_sidecars.number_of(Fate::Refused) > 0);
    for ledger in [&ledger, &timed_by_sidecars] {
        convergence::with_ledger(&plane.clients(), NAMESPACE, ledger).await;
        tables::agree_with_ledger(&plane.keyspace.totals(NAMESPACE), ledger);
    }
    assert_no_checkpoint_of_the_future(&plane, &watch.finish());
    plane.stop();
    drop(servers);
}

/// Ends the processes and starts them with these variables.
fn restart(plane: &mut Plane, environment: &[(OsString, OsString)]) {
    for process in [&mut plane.sidecars[WRONG], &mut plane.rollups[WRONG]] {
        let ended = process.terminate();
        assert!(ended.success(), "{}: {ended}\n{}", process.name(), process.log());
        process.set_environment(environment.to_vec());
        process.start();
    }
}

/// The sidecar takes no mutation, whoever says what time it is; the other one does.
async fn assert_refused(plane: &Plane, shift: i64) {
    let client = |sidecar: &Daemon, seconds| {
        let client = Client::builder(format!("http://{}", sidecar.listen())).deadline(Duration::from_secs(seconds));
        client.connect().unwrap()
    };
    let counter = format!("refused at {shift}");
    let refused = client(&plane.sidecars[WRONG], 1).add(NAMESPACE, &counter, 1, None).await;
    // It tries again until its deadline, which may cut an attempt off.
    assert!(matches!(refused, Err(Error::ClockSkew(_) | Error::OutcomeUnknown { .. })), "{shift} s: {refused:?}");
    let refused = plane.sidecars[WRONG].post(&add_path(&counter), "{\"delta\": \"1\"}").unwrap();
    assert!(refused.contains("CLOCK_SKEW"), "{shift} s: {refused}");
    let healthy = client(&plane.sidecars[0], 10);
    healthy.add(NAMESPACE, &counter, 4, None).await.unwrap();
    let (_, count) = convergence::read_accurately(healthy, NAMESPACE.to_owned(), counter).await;
    assert_eq!(count, 4, "{shift} s");
}

/// Whoever applies the schema with a clock by which there is much to do does none of it.
fn assert_operator_refuses(plane: &Plane, clock: &WrongClock) {
    let before = plane.keyspace.slices();
    let run = Run::of(plane.schema_application().envs(clock.environment()));
    assert!(!run.is_well() && run.errors().contains("clock"), "{}", run.errors());
    let states =
        |slices: &[tables::slices::Slice]| slices.iter().map(|slice| (slice.start, slice.state)).collect::<Vec<_>>();
    assert_eq!(states(&plane.keyspace.slices()), states(&before));
}

fn rollups(server: &Daemon) -> f64 {
    server.metric("tallyman_rollups_total").unwrap()
}

fn add_path(counter: &str) -> String {
    format!("/v1/namespaces/{NAMESPACE}/counters/{}:add", counter.replace(' ', "%20"))
}

/// Adds whose times the sidecar gives, each sent once.
fn add_without_tokens(sidecar: &Daemon, is_over: &AtomicBool) -> Ledger {
    let mut ledger = Ledger::default();
    for (counter, add) in (0..).flat_map(|counter| (0..ADDS_MAX).map(move |add| (format!("untimed {counter}"), add))) {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let answer = sidecar.post(&add_path(&counter), &format!("{{\"delta\": \"{}\"}}", delta(add)));
        let answer = answer.unwrap_or_default();
        let fate = if answer.starts_with("HTTP/1.1 200") {
            Fate::Acknowledged
        } else if answer.contains("CLOCK_SKEW") || answer.contains("EVENT_TIME_OUT_OF_RANGE") {
            Fate::Refused
        } else {
            Fate::Unknown
        };
        ledger.record(&counter, add, fate);
        std::thread::sleep(Duration::from_millis(10));
    }
    ledger
}

/// A checkpoint says that nothing before it can be acknowledged any more: it lies behind now by the limits.
fn assert_no_checkpoint_of_the_future(plane: &Plane, watched: &Watched) {
    let Settings { accept_limit, write_timeout, .. } = &plane.settings;
    for sight in &watched.sights {
        let lag = |now: SystemTime| {
            Duration::from_micros(u64::try_from((micros(now) - sight.last_rollup_ts).max(0)).unwrap())
        };
        let lag = lag(sight.at_wall_clock);
        assert!(lag > *accept_limit + *write_timeout, "{sight:?} lies only {lag:?} behind now");
    }
}
