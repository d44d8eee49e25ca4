//! What can be changed is changed while an application counts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallyman_e2e::site::{Area, Site};

use crate::application::{counting, reader};
use crate::tally::Tally;

const ROLLUP_PODS: &str = "app.kubernetes.io/component=rollup";

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

/// How many queues each rollup server has by now, and how long it gathers in them, as it says itself.
async fn queues_in_use(area: &Area<'_>) -> Result<BTreeMap<String, (Value, Value)>, String> {
    let mut in_use = BTreeMap::new();
    for pod in area.ready_pods(ROLLUP_PODS).await {
        let log = area.log(&pod, "rollup").await?;
        let told = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut told = told.map(|line| line["fields"].clone()).filter(|fields| fields["message"] == "rolling up");
        let last = told.next_back().ok_or_else(|| format!("{pod} has said nothing of it"))?;
        in_use.insert(pod, (last["num_queues"].clone(), last["coalesce"].clone()));
    }
    Ok(in_use)
}

async fn all_use(area: &Area<'_>, num_queues: u16, coalesce: &str) {
    let wanted = (json!(num_queues), json!(coalesce));
    area.wait_for(&format!("rollup servers to use {wanted:?}"), async || {
        let in_use = queues_in_use(area).await?;
        if in_use.values().all(|settings| *settings == wanted) { Ok(()) } else { Err(format!("{in_use:?}")) }
    })
    .await;
}

pub async fn rollup_servers_and_settings_change_while_an_application_counts(site: &Site) {
    let area = site.area("changes").await;
    let rollup = json!({"replicas": 1, "numQueues": 2, "coalesce": "1s"});
    let spec = json!({"counterType": "Eventual", "dataset": "changes_plays", "rollup": rollup, "eventStore": {"acceptLimit": "15s"}});
    area.declare("plays", spec).await;
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

    let (instances, before) = (area.instances("").await, queues(&area).await);
    all_use(&area, 2, "1s").await;
    assert_eq!((&before["num_queues"], &before["coalesce_ms"]), (&json!(2), &json!(1_000)), "{before}");
    let settings = json!({"rollup": {"numQueues": 5, "coalesce": "500ms"}, "eventStore": {"bucketsPerId": 4, "bucketWidth": "5m"}});
    area.patch("CounterNamespace", "plays", json!({"spec": settings})).await;
    area.wait_until_ready("plays").await;
    let after = queues(&area).await;
    assert_eq!((&after["num_queues"], &after["coalesce_ms"]), (&json!(5), &json!(500)), "{after}");
    // They read it again, after as long as the kubelet takes to bring it; nobody is restarted for it.
    all_use(&area, 5, "500ms").await;
    tally.wait_for_more(&area, 50).await;
    assert_eq!(area.instances("").await, instances);
    let status = area.get("CounterNamespace", "plays").await.unwrap()["status"].clone();
    assert_eq!(status["plan"]["bucketsPerId"], 4, "{status}");

    tally.finish(&area).await.is_counted(&area, "plays", &reader).await;
}
