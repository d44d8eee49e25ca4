//! Who finds nothing to do writes nothing, as the API server's own account of its requests shows.

use serde_json::{Value, json};
use tallyman_cluster::{Event, Mark};
use tallyman_e2e::control_plane::{Corner, OperatorProcess};

const NAMESPACES: usize = 50;
const DATASETS: usize = 10;
const USER: &str = "quiet-operator";

fn name(number: usize) -> String {
    format!("n{number:02}")
}

/// What the operator has asked to be changed since `mark`, but for its Lease, and for other tests' classes, which every operator
/// looks at.
fn writes(corner: &Corner, mark: Mark) -> Vec<Event> {
    let of_others = |event: &Event| event.resource == "counterclasses" && event.name != corner.name;
    let events = corner.audit_log().since(mark).unwrap().into_iter();
    let writes = events.filter(|event| event.user == USER && event.is_write() && event.resource != "leases");
    writes.filter(|event| !of_others(event)).collect()
}

/// How many reconciles of CounterNamespaces have ended.
fn reconciles(operator: &OperatorProcess) -> u64 {
    let page = operator.page("/metrics");
    let of = page.lines().filter(|line| {
        line.starts_with("tallyman_operator_reconciles_total{") && line.contains("kind=\"CounterNamespace\"")
    });
    of.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Changes the class in a way that changes no object, and waits until every namespace was looked at for it.
fn have_all_reconciled(corner: &Corner, operator: &OperatorProcess, memory: &str) {
    let before = reconciles(operator);
    let defaults = json!({"sidecarResources": {"limits": {"memory": memory}}});
    corner.apply(&corner.class(json!({"memcached": shared_cache(), "defaults": defaults})));
    corner.wait_for("a reconcile of every namespace", || {
        (reconciles(operator) >= before + NAMESPACES as u64).then_some(())
    });
}

fn shared_cache() -> Value {
    json!({"replicas": [{"shards": ["memcached.cache:11211"]}]})
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn fifty_unchanged_namespaces_are_reconciled_again_without_a_single_write() {
    let corner = Corner::new("quiet");
    corner.create_admin_secret();
    corner.apply(&corner.class(json!({"memcached": shared_cache()})));
    let mut operator = corner.operator("a");
    operator.set_kubeconfig(corner.plane.cluster.user(USER, &["system:masters"]).unwrap());
    // So many schemas keep a small machine busy: not to be lost for it.
    operator.set("--lease-duration", "60s");
    operator.start();
    let all: Vec<_> = (0..NAMESPACES)
        .map(|number| {
            let dataset = format!("quiet_{}", number % DATASETS);
            corner.counter_namespace(&name(number), json!({"dataset": dataset, "rollup": {"replicas": 1}}))
        })
        .collect();
    corner.apply(&json!({"apiVersion": "v1", "kind": "List", "items": all}));
    let ready = || {
        let is_ready = |namespace: &&Value| {
            let conditions = namespace["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|known| known["type"] == "Ready" && known["status"] == "True")
        };
        corner.list("counternamespaces").iter().filter(is_ready).count()
    };
    for wanted in (1..=DATASETS).map(|dataset| dataset * NAMESPACES / DATASETS) {
        corner.wait_for(&format!("{wanted} namespaces that are ready"), || (ready() >= wanted).then_some(()));
    }

    // A process that knows nothing yet, and so looks at everything.
    operator.terminate();
    let mark = corner.audit_log().mark().unwrap();
    operator.start();
    corner.wait_for("every dataset looked at", || {
        let page = operator.page("/metrics");
        let known = page.lines().filter(|line| {
            line.starts_with("tallyman_operator_slices_ahead_seconds{") && line.contains("dataset=\"quiet_")
        });
        (known.count() == DATASETS).then_some(())
    });
    corner.wait_for("every namespace looked at", || (reconciles(&operator) >= NAMESPACES as u64).then_some(()));
    have_all_reconciled(&corner, &operator, "300Mi");
    let (of_class, others): (Vec<_>, Vec<_>) =
        writes(&corner, mark).into_iter().partition(|event| event.resource == "counterclasses");
    assert_eq!(others, []);
    // That the newest of its generations was seen.
    assert!(of_class.len() <= 1, "{of_class:?}");

    // One is changed: what is written is its own.
    let mark = corner.audit_log().mark().unwrap();
    let changed = json!({"dataset": "quiet_7", "rollup": {"replicas": 1, "coalesce": "7s"}});
    corner.apply(&corner.counter_namespace("n07", changed));
    corner.wait_until_ready("n07");
    have_all_reconciled(&corner, &operator, "310Mi");
    let writes = writes(&corner, mark);
    let is_its_own = |event: &Event| {
        let is_event = event.resource == "events";
        is_event || event.resource == "counterclasses" || event.name.split('-').any(|part| part == "n07")
    };
    assert!(writes.iter().any(|event| event.resource == "configmaps" && event.name == "tallyman-n07"), "{writes:?}");
    let others: Vec<_> = writes.iter().filter(|event| !is_its_own(event)).collect();
    assert!(others.is_empty(), "{others:?}");
    let events: Value =
        serde_json::from_str(&corner.kubectl(&["-n", &corner.name, "get", "events", "-o", "json"])).unwrap();
    let events = events["items"].as_array().unwrap().iter();
    let written: Vec<_> = writes.iter().filter(|event| event.resource == "events").map(|event| &*event.name).collect();
    for event in events.filter(|event| written.contains(&event["metadata"]["name"].as_str().unwrap())) {
        assert_eq!(event["involvedObject"]["name"], "n07", "{event}");
    }
    operator.terminate();
}
