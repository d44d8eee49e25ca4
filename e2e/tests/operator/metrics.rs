//! The admin pages: what alerts and dashboard look at, and what Kubernetes asks.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tallyman_e2e::control_plane::{Corner, OperatorProcess};
use tallyman_e2e::packaging::text;

/// The operator's metrics that a text speaks of.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let of_operator = |word: &&str| word.starts_with("tallyman_operator_") || *word == "tallyman_counternamespaces";
    words.filter(of_operator).map(str::to_owned).collect()
}

fn leads(operator: &OperatorProcess) -> Option<()> {
    operator.page("/metrics").lines().any(|line| line == "tallyman_operator_leader 1").then_some(())
}

fn holder(corner: &Corner) -> Option<Value> {
    let lease = ["-n", &corner.system(), "get", "lease", "tallyman-operator", "-o", "json", "--ignore-not-found"];
    let lease: Value = serde_json::from_str(&corner.kubectl(&lease)).ok()?;
    Some(lease["spec"]["holderIdentity"].clone())
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_leader_tells_every_metric_that_alerts_and_dashboard_use() {
    let corner = Corner::new("metrics").with_class();
    let mut operator = corner.operator("a");
    operator.start();
    corner.apply(&corner.counter_namespace("plays", json!({"rollup": {"replicas": 1}})));
    corner.wait_until_ready("plays");
    let used = named(&(text("charts/tallyman/files/alerts.yaml") + &text("charts/tallyman/files/dashboard.json")));
    assert!(used.len() >= 6, "{used:?}");
    let missing = |page: &str| -> Vec<String> {
        let told: BTreeSet<&str> = page.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
        used.iter().filter(|metric| !told.contains(metric.as_str())).cloned().collect()
    };
    // Namespaces are counted every few seconds.
    corner.wait_for("namespaces that are counted as ready", || {
        let page = operator.page("/metrics");
        page.lines()
            .any(|line| {
                line.starts_with("tallyman_counternamespaces{")
                    && line.contains("condition=\"Ready\"")
                    && line.contains("status=\"True\"")
                    && line.ends_with(" 1")
            })
            .then_some(())
    });
    let page = operator.page("/metrics");
    assert_eq!(missing(&page), [""; 0], "{page}");
    assert!(operator.page("/readyz").contains("ok") && operator.page("/livez").contains("ok"));
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_leader_that_is_asked_to_end_gives_the_lease_up_and_the_next_need_not_wait_for_it() {
    let corner = Corner::new("metrics-handover").with_class();
    let (mut first, mut second) = (corner.operator("first"), corner.operator("second"));
    for operator in [&mut first, &mut second] {
        // Longer than a test waits for anything: nobody gets the lease by its running out.
        operator.set("--lease-duration", "10m");
    }
    first.start();
    corner.wait_for("the first to lead", || leads(&first));
    assert_eq!(holder(&corner), Some(json!("first")));
    first.terminate();
    assert_eq!(holder(&corner), Some(Value::Null));
    second.start();
    corner.wait_for("the second to lead", || leads(&second));
    assert_eq!(holder(&corner), Some(json!("second")));
    second.terminate();
}
