//! The shortest way: a class, a namespace, an operator.

use serde_json::json;
use tallyman_e2e::control_plane::Corner;

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_counter_namespace_becomes_ready_and_says_what_it_has() {
    let corner = Corner::new("first").with_class();
    let mut operator = corner.operator("a");
    operator.start();
    corner.apply(&corner.counter_namespace("plays", json!({})));
    corner.wait_until_ready("plays");
    let status = corner.get("counternamespace", "plays").unwrap()["status"].clone();
    assert_eq!(status["className"], "first");
    assert_eq!(status["rollup"]["replicas"], 2);
    assert_eq!(status["endpoints"]["rollup"].as_array().unwrap().len(), 2);
    assert!(status["slices"]["open"].as_i64().unwrap() >= 3, "{status}");
    operator.terminate();
}
