//! Namespaces from files, right and wrong ones, and servers that must not start.

use crate::process::eventually;
use crate::server::{Home, PATIENT, manifest};

#[test]
fn a_second_server_on_the_same_data_is_refused_and_names_the_first() {
    let home = Home::new(&[("plays", "Eventual", PATIENT)]);
    let server = home.start(&[]);
    let ended = home.start_in_vain(&["--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let message = ended.error()["message"].to_string();
    assert!(message.contains(&format!("process {}", server.pid())) && message.contains("data"), "{message}");
    server.run(&["add", "plays/a"]).succeeded();
}

#[test]
fn a_port_in_use_is_named() {
    let (home, other) = (Home::new(&[("plays", "Eventual", PATIENT)]), Home::new(&[("plays", "Eventual", PATIENT)]));
    let server = home.start(&[]);
    let ended = other.start_in_vain(&["--listen", server.listen()]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.error()["message"].as_str().unwrap().contains(server.listen()), "{ended:?}");
}

#[test]
fn an_address_that_others_can_reach_is_refused_before_anything_is_made_on_disk() {
    let home = Home::new(&[("plays", "Eventual", PATIENT)]);
    let ended = home.start_in_vain(&["--listen", "0.0.0.0:0"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.error()["message"].as_str().unwrap().contains("loopback"), "{ended:?}");
    assert!(!home.path("data").exists());
}

#[test]
fn a_wrong_file_is_reported_by_file_field_and_reason_and_the_right_ones_are_served() {
    let home = Home::new(&[("plays", "Eventual", PATIENT), ("wrong", "Sometimes", "")]);
    let server = home.start(&[]);
    let problem = server.banner["problems"][0].as_str().unwrap();
    for part in ["wrong.yaml", "spec.counterType", "Sometimes", "Eventual"] {
        assert!(problem.contains(part), "{part} is not in: {problem}");
    }
    let (status, page) = server.admin("/readyz");
    assert_eq!(status, 200, "{page}");
    assert!(page.contains("wrong.yaml") && page.contains("spec.counterType"), "{page}");
    server.run(&["add", "plays/a"]).succeeded();
    assert_eq!(server.run(&["get", "wrong/a"]).error()["reason"], "NAMESPACE_UNKNOWN");
}

#[test]
fn without_a_right_file_nothing_is_served() {
    let home = Home::new(&[("wrong", "Sometimes", "")]);
    let ended = home.start_in_vain(&["--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.error()["message"].as_str().unwrap().contains("spec.counterType"), "{ended:?}");
    let empty = Home::new(&[]);
    let ended = empty.start_in_vain(&["--listen", "127.0.0.1:0"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
}

#[test]
fn files_are_followed_as_they_come_change_break_and_go() {
    let home = Home::new(&[("plays", "Eventual", PATIENT)]);
    let server = home.start(&[]);
    assert_eq!(server.run(&["get", "likes/a"]).error()["reason"], "NAMESPACE_UNKNOWN");

    home.write("namespaces/likes.yaml", &manifest("likes", "Accurate", PATIENT));
    eventually("the new namespace is served", || (server.run(&["add", "likes/a", "3"]).code == Some(0)).then_some(()));
    assert_eq!(server.count("likes/a"), 3);

    home.write("namespaces/likes.yaml", "spec: {counterType: Sometimes}");
    eventually("the broken file is reported", || server.admin("/readyz").1.contains("likes.yaml").then_some(()));
    assert_eq!(server.admin("/readyz").0, 200);
    assert_eq!(server.count("likes/a"), 3);

    std::fs::remove_file(home.path("namespaces/likes.yaml")).unwrap();
    eventually("the namespace is gone", || (server.run(&["get", "likes/a"]).code == Some(1)).then_some(()));
    assert!(!server.admin("/readyz").1.contains("likes.yaml"));

    // Nobody asked for the counts to go.
    home.write("namespaces/likes.yaml", &manifest("likes", "Accurate", PATIENT));
    eventually("the namespace is back", || (server.run(&["get", "likes/a"]).code == Some(0)).then_some(()));
    assert_eq!(server.count("likes/a"), 3);
    assert_eq!(server.run(&["get", "plays/a"]).code, Some(0));
}

#[test]
fn options_come_from_the_command_line_then_the_environment_then_the_file() {
    let home = Home::new(&[("plays", "Eventual", PATIENT)]);
    let socket = home.argument("socket");
    home.write("options.yaml", &format!("unix-socket: {socket}\nlog-format: json\nlisten: 127.0.0.1:1\n"));
    let server = home.start(&["--config", "options.yaml"]);
    assert_ne!(server.listen(), "127.0.0.1:1");
    assert_eq!(server.banner["unixSocket"], socket.as_str());
    let address = format!("unix:{socket}");
    crate::process::run(&["add", "plays/a", "2", "--addr", &address]).succeeded();
    assert_eq!(server.count("plays/a"), 2);
    let log = server.log();
    assert!(log.lines().all(|line| line.starts_with('{')), "{log}");

    home.write("options.yaml", "listne: 127.0.0.1:1\n");
    let ended = home.start_in_vain(&["--config", &home.argument("options.yaml")]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("listne"), "{ended:?}");
}

#[test]
fn the_admin_pages_answer() {
    let home = Home::new(&[("plays", "Eventual", PATIENT)]);
    let server = home.start(&[]);
    assert_eq!(server.admin("/livez").0, 200);
    let (status, page) = server.admin("/readyz");
    assert_eq!(status, 200, "{page}");
    for check in ["store", "clock", "slices", "configuration"] {
        assert!(page.contains(&format!("[+]{check} ok")), "{page}");
    }
    server.run(&["add", "plays/a"]).succeeded();
    let (status, metrics) = server.admin("/metrics");
    assert_eq!(status, 200);
    for metric in ["tallyman_api_requests_total", "tallyman_rollups_total", "tallyman_clock_trusted"] {
        assert!(metrics.contains(metric), "{metric} is not in:\n{metrics}");
    }
}
