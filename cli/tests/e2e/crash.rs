//! Servers and clients that are killed or stopped in the middle of their work.

use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::data::{COUNTERS, flights, totals};
use crate::flights::counts;
use crate::process::{Ended, eventually, tallyman, text};
use crate::server::{Home, PATIENT, Server};

/// A replay in the background.
struct Replay(Child);

impl Replay {
    fn start(server: &Server, more: &[&str]) -> Self {
        let (flights, address) = (flights(), server.address());
        let child = tallyman()
            .args(["-o", "json", "replay", "--csv", &flights, "--namespace", "flights", "--addr", &address])
            .args(["--concurrency", "16"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Self(child.unwrap())
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn end(self) -> Ended {
        Ended::of(self.0.wait_with_output().unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn acknowledged_rows(journal: &Path) -> usize {
    text(journal).lines().filter(|line| line.starts_with("done")).count()
}

/// Waits until the replay is well under way, and makes sure that it is not over.
fn well_under_way(replay: &mut Replay, journal: &Path) {
    eventually("2,000 rows are acknowledged", || {
        assert!(replay.is_running(), "the replay ended before it could be disturbed");
        (acknowledged_rows(journal) >= 2_000).then_some(())
    });
}

#[tokio::test]
async fn a_replay_resumed_after_kill_9_of_the_server_is_counted_exactly_once() {
    let home = Home::new(&[("flights", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    let (journal, path) = (home.argument("journal"), home.path("journal"));
    let journaled = [&COUNTERS[..], &["--resend", "0.2", "--journal", &journal]].concat();
    let mut replay = Replay::start(&server, &journaled);
    well_under_way(&mut replay, &path);
    let listen = server.listen().to_owned();
    server.kill();
    let interrupted = replay.end();
    assert!(matches!(interrupted.code, Some(1 | 3)), "{interrupted:?}");
    assert!(interrupted.json()["stopped"].is_string());

    let server = home.start_on(&listen, &[]);
    let resumed =
        Replay::start(&server, &[&journaled[..], &["--timeout", "60s", "--resume", "--batch", "20"]].concat())
            .end()
            .succeeded();
    assert_eq!(resumed.json()["adds"], resumed.json()["addsAcknowledged"]);
    assert_eq!(acknowledged_rows(&path), 20_000);
    assert_eq!(counts(&server.client(), "flights").await, totals());
}

#[tokio::test]
async fn a_replay_goes_on_by_itself_when_the_server_comes_back_in_time() {
    let home = Home::new(&[("flights", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    let (journal, path) = (home.argument("journal"), home.path("journal"));
    let more = [&COUNTERS[..], &["--journal", &journal, "--timeout", "60s", "--batch", "12"]].concat();
    let mut replay = Replay::start(&server, &more);
    well_under_way(&mut replay, &path);
    let listen = server.listen().to_owned();
    server.kill();
    let server = home.start_on(&listen, &[]);
    replay.end().succeeded();
    assert_eq!(counts(&server.client(), "flights").await, totals());
}

#[tokio::test]
async fn a_replay_resumed_after_kill_9_of_the_client_is_counted_exactly_once() {
    let home = Home::new(&[("flights", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    let (journal, path) = (home.argument("journal"), home.path("journal"));
    let journaled = [&COUNTERS[..], &["--journal", &journal]].concat();
    let mut replay = Replay::start(&server, &[&journaled[..], &["--timeout", "60s"]].concat());
    well_under_way(&mut replay, &path);
    replay.kill();
    Replay::start(&server, &[&journaled[..], &["--timeout", "60s", "--resume", "--batch", "20"]].concat())
        .end()
        .succeeded();
    assert_eq!(counts(&server.client(), "flights").await, totals());
}

/// What a replay of +1 to one counter reported, and what the counter shows after a new start.
fn bounds(report: &Value, home: &Home) -> (i64, i64, i64) {
    let server = home.start(&[]);
    let number = |field: &str| report[field].as_i64().unwrap();
    (number("addsAcknowledged"), server.count("flights/all"), number("adds"))
}

#[test]
fn after_kill_9_without_retries_the_count_lies_between_what_was_acknowledged_and_what_was_sent() {
    let home = Home::new(&[("flights", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    let (journal, path) = (home.argument("journal"), home.path("journal"));
    let mut replay = Replay::start(&server, &["--counter", "all", "--no-retries", "--journal", &journal]);
    well_under_way(&mut replay, &path);
    server.kill();
    let (acknowledged, counted, sent) = bounds(&replay.end().json(), &home);
    assert!(acknowledged >= 2_000 && acknowledged <= counted && counted <= sent, "{acknowledged} {counted} {sent}");
}

#[test]
fn sigterm_under_load_ends_with_0_and_loses_nothing_that_was_acknowledged() {
    let home = Home::new(&[("flights", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    let (journal, path) = (home.argument("journal"), home.path("journal"));
    let mut replay = Replay::start(&server, &["--counter", "all", "--no-retries", "--journal", &journal]);
    well_under_way(&mut replay, &path);
    let status = server.terminate();
    assert_eq!(status.code(), Some(0), "{}", text(&home.path("log")));
    let (acknowledged, counted, sent) = bounds(&replay.end().json(), &home);
    assert!(acknowledged >= 2_000 && acknowledged <= counted && counted <= sent, "{acknowledged} {counted} {sent}");
}
