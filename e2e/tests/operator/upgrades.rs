//! Another release of the operator: what runs goes on as it is until somebody asks for more.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallyman_cluster::Event;
use tallyman_e2e::control_plane::Corner;

use crate::statuses::Story;

/// The pods' uids, by name.
fn pods(corner: &Corner) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    corner.list("pod").iter().map(|pod| (text(&pod["metadata"]["name"]), text(&pod["metadata"]["uid"]))).collect()
}

fn image(corner: &Corner, stateful_set: &str) -> Value {
    corner.get("statefulset", stateful_set).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

/// Waits until every pod of the StatefulSet runs this image.
fn wait_for_image(corner: &Corner, stateful_set: &str, image: &str) {
    corner.wait_for(&format!("{stateful_set} to run {image}"), || {
        let pods = corner.list("pod");
        let its: Vec<_> =
            pods.iter().filter(|pod| pod["metadata"]["name"].as_str().unwrap().starts_with(stateful_set)).collect();
        (!its.is_empty() && its.iter().all(|pod| pod["spec"]["containers"][0]["image"] == image)).then_some(())
    });
}

fn writes(corner: &Corner, since: tallyman_cluster::Mark) -> Vec<Event> {
    let is_ours = |event: &Event| event.namespace == corner.name || event.namespace == corner.system();
    let events = corner.audit_log().since(since).unwrap().into_iter();
    // kubectl, the controllers and the kubelet say who they are; the operator's client says nothing.
    let is_others = |event: &Event| {
        ["kubectl", "kube-", "standin"].iter().any(|word| event.user_agent.contains(word) || event.user.contains(word))
    };
    let is_lease = |event: &Event| event.resource == "leases";
    let others = ["system:"];
    events
        .filter(|event| event.is_write() && is_ours(event) && !is_others(event) && !is_lease(event))
        .filter(|event| !others.iter().any(|prefix| event.user.starts_with(prefix)))
        .collect()
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn another_release_restarts_no_pod_until_it_is_asked_to_follow() {
    let mut story = Story::begin("upgrades");
    story.corner.apply(&story.corner.counter_namespace("plays", json!({"cache": {"replicas": 1, "shards": 2}})));
    story.corner.wait_until_ready("plays");
    let (before, rollup) = (pods(&story.corner), image(&story.corner, "plays-rollup"));
    story.operator.terminate();
    story
        .operator
        .set("--rollup-image", "example.com/rollup:next")
        .set("--memcached-image", "example.com/memcached:next")
        .start();
    let corner = &story.corner;
    let told = corner.wait_for_condition("plays", "ImagesCurrent", "False", "UpdateAvailable");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("example.com/rollup:next") && message.contains("example.com/memcached:next"), "{message}");
    // A change that rolls nothing does not take the images either.
    corner.kubectl(&["-n", "upgrades", "scale", "cns/plays", "--replicas=3"]);
    corner.wait_until_ready("plays");
    assert_eq!(image(corner, "plays-rollup"), rollup);
    let now = pods(corner);
    assert!(before.iter().all(|pod| now.get(pod.0) == Some(pod.1)), "{before:?} {now:?}");
    // The class names one: that is asked for.
    corner.apply(&corner.class(json!({"images": {"rollup": "example.com/rollup:of-the-class"}})));
    wait_for_image(corner, "plays-rollup", "example.com/rollup:of-the-class");
    corner.wait_until_ready("plays");
    let now = pods(corner);
    let is_cache = |name: &str| name.contains("-cache-");
    assert!(before.iter().all(|(name, uid)| (now.get(name) == Some(uid)) == is_cache(name)), "{before:?} {now:?}");
    corner.kubectl(&["-n", "upgrades", "annotate", "cns", "plays", "tallyman.dev/follow-release=true"]);
    wait_for_image(corner, "plays-cache-0", "example.com/memcached:next");
    corner.wait_for_condition("plays", "ImagesCurrent", "True", "Current");
    corner.wait_until_ready("plays");
    let images = corner.get("counternamespace", "plays").unwrap()["status"]["images"].clone();
    assert_eq!(images["memcached"], "example.com/memcached:next");
    assert_eq!(images["rollup"], "example.com/rollup:of-the-class");
    story.end();
}

/// What a release that shaped pods in another way would have left.
fn shape_as_another_release(corner: &Corner, stateful_set: &str) {
    let patch = json!({"metadata": {"annotations": {"tallyman.dev/release": "0.0.1"}},
        "spec": {"template": {"spec": {"enableServiceLinks": true}}}});
    corner.kubectl(&[
        "-n",
        &corner.name,
        "patch",
        "statefulset",
        stateful_set,
        "--type=merge",
        "-p",
        &patch.to_string(),
    ]);
    corner.kubectl(&["-n", &corner.name, "rollout", "status", "statefulset", stateful_set, "--timeout=120s"]);
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn pods_that_an_earlier_release_shaped_stay_as_they_are_until_it_is_asked_to_follow() {
    let mut story = Story::begin("earlier");
    let rollup = json!({"replicas": 1});
    story.corner.apply(&story.corner.counter_namespace("plays", json!({"cache": {"replicas": 1}, "rollup": rollup})));
    story.corner.wait_until_ready("plays");
    story.operator.terminate();
    let sets = ["plays-rollup", "plays-cache-0"];
    for set in sets {
        shape_as_another_release(&story.corner, set);
    }
    let before = pods(&story.corner);
    story.operator.start();
    let corner = &story.corner;
    let told = corner.wait_for_condition("plays", "ImagesCurrent", "False", "UpdateAvailable");
    assert!(told["message"].as_str().unwrap().contains("plays-rollup"), "{told}");
    let links =
        |set: &str| corner.get("statefulset", set).unwrap()["spec"]["template"]["spec"]["enableServiceLinks"].clone();
    // A change that rolls nothing rolls nothing here either.
    corner.kubectl(&["-n", "earlier", "scale", "cns/plays", "--replicas=2"]);
    corner.wait_for("two rollup servers", || (pods(corner).len() == before.len() + 1).then_some(()));
    corner.wait_until_ready("plays");
    let now = pods(corner);
    assert!(before.iter().all(|pod| now.get(pod.0) == Some(pod.1)), "{before:?} {now:?}");
    assert_eq!(sets.map(links), [true, true]);

    corner.kubectl(&["-n", "earlier", "annotate", "cns", "plays", "tallyman.dev/follow-release=true"]);
    corner.wait_for_condition("plays", "ImagesCurrent", "True", "Current");
    corner.wait_until_ready("plays");
    assert_eq!(sets.map(links), [false, false]);
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn an_operator_that_is_started_again_writes_nothing_but_its_lease() {
    let mut story = Story::begin("restarts");
    let names = ["one", "two", "three"];
    for name in names {
        let common = json!({"dataset": "restarts_common", "cache": {"replicas": 1, "shards": 1}});
        story.corner.apply(&story.corner.counter_namespace(name, common));
    }
    let best_effort = json!({"counterType": "BestEffort"});
    story.corner.apply(&story.corner.counter_namespace("best", best_effort));
    for name in names.into_iter().chain(["best"]) {
        story.corner.wait_until_ready(name);
    }
    story.operator.terminate();
    let mark = story.corner.audit_log().mark().unwrap();
    story.operator.start();
    let operator = &story.operator;
    let reconciled = || {
        let page = operator.page("/metrics");
        let lines = page.lines().filter(|line| {
            line.starts_with("tallyman_operator_reconciles_total") && line.contains("kind=\"CounterNamespace\"")
        });
        let count: f64 = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        (count >= 8.0).then_some(())
    };
    story.corner.wait_for("the namespaces to be looked at again, twice", reconciled);
    let writes = writes(&story.corner, mark);
    assert!(writes.is_empty(), "{writes:#?}");
    // One that is deleted in Kubernetes while nobody looks comes back.
    story.operator.kill();
    story.corner.kubectl(&["-n", "restarts", "delete", "statefulset", "two-rollup"]);
    story.operator.start();
    let corner = &story.corner;
    corner.wait_for("what was deleted meanwhile to come back", || corner.get("statefulset", "two-rollup"));
    corner.wait_until_ready("two");
    story.end();
}
