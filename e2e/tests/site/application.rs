//! Applications of scenarios: what an app team would write.

use serde_json::{Value, json};
use tallyman_e2e::site::{Area, Forward};

/// The image with `tallyman` in it, and nothing else.
pub const TALLYMAN: &str = concat!("ghcr.io/tallyman/tallyman:", env!("CARGO_PKG_VERSION"));
/// The example application in Go.
const COUNTING: &str = concat!("ghcr.io/tallyman/example-go:", env!("CARGO_PKG_VERSION"));
const BUSYBOX: &str = "busybox:1.37";

/// A pod's metadata that ask for a sidecar.
pub fn metadata(app: &str, counter_namespaces: &str) -> Value {
    json!({
        "labels": {"app": app, "tallyman.dev/inject": "true"},
        "annotations": {"tallyman.dev/counter-namespaces": counter_namespaces},
    })
}

/// What Pod Security's strictest standard asks of a pod.
pub fn pod_security() -> Value {
    json!({"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}})
}

/// What it asks of a container.
pub fn container_security() -> Value {
    json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
}

/// A Deployment of pods that each add 1 to the counter `total`, over and over, and say so; tokens make each add count once. Ready when
/// this returns.
pub async fn counting(area: &Area<'_>, counter_namespace: &str, replicas: u32) {
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let container = json!({"name": "main", "image": COUNTING, "securityContext": container_security(), "env": [
        variable("COUNTER_NAMESPACE", counter_namespace), variable("COUNTER_NAME", "total"), variable("INTERVAL", "0.05"),
    ]});
    area.apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "counting"}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "counting"}},
        "template": {
            "metadata": metadata("counting", counter_namespace),
            "spec": {"securityContext": pod_security(), "terminationGracePeriodSeconds": 60, "containers": [container]},
        },
    }}))
    .await;
    area.wait_for_rollout("Deployment", "counting").await;
}

/// A Deployment of one pod with a sidecar, through which a scenario reads counters. When this returns, it answers for all of them: a pod
/// is ready before its sidecar has reached the stores.
pub async fn reader(area: &Area<'_>, counter_namespaces: &str) -> Forward {
    let container = json!({"name": "main", "image": BUSYBOX, "command": ["sleep", "100000"], "securityContext": container_security()});
    area.apply(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "reader"}, "spec": {
        "selector": {"matchLabels": {"app": "reader"}},
        "template": {
            "metadata": metadata("reader", counter_namespaces),
            "spec": {"securityContext": pod_security(), "terminationGracePeriodSeconds": 1, "containers": [container]},
        },
    }}))
    .await;
    area.wait_for_rollout("Deployment", "reader").await;
    let forward = area.counters_of(&area.ready_pods("app=reader").await[0]).await;
    for name in counter_namespaces.split(',') {
        area.wait_for(&format!("a sidecar to serve {name}"), async || {
            let answer = forward.client().add(name, "nothing", 0, None).await;
            answer.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
    forward
}
