//! The client commands: what they print, and the exit codes that scripts rely on.

use crate::data::flights;
use crate::process::{run, tallyman};
use crate::server::{Home, PATIENT};

/// A port that nobody listens on: of all ports, the first.
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn counters_are_added_to_read_cleared_and_watched() {
    let home = Home::new(&[("credits", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    let added = server.run(&["add", "credits/alice/eur", "7"]).succeeded().json();
    assert_eq!((&added["namespace"], &added["counterName"]), (&"credits".into(), &"alice/eur".into()));
    assert!(added["idempotencyToken"]["generationTime"].is_string());
    let counted = server.run(&["add-and-get", "credits/alice/eur", "-9"]).succeeded().json();
    assert_eq!(counted["count"], "-2");
    let watched = server.run(&["watch", "credits/alice/eur", "--messages", "1"]).succeeded().json();
    assert_eq!(watched["count"], "-2");
    server.run(&["clear", "credits/alice/eur"]).succeeded();
    let read = server.run(&["get", "credits/alice/eur"]).succeeded().json();
    assert_eq!(read["count"], "0");
    assert!(read["asOf"].is_string());
    let text = run(&["get", "credits/alice/eur", "--addr", &server.address(), "--timeout", "60s"]).succeeded();
    assert_eq!(text.stdout, "0\n");
}

#[test]
fn the_same_token_and_generation_time_count_once() {
    let home = Home::new(&[("credits", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    let first = server.run(&["add", "credits/bob", "5", "--token", "order-1"]).succeeded().json();
    let time = first["idempotencyToken"]["generationTime"].as_str().unwrap().to_owned();
    let again = |delta| server.run(&["add", "credits/bob", delta, "--token", "order-1", "--generation-time", &time]);
    again("5").succeeded();
    assert_eq!(server.count("credits/bob"), 5);
    let reused = again("6");
    assert_eq!(reused.code, Some(1));
    assert_eq!(reused.error()["reason"], "TOKEN_REUSED");
    assert_eq!(server.count("credits/bob"), 5);
}

#[test]
fn a_result_that_cannot_be_written_is_said_to_be_one_and_never_a_panic() {
    let home = Home::new(&[("credits", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    for arguments in [
        vec!["completions", "bash"],
        vec!["add", "credits/carol", "1", "--timeout", "60s", "--addr", &server.address()],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let ended = tallyman().args(&arguments).stdout(full).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains("did what it was asked"), "{said}");
    }
    assert_eq!(server.count("credits/carol"), 1);
}

#[test]
fn a_refusal_ends_with_1_and_names_reason_and_remedy() {
    let home = Home::new(&[("credits", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    let unknown = server.run(&["get", "debits/alice"]);
    assert_eq!(unknown.code, Some(1));
    assert_eq!(unknown.error()["reason"], "NAMESPACE_UNKNOWN");
    assert!(unknown.error()["remedy"].as_str().unwrap().contains("CounterNamespace"));
    assert_eq!(unknown.stdout, "");
    let time = "2001-01-01T00:00:00Z";
    let old = server.run(&["add", "credits/alice", "--token", "t", "--generation-time", time]);
    assert_eq!((old.code, &old.error()["reason"]), (Some(1), &"EVENT_TIME_OUT_OF_RANGE".into()));
    let text = run(&["get", "debits/alice", "--addr", &server.address(), "--timeout", "60s"]);
    assert!(text.stderr.starts_with("error: ") && text.stderr.contains("(NAMESPACE_UNKNOWN)"), "{text:?}");
}

#[test]
fn without_a_server_nothing_is_counted_and_the_address_is_named() {
    let ended = run(&["-o", "json", "add", "credits/alice", "--addr", NOBODY, "--timeout", "60s"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.error()["remedy"].as_str().unwrap().contains(NOBODY), "{ended:?}");
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &["add"][..],
        &["add", "no-slash"],
        &["add", "n/c", "much"],
        &["get", "n/c", "--max-staleness", "soon"],
        &["replay", "--csv", "f.csv", "--namespace", "n"],
        &["replay", "--csv", "f.csv", "--namespace", "n", "--counter", "a", "--resend", "2"],
        &["frobnicate"],
    ] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn an_address_of_another_kind_is_refused_with_what_is_allowed() {
    let ended = run(&["get", "n/c", "--addr", "ftp://localhost"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("unix:/PATH"), "{ended:?}");
}

#[test]
fn version_help_and_completions_are_there() {
    let version = run(&["--version"]).succeeded().stdout;
    assert!(version.starts_with("tallyman ") && version.contains("commit "), "{version}");
    let help = run(&["--help"]).succeeded().stdout;
    for part in ["standalone", "replay", "Exit codes", "Examples"] {
        assert!(help.contains(part), "{help}");
    }
    assert!(run(&["completions", "bash"]).succeeded().stdout.contains("add-and-get"));
}

#[test]
fn a_replay_names_a_missing_column_and_the_line_of_a_wrong_number() {
    let home = Home::new(&[("credits", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    let flights = flights();
    let missing = server.run(&["replay", "--csv", &flights, "--namespace", "credits", "--counter", "{carrier}"]);
    assert_eq!(missing.code, Some(1));
    let message = missing.error()["message"].to_string();
    assert!(message.contains("carrier") && message.contains("destination"), "{message}");

    home.write("f.csv", "who,what\nalice,1\nalice,2\nalice,three\nalice,4\n");
    let file = home.argument("f.csv");
    let replay = |more: &[&str]| {
        let arguments = ["replay", "--csv", &file, "--namespace", "credits", "--counter", "{who}", "--delta", "what"];
        server.run(&[&arguments[..], more].concat())
    };
    let wrong = replay(&[]);
    assert_eq!(wrong.code, Some(1));
    let message = wrong.error()["message"].to_string();
    assert!(message.contains("line 4") && message.contains("three") && message.contains("what"), "{message}");
    assert_eq!((&wrong.json()["rows"], &wrong.json()["rowsAcknowledged"]), (&2.into(), &2.into()));
    assert_eq!(server.count("credits/alice"), 3);
    let rest = replay(&["--from", "4"]).succeeded();
    assert_eq!(rest.json()["rows"], 1);
    let first = replay(&["--limit", "1"]).succeeded();
    assert_eq!(first.json()["rows"], 1);
    assert_eq!(server.count("credits/alice"), 8);
}

#[test]
fn a_replay_that_is_refused_says_why_and_ends_with_1() {
    let home = Home::new(&[("credits", "Accurate", PATIENT)]);
    let server = home.start(&[]);
    let flights = flights();
    let ended = server.run(&["replay", "--csv", &flights, "--namespace", "debits", "--counter", "all"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report = ended.json();
    assert_eq!(report["addsAcknowledged"], 0);
    assert!(report["errors"]["NAMESPACE_UNKNOWN"]["count"].as_i64().unwrap() > 0, "{report}");
    assert!(report["stopped"].is_string());
}
