//! From a class that is missing to all that a CounterNamespace needs, what becomes of it when somebody changes or deletes it, and
//! when the namespace itself changes.

use serde_json::{Value, json};
use tallyman_e2e::control_plane::Corner;
use tallyman_e2e::tables::Keyspace;
use tallyman_servers::SUPERUSER;

use crate::statuses::{Story, verdicts};

const KINDS: [&str; 6] = ["configmap", "secret", "service", "statefulset", "poddisruptionbudget", "networkpolicy"];

/// Kind and name of everything that belongs to a CounterNamespace, by its owner reference.
fn owned(corner: &Corner, name: &str) -> Vec<(String, String)> {
    let uid = corner.get("counternamespace", name).unwrap()["metadata"]["uid"].clone();
    let mut found = Vec::new();
    for kind in KINDS {
        for object in corner.list(kind) {
            let owners = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
            if owners.iter().any(|owner| owner["uid"] == uid && owner["controller"] == true) {
                found.push((kind.to_owned(), object["metadata"]["name"].as_str().unwrap().to_owned()));
            }
        }
    }
    found.sort();
    found
}

fn patch(corner: &Corner, kind: &str, name: &str, patch: &Value) {
    corner.kubectl(&["-n", &corner.name, "patch", kind, name, "--type=merge", "-p", &patch.to_string()]);
}

/// Waits until an object has this value there, by JSON pointer.
fn wait_for_value(corner: &Corner, kind: &str, name: &str, pointer: &str, value: &Value) {
    corner.wait_for(&format!("{kind} {name}: {pointer} to be {value}"), || {
        (corner.get(kind, name)?.pointer(pointer) == Some(value)).then_some(())
    });
}

fn uid(corner: &Corner, kind: &str, name: &str) -> Option<Value> {
    Some(corner.get(kind, name)?["metadata"]["uid"].clone())
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_namespace_waits_for_its_class_and_then_for_the_classs_secret_and_says_so() {
    let story = Story::in_corner(Corner::new("waits"));
    let corner = &story.corner;
    corner.apply(&corner.counter_namespace("plays", json!({})));
    let ready = corner.wait_for_condition("plays", "Ready", "False", "ClassMissing");
    assert!(ready["message"].as_str().unwrap().contains("waits"), "{ready}");
    corner.wait_for_condition("plays", "Reconciling", "True", "ClassMissing");
    assert_eq!(verdicts(corner, "plays"), ("InProgress".to_owned(), "Progressing".to_owned()));
    assert_eq!(owned(corner, "plays"), []);
    let secret = json!({"cassandra": {"adminCredentialsSecretName": "only-of-waits"}});
    corner.apply(&corner.class(secret));
    let ready = corner.wait_for_condition("plays", "Ready", "False", "ClassNotReady");
    assert!(ready["message"].as_str().unwrap().contains("only-of-waits"), "{ready}");
    assert_eq!(verdicts(corner, "plays"), ("InProgress".to_owned(), "Progressing".to_owned()));
    let (user, password) = tallyman_servers::SUPERUSER;
    corner.apply(&json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "only-of-waits", "namespace": corner.system()}, "stringData": {"username": user, "password": password}}));
    corner.wait_until_ready("plays");
    // Gone again, it is said, and what runs stays.
    let before = owned(corner, "plays");
    corner.kubectl(&["delete", "counterclass", "waits"]);
    corner.wait_for_condition("plays", "Ready", "False", "ClassMissing");
    assert_eq!(owned(corner, "plays"), before);
    corner.apply(&corner.class(json!({"cassandra": {"adminCredentialsSecretName": "only-of-waits"}})));
    corner.wait_until_ready("plays");
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_namespace_without_a_class_takes_the_default_one_and_keeps_it() {
    let corner = Corner::new("defaults");
    corner.create_admin_secret();
    let story = Story::in_corner(corner);
    let corner = &story.corner;
    corner.apply(&corner.counter_namespace("plays", json!({"className": null})));
    corner.wait_for_condition("plays", "Ready", "False", "ClassMissing");
    assert_eq!(verdicts(corner, "plays"), ("InProgress".to_owned(), "Progressing".to_owned()));
    let named = |name: &str| {
        let mut class = corner.class(json!({"default": true}));
        class["metadata"]["name"] = json!(name);
        class
    };
    corner.apply(&named("default-one"));
    corner.wait_until_ready("plays");
    assert_eq!(corner.get("counternamespace", "plays").unwrap()["status"]["className"], "default-one");
    // With two, nobody guesses; who has one keeps it.
    corner.apply(&named("default-two"));
    corner.apply(&corner.counter_namespace("likes", json!({"className": null})));
    let ready = corner.wait_for_condition("likes", "Ready", "False", "ClassAmbiguous");
    let message = ready["message"].as_str().unwrap();
    assert!(message.contains("default-one") && message.contains("default-two"), "{message}");
    patch(corner, "counterclass", "default-one", &json!({"spec": {"default": false}}));
    corner.wait_until_ready("likes");
    assert_eq!(corner.get("counternamespace", "likes").unwrap()["status"]["className"], "default-two");
    assert_eq!(corner.get("counternamespace", "plays").unwrap()["status"]["className"], "default-one");
    corner.wait_until_ready("plays");
    corner.kubectl(&["delete", "counterclass", "default-one", "default-two"]);
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn everything_that_was_built_is_there_and_what_is_changed_or_deleted_comes_back() {
    let story = Story::begin("drift");
    let corner = &story.corner;
    corner.apply(&corner.counter_namespace("plays", json!({"cache": {"replicas": 1, "shards": 1}})));
    corner.wait_until_ready("plays");
    let expected = [
        ("configmap", "tallyman-plays"),
        ("networkpolicy", "plays-cache"),
        ("networkpolicy", "plays-rollup"),
        ("poddisruptionbudget", "plays-cache-0"),
        ("poddisruptionbudget", "plays-rollup"),
        ("secret", "plays.rollup"),
        ("secret", "plays.rollup-ca"),
        ("secret", "tallyman-plays"),
        ("service", "plays-cache-0"),
        ("service", "plays-rollup"),
        ("statefulset", "plays-cache-0"),
        ("statefulset", "plays-rollup"),
    ];
    let expected = expected.map(|(kind, name)| (kind.to_owned(), name.to_owned()));
    assert_eq!(owned(corner, "plays"), expected);
    for (kind, name) in &expected {
        let object = corner.get(kind, name).unwrap();
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/managed-by"], "tallyman-operator", "{kind} {name}");
        assert_eq!(labels["tallyman.dev/counter-namespace"], "plays", "{kind} {name}");
        assert_eq!(object["metadata"]["ownerReferences"][0]["blockOwnerDeletion"], true, "{kind} {name}");
    }
    let changes = [
        ("configmap", "tallyman-plays", "/data/plays.json", json!("{}")),
        ("statefulset", "plays-rollup", "/spec/replicas", json!(5)),
        ("statefulset", "plays-cache-0", "/spec/template/spec/containers/0/image", json!("somebody/elses:1")),
        ("service", "plays-rollup", "/spec/ports/0/port", json!(1)),
        ("poddisruptionbudget", "plays-rollup", "/spec/maxUnavailable", json!(2)),
        ("networkpolicy", "plays-rollup", "/spec/ingress", json!([])),
        ("secret", "tallyman-plays", "/data/drift_plays.credentials", json!("AAAA")),
        ("statefulset", "plays-rollup", "/metadata/labels/app.kubernetes.io~1component", json!("else")),
        ("configmap", "tallyman-plays", "/metadata/ownerReferences/0/controller", json!(false)),
    ];
    for (kind, name, pointer, value) in &changes {
        let before = corner.get(kind, name).unwrap().pointer(pointer).unwrap().clone();
        assert_ne!(before, *value, "{kind} {name}: {pointer}");
        let change = json!([{"op": "replace", "path": pointer, "value": value}]).to_string();
        corner.kubectl(&["-n", &corner.name, "patch", kind, name, "--type=json", "-p", &change]);
        wait_for_value(corner, kind, name, pointer, &before);
    }
    corner.wait_until_ready("plays");
    corner.wait_for("an Event that says what was repaired", || {
        let is_it =
            |event: &Value| event["reason"] == "Repaired" && event["note"].as_str().unwrap().contains("plays-rollup");
        corner.list("events.events.k8s.io").iter().any(is_it).then_some(())
    });
    for (kind, name) in &expected {
        let before = uid(corner, kind, name);
        corner.kubectl(&["-n", &corner.name, "delete", kind, name]);
        corner.wait_for(&format!("{kind} {name} to come back"), || {
            uid(corner, kind, name).filter(|now| Some(now) != before.as_ref())
        });
    }
    corner.wait_until_ready("plays");
    assert_eq!(owned(corner, "plays"), expected);
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn what_is_no_longer_asked_for_goes_and_scaling_goes_by_kubectl_scale() {
    let story = Story::begin("prunes");
    let corner = &story.corner;
    let caches =
        || -> Vec<_> { owned(corner, "plays").into_iter().filter(|(_, name)| name.contains("-cache")).collect() };
    corner.apply(&corner.counter_namespace("plays", json!({"cache": {"replicas": 2, "shards": 2}})));
    corner.wait_until_ready("plays");
    assert_eq!(caches().len(), 7, "{:?}", caches());
    corner.apply(&corner.counter_namespace("plays", json!({"cache": {"replicas": 1, "shards": 2}})));
    corner.wait_until_ready("plays");
    assert_eq!(caches().len(), 4, "{:?}", caches());
    corner.kubectl(&["-n", "prunes", "scale", "cns/plays", "--replicas=3"]);
    corner.wait_until_ready("plays");
    let status = corner.get("counternamespace", "plays").unwrap()["status"].clone();
    assert_eq!(status["rollup"]["replicas"], 3);
    assert_eq!(status["endpoints"]["rollup"].as_array().unwrap().len(), 3);
    let pods = corner.kubectl(&[
        "-n",
        "prunes",
        "get",
        "pods",
        "-o",
        "name",
        "-l",
        status["rollup"]["selector"].as_str().unwrap(),
    ]);
    assert_eq!(pods.lines().count(), 3, "{pods}");
    corner.apply(&corner.class(json!({"memcached": {"replicas": [{"shards": ["memcached.shared.svc:11211"]}]}})));
    corner.wait_for_condition("plays", "CacheReady", "True", "Shared");
    corner.wait_for("the cache's objects to go", || caches().is_empty().then_some(()));
    corner.wait_until_ready("plays");
    corner.apply(&corner.class(json!({})));
    corner.wait_for_condition("plays", "CacheReady", "True", "Available");
    corner.wait_until_ready("plays");
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn somebody_elses_object_of_the_same_name_is_not_touched_and_said() {
    let story = Story::begin("conflicts");
    let corner = &story.corner;
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tallyman-plays", "namespace": "conflicts"},
        "data": {"theirs": "yes"}});
    corner.apply(&theirs);
    let before = corner.get("configmap", "tallyman-plays").unwrap();
    corner.apply(&corner.counter_namespace("plays", json!({})));
    corner.apply(&corner.counter_namespace("likes", json!({})));
    let ready = corner.wait_for_condition("plays", "Ready", "False", "Conflict");
    assert!(ready["message"].as_str().unwrap().contains("ConfigMap tallyman-plays"), "{ready}");
    corner.wait_until_ready("likes");
    assert_eq!(corner.get("configmap", "tallyman-plays").unwrap(), before);
    corner.kubectl(&["-n", "conflicts", "delete", "configmap", "tallyman-plays"]);
    corner.wait_until_ready("plays");
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn one_that_this_release_cannot_read_says_so_and_stalls_nobody() {
    let story = Story::begin("unreadable");
    let corner = &story.corner;
    // As a newer release's schema would let it in; nobody else's resources have the field.
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/ofTheFuture";
    let newer = json!([{"op": "add", "path": field, "value": {"type": "string"}}]).to_string();
    corner.kubectl(&["patch", "crd", "counternamespaces.tallyman.dev", "--type=json", "-p", &newer]);
    corner.wait_for("the API server to take the newer schema", || {
        let of_the_future = corner.counter_namespace("odd", json!({"ofTheFuture": "x"}));
        let output = corner.try_kubectl(&["apply", "--server-side", "-f", "-"], &of_the_future.to_string());
        output.status.success().then_some(())
    });
    let ready = corner.wait_for_condition("odd", "Ready", "False", "Unreadable");
    assert!(ready["message"].as_str().unwrap().contains("ofTheFuture"), "{ready}");
    assert_eq!(verdicts(corner, "odd"), ("Failed".to_owned(), "Degraded".to_owned()));
    corner.apply(&corner.counter_namespace("plays", json!({})));
    corner.wait_until_ready("plays");
    // One that was read before, and changes to what cannot be.
    patch(corner, "counternamespace", "plays", &json!({"spec": {"ofTheFuture": "y"}}));
    corner.wait_for_condition("plays", "Ready", "False", "Unreadable");
    patch(corner, "counternamespace", "plays", &json!({"spec": {"ofTheFuture": "z"}}));
    corner.wait_for_condition("plays", "Stalled", "True", "Unreadable");
    patch(corner, "counternamespace", "plays", &json!({"spec": {"ofTheFuture": null}}));
    corner.wait_until_ready("plays");
    // What cannot be read may be of the dataset whose last namespace goes.
    corner.apply(&corner.counter_namespace("likes", json!({"deletionPolicy": "Delete", "rollup": {"replicas": 1}})));
    corner.wait_until_ready("likes");
    corner.kubectl(&["-n", "unreadable", "delete", "counternamespace", "likes", "--wait=false"]);
    let waits = corner.wait_for_condition("likes", "Ready", "False", "Deleting");
    assert!(waits["message"].as_str().unwrap().contains("CounterNamespace odd"), "{waits}");
    corner.kubectl(&["-n", "unreadable", "delete", "counternamespace", "odd"]);
    corner.wait_for("the end of the other", || corner.get("counternamespace", "likes").is_none().then_some(()));
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_dataset_that_is_gone_is_missed_and_made_anew_only_when_somebody_asks_for_it() {
    let mut story = Story::begin("missed");
    story.corner.apply(&story.corner.counter_namespace("plays", json!({"rollup": {"replicas": 1}})));
    story.corner.wait_until_ready("plays");
    let corner = &story.corner;
    let cassandra =
        Keyspace { contact_points: corner.plane.cassandra.contact_points(), name: "missed_plays".to_owned() };
    assert_eq!(cassandra.tried(SUPERUSER, &["DROP KEYSPACE missed_plays"]), ["done"]);
    // Who begins looks at everything.
    story.operator.terminate();
    story.operator.start();
    let refused = corner.wait_for_condition("plays", "Ready", "False", "SchemaRefused");
    assert!(refused["message"].as_str().unwrap().contains("provisioned before"), "{refused}");
    assert_eq!(verdicts(corner, "plays"), ("Failed".to_owned(), "Degraded".to_owned()));
    let exists = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = 'missed_plays'";
    assert!(cassandra.texts(SUPERUSER, exists).is_empty());
    // Sidecars are told of no change while nobody knows where it would lead them.
    let document = || corner.get("configmap", "tallyman-plays").unwrap()["data"].clone();
    let before = document();
    corner.apply(&corner.counter_namespace("plays", json!({"rollup": {"replicas": 1, "coalesce": "7s"}})));
    corner.wait_for_condition("plays", "Ready", "False", "SchemaRefused");
    assert_eq!(document(), before);
    corner.kubectl(&["-n", "missed", "annotate", "cns", "plays", "tallyman.dev/recreate-dataset=true"]);
    corner.wait_until_ready("plays");
    assert!(!cassandra.texts(SUPERUSER, exists).is_empty());
    corner.wait_for("the change of the document", || (document() != before).then_some(()));
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_paused_namespace_holds_changes_back_and_says_which_and_makes_them_when_resumed() {
    let story = Story::begin("pauses");
    let corner = &story.corner;
    corner.apply(&corner.counter_namespace("plays", json!({})));
    corner.wait_until_ready("plays");
    corner.apply(&corner.counter_namespace("plays", json!({"paused": true})));
    corner.wait_for_condition("plays", "Paused", "True", "Paused");
    corner.wait_until_ready("plays");
    corner.apply(&corner.counter_namespace("plays", json!({"paused": true, "rollup": {"replicas": 3}})));
    let ready = corner.wait_for_condition("plays", "Ready", "False", "Paused");
    assert!(ready["message"].as_str().unwrap().contains("StatefulSet plays-rollup"), "{ready}");
    assert_eq!(verdicts(corner, "plays").1, "Suspended");
    assert_eq!(corner.get("statefulset", "plays-rollup").unwrap()["spec"]["replicas"], 2);
    corner.wait_for_condition("plays", "SchemaReady", "True", "Provisioned");
    // The status is fresh: of pods that go, too; and nothing is repaired.
    corner.kubectl(&["-n", "pauses", "delete", "networkpolicy", "plays-rollup"]);
    corner.wait_for("the deleted object to be told of", || {
        let ready = corner.condition("plays", "Ready")?;
        ready["message"].as_str()?.contains("NetworkPolicy plays-rollup").then_some(())
    });
    assert!(corner.get("networkpolicy", "plays-rollup").is_none());
    corner.apply(&corner.counter_namespace("plays", json!({"paused": false, "rollup": {"replicas": 3}})));
    corner.wait_until_ready("plays");
    assert_eq!(corner.get("statefulset", "plays-rollup").unwrap()["spec"]["replicas"], 3);
    assert!(corner.get("networkpolicy", "plays-rollup").is_some());
    // One that is paused from its beginning gets nothing.
    corner.apply(&corner.counter_namespace("likes", json!({"paused": true})));
    corner.wait_for_condition("likes", "Ready", "False", "");
    assert_eq!(owned(corner, "likes"), []);
    corner.apply(&corner.counter_namespace("likes", json!({"paused": false})));
    corner.wait_until_ready("likes");
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn best_effort_counters_have_a_cache_and_nothing_else() {
    let story = Story::begin("besteffort");
    let corner = &story.corner;
    corner.apply(
        &corner.counter_namespace("hits", json!({"counterType": "BestEffort", "cache": {"replicas": 1, "shards": 1}})),
    );
    corner.wait_until_ready("hits");
    let kinds: Vec<_> = owned(corner, "hits");
    assert!(
        kinds.iter().all(|(kind, _)| kind != "secret") || kinds.iter().all(|(_, name)| !name.contains("rollup")),
        "{kinds:?}"
    );
    assert!(kinds.contains(&("statefulset".to_owned(), "hits-cache-0".to_owned())), "{kinds:?}");
    assert!(kinds.contains(&("configmap".to_owned(), "tallyman-hits".to_owned())), "{kinds:?}");
    let object = corner.get("counternamespace", "hits").unwrap();
    assert_eq!(object["status"]["slices"], Value::Null);
    assert_eq!(object["status"]["rollup"], Value::Null);
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn namespaces_share_a_dataset_where_they_agree_and_the_younger_says_where_not() {
    let story = Story::begin("shares");
    let corner = &story.corner;
    let of = |name: &str, width: &str| {
        corner.counter_namespace(name, json!({"dataset": "shares_common", "eventStore": {"sliceWidth": width}}))
    };
    corner.apply(&of("older", "24h"));
    corner.wait_until_ready("older");
    corner.apply(&of("same", "24h"));
    corner.wait_until_ready("same");
    corner.apply(&of("younger", "12h"));
    let ready = corner.wait_for_condition("younger", "Ready", "False", "DatasetDisagreement");
    let message = ready["message"].as_str().unwrap();
    assert!(message.contains("spec.eventStore.sliceWidth") && message.contains("older"), "{message}");
    assert_eq!(verdicts(corner, "younger"), ("Failed".to_owned(), "Degraded".to_owned()));
    corner.wait_until_ready("older");
    // It recovers when it agrees, and when the others do.
    corner.apply(&of("younger", "24h"));
    corner.wait_until_ready("younger");
    corner.apply(&of("younger", "12h"));
    corner.wait_for_condition("younger", "Ready", "False", "DatasetDisagreement");
    corner.apply(&of("older", "12h"));
    corner.apply(&of("same", "12h"));
    corner.wait_until_ready("younger");
    corner.wait_until_ready("same");
    corner.wait_until_ready("older");
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_dataset_belongs_to_one_kubernetes_namespace() {
    let corner = Corner::new("belongs").with_class();
    // Two operators that know nothing of each other: the owner that stands in the dataset decides.
    let elsewhere = Corner::new("elsewhere").with_class();
    let (story, other) = (Story::in_corner(corner), Story::in_corner(elsewhere));
    let first = story.corner.counter_namespace("plays", json!({"dataset": "belongs_to_one"}));
    story.corner.apply(&first);
    story.corner.wait_until_ready("plays");
    other.corner.apply(&other.corner.counter_namespace("plays", json!({"dataset": "belongs_to_one"})));
    let ready = other.corner.wait_for_condition("plays", "Ready", "False", "SchemaRefused");
    assert!(ready["message"].as_str().unwrap().contains("belongs"), "{ready}");
    assert_eq!(verdicts(&other.corner, "plays"), ("Failed".to_owned(), "Degraded".to_owned()));
    other.end();
    // One operator for both says it before Cassandra is asked.
    let mut both = story.corner.operator("both");
    let Story { corner, mut operator, .. } = story;
    operator.terminate();
    corner.kubectl(&["create", "namespace", "belongs-third"]);
    both.set("--watch-namespaces", "belongs,belongs-third").start();
    let mut third = first;
    third["metadata"]["namespace"] = json!("belongs-third");
    corner.apply(&third);
    corner.wait_for("the claim of the third to be refused", || {
        let text = corner.kubectl(&["-n", "belongs-third", "get", "cns", "plays", "-o", "json"]);
        text.contains("\"DatasetTaken\"").then_some(())
    });
    both.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_class_that_is_being_deleted_and_held_stalls_nobody() {
    let corner = Corner::new("held").with_class();
    let mut held = corner.class(json!({}));
    held["metadata"] = json!({"name": "held-by-somebody", "finalizers": ["example.com/theirs"]});
    corner.apply(&held);
    corner.kubectl(&["delete", "--wait=false", "counterclass", "held-by-somebody"]);
    // It starts when that is so already.
    let story = Story::in_corner(corner);
    let corner = &story.corner;
    corner.apply(&corner.counter_namespace("plays", json!({})));
    corner.wait_until_ready("plays");
    corner.apply(&corner.counter_namespace("likes", json!({"className": "held-by-somebody"})));
    corner.wait_until_ready("likes");
    let none = json!([{"op": "remove", "path": "/metadata/finalizers"}]).to_string();
    corner.kubectl(&["patch", "counterclass", "held-by-somebody", "--type=json", "-p", &none]);
    corner.wait_for_condition("likes", "Ready", "False", "ClassMissing");
    story.end();
}
