//! The operator with the rights that the chart gives it, and no others.

use serde_json::{Value, json};
use tallyman_e2e::control_plane::{Corner, OperatorProcess};

use crate::chart;

const ACCOUNT: &str = "tallyman-operator";

/// An operator that goes by the chart's ServiceAccount. Role and binding of the corner are the last two things that `change` sees.
fn operator(corner: &Corner, change: impl Fn(&mut Value)) -> OperatorProcess {
    let kinds = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    for mut object in chart::objects(corner, &kinds, &[&chart::watching(corner)]) {
        change(&mut object);
        corner.apply(&object);
    }
    let mut operator = corner.operator("a");
    operator.set_kubeconfig(corner.plane.cluster.service_account_kubeconfig(&corner.system(), ACCOUNT).unwrap());
    operator
}

/// What the operator was refused, but for Secrets of other tests' classes, which every operator looks at.
fn refusals(corner: &Corner) -> Vec<String> {
    let user = format!("system:serviceaccount:{}:{ACCOUNT}", corner.system());
    let of_others = |resource: &str, name: &str| resource == "secrets" && name != "cassandra-admin";
    let events = corner.audit_log().all().unwrap().into_iter();
    let refused = events.filter(|event| event.user == user && event.code == 403);
    let refused = refused.filter(|event| !of_others(&event.resource, &event.name) || event.namespace == corner.name);
    refused.map(|event| format!("{} {}", event.verb, event.uri)).collect()
}

/// The Role of the corner's Kubernetes namespace loses its rule for `resource`.
fn without(corner: &Corner, resource: &str) -> impl Fn(&mut Value) {
    let (place, resource) = (corner.name.clone(), resource.to_owned());
    move |object: &mut Value| {
        if object["kind"] == "Role" && object["metadata"]["namespace"] == *place {
            let rules = object["rules"].as_array_mut().unwrap();
            let before = rules.len();
            rules.retain(|rule| !rule["resources"].as_array().unwrap().iter().any(|known| *known == *resource));
            assert_eq!(rules.len(), before - 1, "rules for {resource}");
        }
    }
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_namespace_lives_and_ends_within_the_rights_that_the_chart_gives_for_watched_namespaces() {
    let corner = Corner::new("permissions").with_class();
    let mut operator = operator(&corner, |_| {});
    chart::install_webhooks(&corner, &operator);
    operator.start();
    corner.apply(&corner.counter_namespace("plays", json!({"deletionPolicy": "Delete"})));
    corner.wait_until_ready("plays");
    corner.wait_for("trust in the webhook", || chart::trusted(&corner));
    // Something to repair, something to prune, and something to tell.
    corner.kubectl(&["-n", &corner.name, "delete", "service", "plays-rollup"]);
    corner.wait_for("the Service again", || corner.get("service", "plays-rollup"));
    corner.apply(&corner.counter_namespace("plays", json!({"deletionPolicy": "Delete", "cache": {"replicas": 1}})));
    corner.wait_for("one cache", || corner.get("statefulset", "plays-cache-1").is_none().then_some(()));
    corner.wait_until_ready("plays");
    corner.wait_for("an Event", || {
        corner.list("events").into_iter().find(|event| event["involvedObject"]["kind"] == "CounterNamespace")
    });
    corner.kubectl(&["-n", &corner.name, "delete", "counternamespace", "plays", "--wait=false"]);
    corner.wait_for("its end", || corner.get("counternamespace", "plays").is_none().then_some(()));
    operator.terminate();
    assert_eq!(refusals(&corner), [""; 0]);
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_right_to_write_that_is_missing_is_named_in_the_status() {
    let corner = Corner::new("permissions-write").with_class();
    let mut operator = operator(&corner, |object| {
        for rule in object.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
            if rule["resources"] == json!(["networkpolicies"]) {
                rule["verbs"] = json!(["get", "list", "watch"]);
            }
        }
    });
    operator.start();
    corner.apply(&corner.counter_namespace("plays", json!({})));
    let refused = corner.wait_for_condition("plays", "Ready", "False", "ApplyRefused");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("NetworkPolicy") && message.contains("forbidden"), "{message}");
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_right_to_watch_that_is_missing_is_named_in_the_log() {
    let corner = Corner::new("permissions-watch").with_class();
    let mut operator = operator(&corner, without(&corner, "pods"));
    operator.start();
    corner.wait_for("what is missing, in the log", || {
        let log = operator.log();
        log.lines().any(|line| line.contains("pods") && line.contains("forbidden")).then_some(())
    });
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_kubernetes_namespace_that_may_not_be_watched_holds_up_no_other() {
    let corner = Corner::new("permissions-gone").with_class();
    let mut operator = operator(&corner, |_| {});
    operator.set("--watch-namespaces", &format!("{},permissions-gone-and-its-role-too", corner.name));
    operator.start();
    corner.apply(&corner.counter_namespace("plays", json!({"rollup": {"replicas": 1}})));
    corner.wait_until_ready("plays");
    corner.wait_for("its count among the metrics", || {
        operator.page("/metrics").contains("condition=\"Ready\",status=\"True\"} 1").then_some(())
    });
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_class_whose_secret_may_not_be_read_says_so_and_holds_up_no_other_class() {
    let corner = Corner::new("permissions-secret").with_class();
    let mut hidden = corner.class(json!({"cassandra": {"adminCredentialsSecretName": "hidden"}}));
    hidden["metadata"]["name"] = json!("permissions-hidden");
    corner.apply(&hidden);
    let mut operator = operator(&corner, |_| {});
    operator.start();
    corner.apply(&corner.counter_namespace("plays", json!({"rollup": {"replicas": 1}})));
    corner.wait_until_ready("plays");
    corner.apply(&corner.counter_namespace("likes", json!({"className": "permissions-hidden"})));
    let refused = corner.wait_for_condition("likes", "Ready", "False", "");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("Secret hidden") && message.contains("cannot be read"), "{message}");
    operator.terminate();
    corner.kubectl(&["delete", "counterclass", "permissions-hidden"]);
}
