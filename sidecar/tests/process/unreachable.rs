//! A store where nobody is.

use crate::documents::best_effort;
use crate::keyspace::{Keyspace, accurate};
use crate::sidecar::{Home, eventually};

/// Nothing listens on port 1 of loopback.
const NOBODY: &str = "127.0.0.1:1";

fn nowhere() -> Keyspace {
    Keyspace {
        contact_point: NOBODY.to_owned(),
        local_datacenter: "dc1".to_owned(),
        dataset: "d".to_owned(),
        credentials_file: None,
    }
}

#[test]
fn a_namespace_whose_store_cannot_be_reached_says_so_to_clients_and_on_the_readiness_page() {
    let home = Home::new(&[("credits.json", accurate("credits", &nowhere())), ("likes.json", best_effort("likes"))]);
    let sidecar = home.start(&[]);
    assert_eq!(sidecar.add("likes", "a").status, 200, "the others are served");
    let failed = eventually("the reason is known", || {
        sidecar.readiness("namespace credits").0.filter(|reason| reason.contains(NOBODY))
    });
    assert!(failed.contains("dataset d"), "{failed}");
    for reply in [sidecar.add("credits", "a"), sidecar.get("credits", "a")] {
        assert_eq!((reply.status, reply.reason().as_str()), (503, "STORE_UNAVAILABLE"), "{reply:?}");
        assert!(reply.json()["message"].as_str().unwrap().contains(NOBODY), "{reply:?}");
    }
    assert!(!sidecar.is_ready());
    assert_eq!(sidecar.metric(r#"tallyman_namespace_accepting{namespace="credits"}"#), Some(0.0));
    assert_eq!(sidecar.metric(r#"tallyman_store_available{dataset="d"}"#), Some(0.0));
    assert_eq!(sidecar.terminate().code(), Some(0), "nothing holds it up");
}
