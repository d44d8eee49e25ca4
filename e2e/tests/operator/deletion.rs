//! What becomes of the tables and of other namespaces' rows when a CounterNamespace is deleted, whatever state it is in.

use serde_json::{Value, json};
use tallyman_e2e::control_plane::Corner;
use tallyman_e2e::tables::Keyspace;
use tallyman_servers::SUPERUSER;

use crate::statuses::Story;

const FINALIZER: &str = "tallyman.dev/cassandra";

fn keyspace(corner: &Corner, name: &str) -> Keyspace {
    Keyspace { contact_points: corner.plane.cassandra.contact_points(), name: name.to_owned() }
}

/// Its tables; empty where there is no such keyspace.
fn tables(corner: &Corner, dataset: &str) -> Vec<String> {
    let query = format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{dataset}'");
    keyspace(corner, dataset).texts(SUPERUSER, &query).into_iter().flatten().collect()
}

fn exists(corner: &Corner, dataset: &str) -> bool {
    let query = format!("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{dataset}'");
    !keyspace(corner, dataset).texts(SUPERUSER, &query).is_empty()
}

fn has_role(corner: &Corner, dataset: &str) -> bool {
    let query = format!("SELECT role FROM system_auth.roles WHERE role = 'tallyman_{dataset}'");
    !keyspace(corner, dataset).texts(SUPERUSER, &query).is_empty()
}

/// A counter that was touched once, as a sidecar leaves it: its row, and an event in the first slice.
fn count_one(corner: &Corner, dataset: &str, namespace: &str) {
    let rollup = format!(
        "INSERT INTO {dataset}.rollup (namespace, counter_name, region, last_write_ts, first_write_ts) VALUES ('{namespace}', 'c', 'r', 1, 1)"
    );
    assert_eq!(keyspace(corner, dataset).tried(SUPERUSER, &[&rollup]), ["done"]);
}

/// The namespaces that have counters.
fn counted(corner: &Corner, dataset: &str) -> Vec<String> {
    let query = format!("SELECT DISTINCT namespace, counter_name FROM {dataset}.rollup");
    let rows = keyspace(corner, dataset).rows(SUPERUSER, &[&query]).remove(0);
    let mut namespaces: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| row["namespace"].as_str().unwrap().to_owned()).collect();
    namespaces.sort();
    namespaces
}

fn finalizers(corner: &Corner, name: &str) -> Vec<String> {
    let object = corner.get("counternamespace", name).unwrap();
    serde_json::from_value(object["metadata"].get("finalizers").cloned().unwrap_or_else(|| json!([]))).unwrap()
}

fn delete(corner: &Corner, names: &[&str]) {
    corner.kubectl(&[&["-n", &corner.name, "delete", "--wait=false", "counternamespace"], names].concat());
}

fn wait_until_gone(corner: &Corner, name: &str) {
    corner.wait_for(&format!("{name} to be gone"), || corner.get("counternamespace", name).is_none().then_some(()));
}

fn wait_for_objects_to_go(corner: &Corner, name: &str) {
    for kind in ["configmap", "secret", "service", "statefulset", "poddisruptionbudget", "networkpolicy"] {
        corner.wait_for(&format!("each {kind} of {name} to go"), || {
            let is_its = |object: &Value| object["metadata"]["labels"]["tallyman.dev/counter-namespace"] == name;
            (!corner.list(kind).iter().any(is_its)).then_some(())
        });
    }
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn retained_tables_stay_and_are_found_again_by_a_namespace_of_the_same_name() {
    let story = Story::begin("retains");
    let corner = &story.corner;
    let plays = corner.counter_namespace("plays", json!({}));
    corner.apply(&plays);
    corner.wait_until_ready("plays");
    assert_eq!(finalizers(corner, "plays"), Vec::<String>::new());
    count_one(corner, "retains_plays", "plays");
    delete(corner, &["plays"]);
    wait_until_gone(corner, "plays");
    wait_for_objects_to_go(corner, "plays");
    assert_eq!(counted(corner, "retains_plays"), ["plays"]);
    corner.apply(&plays);
    corner.wait_until_ready("plays");
    assert_eq!(counted(corner, "retains_plays"), ["plays"]);
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn deleting_one_of_a_dataset_takes_its_rows_and_the_last_takes_tables_keyspace_and_role() {
    let story = Story::begin("drops");
    let corner = &story.corner;
    let of =
        |name: &str| corner.counter_namespace(name, json!({"dataset": "drops_common", "deletionPolicy": "Delete"}));
    for name in ["one", "two"] {
        corner.apply(&of(name));
        corner.wait_until_ready(name);
        assert_eq!(finalizers(corner, name), [FINALIZER]);
        count_one(corner, "drops_common", name);
    }
    delete(corner, &["one"]);
    wait_until_gone(corner, "one");
    wait_for_objects_to_go(corner, "one");
    assert_eq!(counted(corner, "drops_common"), ["two"]);
    corner.wait_until_ready("two");
    // The name waits until nothing of before can be counted any more, and then starts from nothing.
    corner.apply(&of("one"));
    corner.wait_for_condition("one", "Ready", "False", "RemovedJustNow");
    assert_eq!(corner.condition("two", "Ready").unwrap()["status"], "True");
    corner.wait_until_ready("one");
    corner.wait_until_ready("two");
    assert_eq!(counted(corner, "drops_common"), ["two"]);
    // Both at once.
    delete(corner, &["one", "two"]);
    wait_until_gone(corner, "one");
    wait_until_gone(corner, "two");
    assert!(!exists(corner, "drops_common"));
    assert!(!has_role(corner, "drops_common"));
    corner.apply(&of("two"));
    corner.wait_until_ready("two");
    assert_eq!(counted(corner, "drops_common"), Vec::<String>::new());
    delete(corner, &["two"]);
    wait_until_gone(corner, "two");
    assert!(!exists(corner, "drops_common"));
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_keyspace_that_was_there_before_stays_and_so_do_a_retained_siblings_rows() {
    let story = Story::begin("spares");
    let corner = &story.corner;
    let create = "CREATE KEYSPACE spares_before WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 1}";
    let theirs = "CREATE TABLE spares_before.theirs (id int PRIMARY KEY)";
    assert_eq!(keyspace(corner, "spares_before").tried(SUPERUSER, &[create]), ["done"]);
    corner.apply(&corner.counter_namespace("plays", json!({"dataset": "spares_before", "deletionPolicy": "Delete"})));
    corner.wait_until_ready("plays");
    assert_eq!(keyspace(corner, "spares_before").tried(SUPERUSER, &[theirs]), ["done"]);
    delete(corner, &["plays"]);
    wait_until_gone(corner, "plays");
    assert_eq!(tables(corner, "spares_before"), ["theirs"]);

    // One that nobody has put anything into yet.
    let create = create.replace("spares_before", "spares_empty");
    assert_eq!(keyspace(corner, "spares_empty").tried(SUPERUSER, &[&create]), ["done"]);
    corner.apply(&corner.counter_namespace("likes", json!({"dataset": "spares_empty", "deletionPolicy": "Delete"})));
    corner.wait_until_ready("likes");
    delete(corner, &["likes"]);
    wait_until_gone(corner, "likes");
    assert!(exists(corner, "spares_empty") && tables(corner, "spares_empty").is_empty());

    let of = |name: &str, policy: &str| {
        corner.counter_namespace(name, json!({"dataset": "spares_common", "deletionPolicy": policy}))
    };
    for (name, policy) in [("kept", "Retain"), ("dropped", "Delete")] {
        corner.apply(&of(name, policy));
        corner.wait_until_ready(name);
        count_one(corner, "spares_common", name);
    }
    delete(corner, &["kept"]);
    wait_until_gone(corner, "kept");
    delete(corner, &["dropped"]);
    wait_until_gone(corner, "dropped");
    assert_eq!(counted(corner, "spares_common"), ["kept"]);
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn deletion_waits_for_a_cassandra_that_is_gone_and_ends_when_told_that_it_is_for_good() {
    let story = Story::begin("abandons");
    let corner = &story.corner;
    let named = |contact: Value| corner.class(json!({"cassandra": {"contactPoints": contact}}));
    for name in ["plays", "likes"] {
        corner.apply(&corner.counter_namespace(name, json!({"deletionPolicy": "Delete"})));
        corner.wait_until_ready(name);
    }
    corner.apply(&named(json!(["127.0.82.250:1"])));
    corner.wait_for_condition("plays", "Ready", "False", "CassandraUnavailable");
    delete(corner, &["plays", "likes"]);
    for name in ["plays", "likes"] {
        corner.wait_for(&format!("{name} to say what it waits for"), || {
            let ready = corner.condition(name, "Ready")?;
            let says = |word: &str| ready["message"].as_str().unwrap_or_default().contains(word);
            (ready["reason"] == "Deleting" && says("Cassandra") && says("tallyman.dev/abandon-cassandra")).then_some(())
        });
    }
    corner.kubectl(&["-n", "abandons", "annotate", "cns", "plays", "tallyman.dev/abandon-cassandra=true"]);
    wait_until_gone(corner, "plays");
    wait_for_objects_to_go(corner, "plays");
    assert!(exists(corner, "abandons_plays"));
    // The other one goes as soon as Cassandra is back.
    corner.apply(&corner.class(json!({})));
    wait_until_gone(corner, "likes");
    assert!(!exists(corner, "abandons_likes"));
    // Without the class, too.
    corner.apply(&corner.counter_namespace("views", json!({"deletionPolicy": "Delete"})));
    corner.wait_until_ready("views");
    corner.kubectl(&["delete", "counterclass", "abandons"]);
    corner.wait_for_condition("views", "Ready", "False", "ClassMissing");
    delete(corner, &["views"]);
    corner.wait_for("views to say what it waits for", || {
        let ready = corner.condition("views", "Ready")?;
        (ready["reason"] == "Deleting" && ready["message"].as_str()?.contains("no CounterClass abandons")).then_some(())
    });
    corner.kubectl(&["-n", "abandons", "annotate", "cns", "views", "tallyman.dev/abandon-cassandra=true"]);
    wait_until_gone(corner, "views");
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn the_finalizer_comes_and_goes_with_the_deletion_policy_and_spares_others() {
    let story = Story::begin("finalizers");
    let corner = &story.corner;
    let of = |policy: &str| corner.counter_namespace("plays", json!({"deletionPolicy": policy}));
    corner.apply(&of("Retain"));
    corner.wait_until_ready("plays");
    let theirs = json!({"metadata": {"finalizers": ["example.com/theirs"]}}).to_string();
    corner.kubectl(&["-n", "finalizers", "patch", "cns", "plays", "--type=merge", "-p", &theirs]);
    let wait_for = |wanted: &[&str]| {
        corner.wait_for(&format!("finalizers {wanted:?}"), || (finalizers(corner, "plays") == wanted).then_some(()));
    };
    corner.apply(&of("Delete"));
    wait_for(&["example.com/theirs", FINALIZER]);
    corner.apply(&of("Retain"));
    wait_for(&["example.com/theirs"]);
    corner.apply(&of("Delete"));
    wait_for(&["example.com/theirs", FINALIZER]);
    corner.wait_until_ready("plays");
    // Changed the mind in the last moment.
    corner.kubectl(&["delete", "counterclass", "finalizers"]);
    corner.wait_for_condition("plays", "Ready", "False", "ClassMissing");
    corner.apply(&of("Retain"));
    delete(corner, &["plays"]);
    wait_for(&["example.com/theirs"]);
    let none = json!({"metadata": {"finalizers": null}}).to_string();
    corner.kubectl(&["-n", "finalizers", "patch", "cns", "plays", "--type=merge", "-p", &none]);
    wait_until_gone(corner, "plays");
    assert!(exists(corner, "finalizers_plays"));
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn one_that_was_refused_takes_nothing_with_it() {
    let story = Story::begin("refused");
    let corner = &story.corner;
    let of = |name: &str, width: &str| {
        let spec =
            json!({"dataset": "refused_common", "deletionPolicy": "Delete", "eventStore": {"sliceWidth": width}});
        corner.counter_namespace(name, spec)
    };
    corner.apply(&of("older", "24h"));
    corner.wait_until_ready("older");
    count_one(corner, "refused_common", "older");
    corner.apply(&of("younger", "12h"));
    corner.wait_for_condition("younger", "Ready", "False", "DatasetDisagreement");
    delete(corner, &["younger"]);
    wait_until_gone(corner, "younger");
    assert_eq!(counted(corner, "refused_common"), ["older"]);
    // Refused later, what it had is its own, and goes.
    corner.apply(&of("younger", "24h"));
    corner.wait_until_ready("younger");
    count_one(corner, "refused_common", "younger");
    corner.apply(&of("younger", "12h"));
    corner.wait_for_condition("younger", "Ready", "False", "DatasetDisagreement");
    delete(corner, &["younger"]);
    wait_until_gone(corner, "younger");
    assert_eq!(counted(corner, "refused_common"), ["older"]);
    story.end();
}
