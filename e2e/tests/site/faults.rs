//! What counters stand on goes away for a while, and comes back.

use serde_json::json;
use tallyman_e2e::site::{CASSANDRA_NAMESPACE, SYSTEM, Site};

use crate::application::{container_security, counting, metadata, pod_security, reader};
use crate::tally::Tally;

pub async fn counts_are_right_after_pods_of_cache_and_rollup_are_deleted(site: &Site) {
    let area = site.area("pods-gone").await;
    let spec = json!({"counterType": "Eventual", "dataset": "pods_gone_plays", "cache": {"replicas": 1, "shards": 1},
        "rollup": {"replicas": 2, "coalesce": "1s"}, "eventStore": {"acceptLimit": "15s"}});
    area.declare("plays", spec).await;
    area.wait_until_ready("plays").await;
    let reader = reader(&area, "plays").await;
    let tally = Tally::begin(&area);
    counting(&area, "plays", 2).await;
    for (component, stateful_set) in [("cache", "plays-cache-0"), ("rollup", "plays-rollup")] {
        tally.wait_for_more(&area, 50).await;
        let labels = format!("app.kubernetes.io/component={component}");
        let pod = area.ready_pods(&labels).await.remove(0);
        area.delete("Pod", &pod).await;
        tally.wait_for_more(&area, 50).await;
        area.wait_for_rollout("StatefulSet", stateful_set).await;
    }
    area.wait_until_ready("plays").await;
    tally.finish(&area).await.is_counted(&area, "plays", &reader).await;
}

/// Restarts of Cassandra's container.
async fn restarts(site: &Site) -> i64 {
    let pod = site.existing(CASSANDRA_NAMESPACE).get("Pod", "cassandra-0").await.unwrap();
    pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap()
}

pub async fn counts_are_right_after_cassandra_restarts_and_the_operator_was_away(site: &Site) {
    let area = site.area("stores-gone").await;
    // Applications try an add again while Cassandra is away: it must not become too old meanwhile.
    let spec = json!({"counterType": "Accurate", "dataset": "stores_gone_plays", "rollup": {"replicas": 1},
        "eventStore": {"acceptLimit": "5m"}});
    area.declare("plays", spec.clone()).await;
    area.wait_until_ready("plays").await;
    let reader = reader(&area, "plays").await;
    let tally = Tally::begin(&area);
    counting(&area, "plays", 2).await;
    tally.wait_for_more(&area, 50).await;

    let (data, before) = (site.existing(CASSANDRA_NAMESPACE), restarts(site).await);
    data.exec("cassandra-0", "cassandra", &["sh", "-c", "kill 1"]).await;
    data.wait_for("Cassandra's container to be started again", async || {
        let now = restarts(site).await;
        if now > before { Ok(()) } else { Err(format!("{now} restarts")) }
    })
    .await;
    data.wait_for_rollout("StatefulSet", "cassandra").await;
    tally.wait_for_more(&area, 50).await;

    // Without an operator, counting goes on; what is asked for is done when it is back.
    let system = site.existing(SYSTEM);
    system.kubectl(&["scale", "deployment/tallyman-operator", "--replicas=0"]);
    let operators = "app.kubernetes.io/component=operator";
    system
        .wait_for("the operators to go", async || {
            let left = system.list("Pod", operators).await.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
        })
        .await;
    let mut more = spec;
    more["rollup"]["replicas"] = json!(2);
    area.declare("plays", more).await;
    tally.wait_for_more(&area, 50).await;
    let stateful_set = area.get("StatefulSet", "plays-rollup").await.unwrap();
    assert_eq!(stateful_set["spec"]["replicas"], 1, "there is nobody to change it");
    // A pod that asks for a sidecar does not start without one.
    let container =
        json!({"name": "main", "image": "busybox:1.37", "command": ["true"], "securityContext": container_security()});
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("late", "plays"),
        "spec": {"securityContext": pod_security(), "restartPolicy": "Never", "containers": [container]}});
    pod["metadata"]["name"] = json!("late");
    let refused = area.try_create(pod.clone()).await.unwrap_err();
    assert!(refused.contains("failed calling webhook"), "{refused}");

    system.kubectl(&["scale", "deployment/tallyman-operator", "--replicas=2"]);
    system.wait_for_rollout("Deployment", "tallyman-operator").await;
    area.wait_until_ready("plays").await;
    assert_eq!(area.wait_for_rollout("StatefulSet", "plays-rollup").await, 2);
    area.apply(pod).await;
    let late = area.get("Pod", "late").await.unwrap();
    assert_eq!(late["spec"]["initContainers"][0]["name"], "tallyman-sidecar", "{late}");
    tally.finish(&area).await.is_counted(&area, "plays", &reader).await;
}
