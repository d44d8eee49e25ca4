//! Documents that come, change and go while the sidecar serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::documents::{best_effort, durable};
use crate::sidecar::{Home, eventually, request};

#[test]
fn namespaces_come_and_go_with_their_documents() {
    let home = Home::new(&[("likes.json", best_effort("likes"))]);
    let sidecar = home.start(&[]);
    home.write("views.json", &best_effort("views"));
    eventually("the new namespace is served", || (sidecar.add("views", "a").status == 200).then_some(()));
    assert_eq!(sidecar.add("likes", "a").status, 200);
    home.remove("likes.json");
    eventually("the other one is not any more", || (sidecar.add("likes", "a").status == 404).then_some(()));
    assert!(sidecar.is_ready(), "what is served is what is configured");
}

#[test]
fn a_document_that_becomes_wrong_leaves_what_it_said_in_force_and_is_told() {
    let home = Home::new(&[("likes.json", best_effort("likes"))]);
    let sidecar = home.start(&[]);
    home.write("likes.json", "{}");
    let warning = eventually("it is told", || sidecar.readiness("configuration").1);
    assert!(warning.contains("likes.json") && warning.contains("stays in force"), "{warning}");
    assert!(sidecar.is_ready());
    assert_eq!(sidecar.add("likes", "a").status, 200);
    // Right as a document, and not for a sidecar.
    home.write("likes.json", &durable("likes", "EVENTUAL", r#"{"type": "MEMORY", "dataset": "d"}"#));
    let warning = eventually("it is told", || {
        sidecar.has_check("namespace likes").then(|| sidecar.readiness("namespace likes").1).flatten()
    });
    assert!(warning.contains("MEMORY") && warning.contains("stays in force"), "{warning}");
    assert!(sidecar.is_ready());
    assert_eq!(sidecar.get("likes", "a").json()["count"], "1");
}

#[test]
fn no_request_is_dropped_while_documents_change() {
    let home = Home::new(&[("likes.json", best_effort("likes"))]);
    let sidecar = home.start(&[]);
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, api) = (stop.clone(), sidecar.api.clone());
    let client = std::thread::spawn(move || {
        let mut counted = 0;
        while !stopped.load(Ordering::Relaxed) {
            let path = "/v1/namespaces/likes/counters/a:add";
            let reply = request(&api, "POST", path, r#"{"delta": 1}"#).unwrap();
            assert_eq!(reply.status, 200, "{reply:?}");
            counted += 1;
        }
        counted
    });
    for round in 0..3 {
        let ttl = format!("{}s", 3_600 + round);
        home.write("likes.json", &best_effort("likes").replace("3600s", &ttl));
        let other = format!("other-{round}");
        home.write("other.json", &best_effort(&other));
        eventually("the change is in force", || (sidecar.add(&other, "a").status == 200).then_some(()));
    }
    stop.store(true, Ordering::Relaxed);
    let counted: u32 = client.join().unwrap();
    assert_eq!(sidecar.get("likes", "a").json()["count"], counted.to_string());
}
