//! The operator as the chart installs it by default: for all Kubernetes namespaces, with the rights that this takes. In a file of its own,
//! as it would look after what other tests have.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use serde_json::json;
use tallyman_e2e::control_plane::Corner;

#[path = "operator/chart.rs"]
#[expect(dead_code, reason = "of the helpers for other tests, only one is needed")]
mod chart;

const ACCOUNT: &str = "tallyman-operator";

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn namespaces_anywhere_live_and_end_within_the_rights_that_the_chart_gives_by_default() {
    let corner = Corner::new("wide").with_class();
    for object in
        chart::objects(&corner, &["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"], &[])
    {
        corner.apply(&object);
    }
    let mut operator = corner.operator("a");
    operator.unset("--watch-namespaces");
    operator.set_kubeconfig(corner.plane.cluster.service_account_kubeconfig(&corner.system(), ACCOUNT).unwrap());
    operator.start();

    corner.apply(&corner.counter_namespace("plays", json!({"deletionPolicy": "Delete"})));
    // Somewhere that nobody told the operator of.
    corner.kubectl(&["create", "namespace", "elsewhere"]);
    let mut elsewhere = corner.counter_namespace("likes", json!({"deletionPolicy": "Delete"}));
    elsewhere["metadata"]["namespace"] = json!("elsewhere");
    corner.apply(&elsewhere);
    corner.wait_until_ready("plays");
    let there = |arguments: &[&str]| corner.kubectl(&[&["-n", "elsewhere"], arguments].concat());
    there(&["wait", "--for=condition=Ready", "counternamespace/likes", "--timeout=120s"]);

    there(&["delete", "service", "likes-rollup"]);
    there(&["wait", "--for=create", "service/likes-rollup", "--timeout=120s"]);
    there(&["delete", "counternamespace", "likes", "--timeout=120s"]);
    corner.kubectl(&["-n", &corner.name, "delete", "counternamespace", "plays", "--timeout=120s"]);
    operator.terminate();

    let user = format!("system:serviceaccount:{}:{ACCOUNT}", corner.system());
    let events = corner.audit_log().all().unwrap().into_iter();
    let asked: Vec<_> = events.filter(|event| event.user == user).collect();
    assert!(asked.iter().any(|event| event.namespace == "elsewhere"), "it went by that account");
    let refused: Vec<_> = asked.iter().filter(|event| event.code == 403).map(|event| &event.uri).collect();
    assert!(refused.is_empty(), "{refused:?}");
}
