//! The administrator's user name and password: changed, wrong, and right again.

use serde_json::{Value, json};
use tallyman_e2e::control_plane::Corner;
use tallyman_e2e::tables::Keyspace;
use tallyman_servers::SUPERUSER;

use crate::statuses::Story;

fn set_secret(corner: &Corner, username: &str, password: &str) {
    corner.apply(&json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": format!("of-{}", corner.name), "namespace": corner.system()},
        "stringData": {"username": username, "password": password}}));
}

fn with_own_secret(name: &str) -> Story {
    let corner = Corner::new(name);
    let cassandra = Keyspace { contact_points: corner.plane.cassandra.contact_points(), name: String::new() };
    let create = format!("CREATE ROLE admin_{name} WITH PASSWORD = 'first' AND LOGIN = true AND SUPERUSER = true");
    assert_eq!(cassandra.tried(SUPERUSER, &[&create]), ["done"]);
    set_secret(&corner, &format!("admin_{name}"), "first");
    corner.apply(&corner.class(json!({"cassandra": {"adminCredentialsSecretName": format!("of-{name}")}})));
    Story::in_corner(corner)
}

fn class_ready(corner: &Corner) -> Option<Value> {
    let class: Value =
        serde_json::from_str(&corner.kubectl(&["get", "counterclass", &corner.name, "-o", "json"])).unwrap();
    class["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready").cloned()
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_password_that_is_changed_in_cassandra_and_in_the_secret_is_taken() {
    let story = with_own_secret("rotates");
    let corner = &story.corner;
    corner.apply(&corner.counter_namespace("plays", json!({})));
    corner.wait_until_ready("plays");
    let cassandra = Keyspace { contact_points: corner.plane.cassandra.contact_points(), name: String::new() };
    assert_eq!(cassandra.tried(SUPERUSER, &["ALTER ROLE admin_rotates WITH PASSWORD = 'second'"]), ["done"]);
    set_secret(corner, "admin_rotates", "second");
    corner.apply(&corner.counter_namespace("likes", json!({})));
    corner.wait_until_ready("likes");
    corner.wait_until_ready("plays");
    // Another user altogether, while the old one is dropped.
    let create = "CREATE ROLE admin_rotates_2 WITH PASSWORD = 'third' AND LOGIN = true AND SUPERUSER = true";
    assert_eq!(cassandra.tried(SUPERUSER, &[create]), ["done"]);
    set_secret(corner, "admin_rotates_2", "third");
    corner.apply(&corner.counter_namespace("views", json!({})));
    corner.wait_until_ready("views");
    story.end();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_wrong_password_is_said_by_class_and_namespace_and_mended_by_the_right_one() {
    let story = with_own_secret("wrong");
    let corner = &story.corner;
    corner.apply(&corner.counter_namespace("plays", json!({})));
    corner.wait_until_ready("plays");
    let before = corner.get("secret", "tallyman-plays").unwrap()["data"].clone();
    set_secret(corner, "admin_wrong", "no-longer-right");
    corner.wait_for("the class to say what is wrong", || {
        let ready = class_ready(corner)?;
        (ready["status"] == "False" && ready["reason"] == "CassandraUnavailable").then_some(())
    });
    let ready = corner.wait_for_condition("plays", "Ready", "False", "CassandraUnavailable");
    assert!(!ready["message"].as_str().unwrap().contains("no-longer-right"), "{ready}");
    assert!(!story.operator.log().contains("no-longer-right"));
    assert_eq!(corner.get("secret", "tallyman-plays").unwrap()["data"], before);
    set_secret(corner, "admin_wrong", "first");
    corner.wait_until_ready("plays");
    corner.wait_for("the class to be ready", || (class_ready(corner)?["status"] == "True").then_some(()));
    story.end();
}
