//! What can be changed is changed while an application counts.

use serde_json::{Value, json};
use tallyman_e2e::site::{Area, Site};

use crate::application::{counting, reader};
use crate::tally::Tally;

/// The document that sidecars and rollup servers read.
async fn document(area: &Area<'_>) -> Value {
    let map = area.get("ConfigMap", "tallyman-plays").await.unwrap();
    let text = map["data"].as_object().unwrap().values().next().unwrap().as_str().unwrap();
    serde_json::from_str(text).unwrap()
}

/// The queue settings in the document.
async fn queues(area: &Area<'_>) -> Value {
    let document = document(area).await;
    let parts = document["persistence_configuration"].as_array().unwrap();
    let rollup = parts.iter().find(|part| part["id"] == "COUNTER_ROLLUP").unwrap();
    rollup["config"]["eventual_counter_config"]["internal_config"]["queue_config"].clone()
}

pub async fn rollup_servers_and_settings_change_while_an_application_counts(site: &Site) {
    let _peace = site.in_peace().await;
    let area = site.area("changes").await;
    let rollup = json!({"replicas": 1, "numQueues": 2, "coalesce": "1s"});
    area.declare("plays", json!({"counterType": "Eventual", "dataset": "changes_plays", "rollup": rollup})).await;
    area.wait_until_ready("plays").await;
    let reader = reader(&area, "plays").await;
    let tally = Tally::begin(&area);
    counting(&area, "plays", 2).await;
    tally.wait_for_more(&area, 50).await;

    // As an autoscaler does.
    area.kubectl(&["scale", "counternamespace/plays", "--replicas=3"]);
    area.wait_until_ready("plays").await;
    assert_eq!(area.wait_for_rollout("StatefulSet", "plays-rollup").await, 3);
    tally.wait_for_more(&area, 50).await;

    // As GitOps does.
    area.patch("CounterNamespace", "plays", json!({"spec": {"rollup": {"replicas": 2}}})).await;
    area.wait_until_ready("plays").await;
    assert_eq!(area.wait_for_rollout("StatefulSet", "plays-rollup").await, 2);
    tally.wait_for_more(&area, 50).await;

    let (pods, before) = (area.uids("app.kubernetes.io/component=rollup").await, queues(&area).await);
    assert_eq!((&before["num_queues"], &before["coalesce_ms"]), (&json!(2), &json!(1_000)), "{before}");
    let settings = json!({"rollup": {"numQueues": 5, "coalesce": "500ms"}, "eventStore": {"bucketsPerId": 4, "bucketWidth": "5m"}});
    area.patch("CounterNamespace", "plays", json!({"spec": settings})).await;
    area.wait_until_ready("plays").await;
    let after = queues(&area).await;
    assert_eq!((&after["num_queues"], &after["coalesce_ms"]), (&json!(5), &json!(500)), "{after}");
    tally.wait_for_more(&area, 50).await;
    // They read it again; nobody is restarted for it.
    assert_eq!(area.uids("app.kubernetes.io/component=rollup").await, pods);
    let status = area.get("CounterNamespace", "plays").await.unwrap()["status"].clone();
    assert_eq!(status["plan"]["bucketsPerId"], 4, "{status}");

    tally.finish(&area).await.is_counted(&area, "plays", &reader).await;
}
