//! What the command line says and refuses.

use crate::documents::best_effort;
use crate::sidecar::{Home, request, run};

#[test]
fn help_and_version_say_what_it_is() {
    let help = run(&["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for option in
        ["--namespaces-dir", "--listen", "--admin", "--unix-socket", "--name", "--threads", "--log-format", "--config"]
    {
        assert!(text.contains(option), "{option}: {text}");
    }
    assert!(text.contains("wait "), "{text}");
    let help = String::from_utf8(run(&["wait", "--help"]).stdout).unwrap();
    assert!(help.contains("--admin") && help.contains("--timeout") && !help.contains("--namespaces-dir"), "{help}");
    let refused = run(&[]);
    let missing = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && missing.contains("--namespaces-dir"), "{missing}");
    let version = String::from_utf8(run(&["--version"]).stdout).unwrap();
    assert!(version.starts_with("tallyman-sidecar ") && version.contains("commit"), "{version}");
}

#[test]
fn the_api_is_served_on_loopback_only() {
    let refused = run(&["--namespaces-dir", "/nowhere", "--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0"]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text.contains("loopback only") && text.contains("0.0.0.0:0"), "{text}");
}

#[test]
fn a_name_that_no_token_can_begin_with_is_refused_with_what_is_allowed() {
    let refused = run(&["--namespaces-dir", "/nowhere", "--name", &"x".repeat(220)]);
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text.contains("at most 219 bytes"), "{text}");
}

#[test]
fn options_come_from_a_file_too_and_the_socket_is_served() {
    let home = Home::new(&[("likes.json", best_effort("likes"))]);
    let (socket, file) = (home.path("socket"), home.path("options.yaml"));
    std::fs::write(&file, format!("unix-socket: {}\n", socket.display())).unwrap();
    let sidecar = home.start(&["--config", file.to_str().unwrap()]);
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    assert_eq!(request(&sidecar.api, "GET", "/v1/namespaces/likes/counters/a", "").unwrap().status, 200);
}
