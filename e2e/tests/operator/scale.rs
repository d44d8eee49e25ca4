//! Two hundred CounterNamespaces at once, in shared datasets and with shared memcached servers; and then one change. What that
//! took is printed (`--nocapture`).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallyman_cluster::Event;
use tallyman_e2e::control_plane::Corner;
use tallyman_e2e::{PATIENCE, now_micros};

const NAMESPACES: usize = 200;
const DATASETS: usize = 20;
/// Of the operator, as it is released. A debug build is not held to it.
const RESIDENT_BYTES_MAX: u64 = 64 << 20;

fn seconds_since(micros: i64) -> f64 {
    (now_micros() - micros) as f64 / 1e6
}

fn ready(corner: &Corner) -> usize {
    let is_ready = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|known| known["type"] == "Ready" && known["status"] == "True"))
    };
    corner.list("counternamespaces").iter().filter(|object| is_ready(object)).count()
}

/// How often each resource was asked for what.
fn calls<'a>(events: impl Iterator<Item = &'a Event>) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for event in events {
        let subresource = if event.subresource.is_empty() { String::new() } else { format!("/{}", event.subresource) };
        *calls.entry(format!("{} {}{subresource}", event.verb, event.resource)).or_default() += 1;
    }
    calls
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn two_hundred_namespaces_applied_at_once_become_ready_and_one_change_is_followed() {
    let corner = Corner::new("scale");
    corner.create_admin_secret();
    corner.apply(&corner.class(json!({"memcached": {"replicas": [{"shards": ["cache-0:11211"]}]}})));
    let user = "scale-operator";
    let mut operator = corner.operator("a");
    operator.set_kubeconfig(corner.plane.cluster.user(user, &["system:masters"]).unwrap());
    operator.start();
    corner.wait_for("the operator", || operator.page("/readyz").contains("ok").then_some(()));
    let idle = operator.resident_bytes();
    let manifests: Vec<String> = (0..NAMESPACES)
        .map(|number| {
            let spec = json!({"dataset": format!("scale_{}", number % DATASETS), "rollup": {"replicas": 1}});
            corner.counter_namespace(&format!("n-{number}"), spec).to_string()
        })
        .collect();
    let (mark, started) = (corner.audit_log().mark().unwrap(), now_micros());
    let applied = corner.try_kubectl(&["apply", "--server-side", "-f", "-"], &manifests.join("\n---\n"));
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let applied_after = seconds_since(started);
    let deadline = started + 5 * i64::try_from(PATIENCE.as_micros()).unwrap();
    while ready(&corner) < NAMESPACES {
        assert!(now_micros() < deadline, "{} of {NAMESPACES} are ready", ready(&corner));
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    let all_ready_after = seconds_since(started);
    let events = corner.audit_log().since(mark).unwrap();
    let by_operator: Vec<_> = events.iter().filter(|event| event.user == user).collect();
    let resident = operator.resident_bytes();
    println!(
        "{NAMESPACES} namespaces in {DATASETS} datasets: applied after {applied_after:.1} s, all ready after {all_ready_after:.1} s"
    );
    for (call, count) in calls(by_operator.iter().copied()) {
        println!("{:8.2} per namespace: {call}", count as f64 / NAMESPACES as f64);
    }
    println!("{:8.2} calls per namespace in all", by_operator.len() as f64 / NAMESPACES as f64);
    let of_one = by_operator
        .iter()
        .filter(|event| event.name == "n-7" || event.name.ends_with("-n-7") || event.name.starts_with("n-7-"));
    println!("of n-7: {:?}", calls(of_one.copied()));
    println!("resident: {idle} bytes idle, {resident} bytes with all of them");

    let mut changed = corner.counter_namespace("n-7", json!({"dataset": "scale_7", "rollup": {"replicas": 1}}));
    changed["spec"]["rollup"]["coalesce"] = json!("7s");
    let document = || corner.get("configmap", "tallyman-n-7").unwrap()["data"]["n-7.json"].as_str().unwrap().to_owned();
    let before = document();
    corner.apply(&changed);
    let changed_at = now_micros();
    corner.wait_for("the change", || (document() != before).then_some(()));
    println!("one change is there {:.2} s after it was applied", seconds_since(changed_at));
    corner.wait_until_ready("n-7");
    println!("resident at the end: {} bytes", operator.resident_bytes());
    assert!(cfg!(debug_assertions) || operator.resident_bytes() < RESIDENT_BYTES_MAX, "{resident} bytes resident");
    operator.terminate();
}
