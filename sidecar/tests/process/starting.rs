//! What a sidecar starts with: a folder that is there, empty, missing, or has wrong documents in it.

use std::net::TcpListener;

use crate::documents::{best_effort, durable};
use crate::sidecar::{Home, eventually, run};

#[test]
fn it_serves_the_namespaces_of_its_folder_and_ends_well_with_sigterm() {
    let home = Home::new(&[("likes.json", best_effort("likes"))]);
    let sidecar = home.start(&["--name", "pod-7"]);
    sidecar.wait_until_ready();
    assert_eq!(sidecar.admin("/livez").status, 200);
    assert_eq!(sidecar.add("likes", "a").status, 200);
    assert_eq!(sidecar.get("likes", "a").json()["count"], "1");
    assert_eq!(sidecar.add("others", "a").reason(), "NAMESPACE_UNKNOWN");
    assert_eq!(sidecar.metric(r#"tallyman_namespace_accepting{namespace="likes"}"#), Some(1.0));
    assert_eq!(sidecar.metric("tallyman_configuration_problems"), Some(0.0));
    assert_eq!(sidecar.metric("tallyman_touched_dropped_total"), Some(0.0));
    assert_eq!(sidecar.terminate().code(), Some(0));
}

#[test]
fn without_a_namespace_it_is_alive_and_not_ready_until_one_comes() {
    let home = Home::new(&[]);
    let sidecar = home.start(&[]);
    assert_eq!(sidecar.admin("/livez").status, 200);
    let (failed, _) = sidecar.readiness("configuration");
    assert!(failed.unwrap().contains("no namespace is configured"));
    home.write("likes.json", &best_effort("likes"));
    sidecar.wait_until_ready();
    assert_eq!(sidecar.add("likes", "a").status, 200);
}

#[test]
fn a_folder_that_is_mounted_later_is_missed_by_name_until_then() {
    let home = Home::without_namespaces();
    let sidecar = home.start(&[]);
    let (failed, _) = sidecar.readiness("configuration");
    let failed = failed.unwrap();
    assert!(failed.contains("namespaces") && failed.contains("cannot be read"), "{failed}");
    home.create_namespaces();
    home.write("likes.json", &best_effort("likes"));
    sidecar.wait_until_ready();
}

#[test]
fn a_wrong_document_is_named_with_its_field_and_keeps_no_right_one_from_being_served() {
    let wrong = best_effort("views").replace("3600s", "an hour");
    let home = Home::new(&[("likes.json", best_effort("likes")), ("views.json", wrong)]);
    let sidecar = home.start(&[]);
    let (failed, _) = sidecar.readiness("configuration");
    let failed = failed.unwrap();
    assert!(failed.contains("views.json") && failed.contains("ttl") && failed.contains("an hour"), "{failed}");
    assert!(sidecar.admin("/readyz").body.contains("[-]configuration failed: "));
    assert_eq!(sidecar.add("likes", "a").status, 200);
    assert_eq!(sidecar.metric("tallyman_configuration_problems"), Some(1.0));
    home.write("views.json", &best_effort("views"));
    sidecar.wait_until_ready();
    assert_eq!(sidecar.add("views", "a").status, 200);
}

#[test]
fn a_namespace_whose_events_would_be_in_the_sidecar_itself_is_refused_with_the_reason() {
    for storage in ["MEMORY", "EMBEDDED"] {
        let document = durable("credits", "ACCURATE", &format!(r#"{{"type": "{storage}", "dataset": "d"}}"#));
        let home = Home::new(&[("credits.json", document), ("likes.json", best_effort("likes"))]);
        let sidecar = home.start(&[]);
        let (failed, _) = sidecar.readiness("namespace credits");
        let failed = failed.unwrap();
        assert!(failed.contains(storage) && failed.contains("CASSANDRA"), "{failed}");
        assert_eq!(sidecar.metric(r#"tallyman_namespace_accepting{namespace="credits"}"#), Some(0.0));
        home.remove("credits.json");
        sidecar.wait_until_ready();
        eventually("it is not missed any more", || (!sidecar.has_check("namespace credits")).then_some(()));
    }
}

#[test]
fn who_waits_for_it_is_told_once_it_is_live_whatever_its_stores_do() {
    let home = Home::new(&[]);
    let sidecar = home.start(&[]);
    let waited = run(&["wait", "--admin", &sidecar.admin]);
    assert!(waited.status.success() && waited.stderr.is_empty(), "{waited:?}");
}

#[test]
fn who_waits_for_one_that_does_not_come_is_told_what_was_missing() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    // Accepts connections, and answers nobody: not one that is live.
    let address = free.local_addr().unwrap().to_string();
    let silent = run(&["wait", "--admin", &address, "--timeout", "1"]);
    let text = String::from_utf8(silent.stderr).unwrap();
    assert_eq!(silent.status.code(), Some(1));
    assert!(text.contains("not live after 1 s") && text.contains(&address), "{text}");
    drop(free);
    let nobody = run(&["wait", "--admin", &address, "--timeout", "1"]);
    let text = String::from_utf8(nobody.stderr).unwrap();
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text.contains("not live after 1 s") && text.contains("refused"), "{text}");
}
