//! The webhook as the API server asks it: by the chart's configurations, and with the certificate that the operator makes.

use std::process::Output;

use serde_json::{Value, json};
use tallyman_e2e::control_plane::{Corner, OperatorProcess, merge};

use crate::chart;

const IMAGE: &str = "registry.example/sidecar:1";

/// A corner whose operator is asked about its pods and CounterNamespaces.
fn start(name: &str) -> (Corner, OperatorProcess) {
    let corner = Corner::new(name).with_class();
    let mut operator = corner.operator("a");
    operator.set("--sidecar-image", IMAGE);
    chart::install_webhooks(&corner, &operator);
    operator.start();
    corner.wait_for("a webhook that can be reached", || operator.page("/readyz").contains("ok").then_some(()));
    corner.wait_for("an API server that trusts it", || chart::trusted(&corner));
    // It hears of its configuration a moment later than it has it.
    corner.wait_for("an API server that asks it", || {
        let output = apply(&corner, &pod("probe", json!({})), &["--dry-run=server", "-o", "json"]);
        String::from_utf8_lossy(&output.stdout).contains(IMAGE).then_some(())
    });
    (corner, operator)
}

fn pod(name: &str, more: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name,
            "labels": {"tallyman.dev/inject": "true"}, "annotations": {"tallyman.dev/counter-namespaces": "plays"}},
        "spec": {"containers": [{"name": "web", "image": "registry.example/web:1"}]}});
    merge(&mut pod, more);
    pod
}

fn apply(corner: &Corner, object: &Value, more: &[&str]) -> Output {
    let arguments = [&["-n", &corner.name, "apply", "--server-side", "-f", "-"], more].concat();
    corner.try_kubectl(&arguments, &object.to_string())
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_counter_namespace_that_does_not_go_with_another_is_refused_by_kubectl() {
    let (corner, mut operator) = start("webhook-validate");
    let here = |name: &str, spec: Value| {
        let mut spec = json!({"rollup": {"replicas": 1}, "dataset": "webhook_validate", "eventStore": spec});
        if name == "elsewhere" {
            merge(&mut spec, json!({"eventStore": null}));
        }
        corner.counter_namespace(name, spec)
    };
    corner.apply(&here("plays", json!({"acceptLimit": "5s"})));
    let disagrees = here("likes", json!({"acceptLimit": "7s"}));
    // What it judges by may be a second old.
    let told = corner.wait_for("a refusal", || {
        let output = apply(&corner, &disagrees, &["--dry-run=server"]);
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    });
    assert!(told.contains("must agree on how events are kept; plays says otherwise"), "{told}");
    assert!(told.contains("eventStore.acceptLimit 5s, not 7s"), "{told}");
    assert!(apply(&corner, &here("likes", json!({"acceptLimit": "5s"})), &[]).status.success());

    let no_class = corner.counter_namespace("views", json!({"className": "nobodys"}));
    let output = apply(&corner, &no_class, &[]);
    assert!(output.status.success(), "{output:?}");
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warning.contains("there is no CounterClass \"nobodys\""), "{warning}");
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_dataset_of_another_kubernetes_namespace_is_refused_by_kubectl() {
    let other = Corner::new("webhook-dataset-b");
    let corner = Corner::new("webhook-dataset").with_class();
    let mut operator = corner.operator("a");
    operator.set("--watch-namespaces", &format!("{},{}", corner.name, other.name)).set("--sidecar-image", IMAGE);
    chart::install_webhooks(&corner, &operator);
    operator.start();
    corner.wait_for("an API server that trusts the webhook", || chart::trusted(&corner));
    let mut taken = corner.counter_namespace("plays", json!({"rollup": {"replicas": 1}, "dataset": "webhook_taken"}));
    taken["metadata"]["namespace"] = json!(other.name);
    corner.apply(&taken);
    let mut claims = taken.clone();
    claims["metadata"]["namespace"] = json!(corner.name);
    let told = corner.wait_for("a refusal", || {
        let output = apply(&corner, &claims, &["--dry-run=server"]);
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    });
    let belongs = format!("\"webhook_taken\" belongs to CounterNamespace plays of Kubernetes namespace {}", other.name);
    assert!(told.contains("spec.dataset") && told.contains(&belongs), "{told}");
    operator.terminate();
}
