//! Every status that a test's CounterNamespaces ever had, and what Argo CD's health check and kstatus make of each.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use tallyman_cluster::{Judge, Verdict};
use tallyman_e2e::control_plane::{ControlPlane, Corner, OperatorProcess};
use tallyman_e2e::packaging::root;

const PARTS: [&str; 3] = ["SchemaReady", "CacheReady", "RollupReady"];

/// A corner with a class and an operator that runs, all of whose statuses are recorded and judged at its end.
pub struct Story {
    pub corner: Corner,
    pub operator: OperatorProcess,
    record: Record,
}

impl Story {
    /// With a class.
    pub fn begin(name: &str) -> Self {
        Self::in_corner(Corner::new(name).with_class())
    }

    /// In a corner as it is.
    pub fn in_corner(corner: Corner) -> Self {
        let mut operator = corner.operator("a");
        operator.start();
        let record = Record::start(&corner);
        Self { corner, operator, record }
    }

    /// Ends the operator, and judges.
    pub fn end(mut self) {
        self.operator.terminate();
        self.record.judge(&self.corner);
    }
}

/// Recorded by `kubectl get --watch`, which is begun again when it ends, as watches do when a CRD changes.
struct Record {
    kubectl: Arc<Mutex<Option<Child>>>,
    reader: Option<JoinHandle<()>>,
    seen: Arc<Mutex<Vec<Value>>>,
}

impl Record {
    fn start(corner: &Corner) -> Self {
        let watch = |plane: &ControlPlane, namespace: &str| {
            let mut command = plane.cluster.kubectl_command();
            command.args(["-n", namespace, "get", "counternamespaces", "--watch", "-o", "json"]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
        };
        let (plane, namespace) = (Arc::clone(&corner.plane), corner.name.clone());
        let kubectl = Arc::new(Mutex::new(Some(watch(&plane, &namespace))));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (into, running) = (Arc::clone(&seen), Arc::clone(&kubectl));
        let reader = std::thread::spawn(move || {
            loop {
                // In a statement of its own: it is not to be locked while the output is read.
                let output = lock(&running).as_mut().map(|kubectl| kubectl.stdout.take().unwrap());
                let Some(output) = output else { return };
                let objects = serde_json::Deserializer::from_reader(output).into_iter::<Value>();
                // The last may be a Status, which says why the watch ends.
                let is_one = |object: &Value| object["kind"] == "CounterNamespace";
                for object in objects.map_while(Result::ok).filter(is_one) {
                    lock(&into).push(object);
                }
                if let Some(ended) = &mut *lock(&running) {
                    ended.wait().unwrap();
                    *ended = watch(&plane, &namespace);
                }
            }
        });
        Self { kubectl, reader: Some(reader), seen }
    }

    fn judge(mut self, corner: &Corner) {
        // What was written last has to have been seen.
        corner.wait_for("the last statuses to be recorded", || {
            let seen = lock(&self.seen);
            let is_seen = |object: &Value| {
                let is_it =
                    |known: &Value| known["metadata"]["resourceVersion"] == object["metadata"]["resourceVersion"];
                seen.iter().any(is_it)
            };
            corner.list("counternamespaces").iter().all(is_seen).then_some(())
        });
        self.stop();
        let seen = std::mem::take(&mut *lock(&self.seen));
        judge(&seen);
    }

    fn stop(&mut self) {
        if let Some(mut kubectl) = lock(&self.kubectl).take() {
            // It may have ended by itself.
            let _ = kubectl.kill();
            let _ = kubectl.wait();
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Record {
    fn drop(&mut self) {
        self.stop();
    }
}

fn judge(objects: &[Value]) {
    assert!(!objects.is_empty(), "no status was recorded");
    let judge = Judge::new().unwrap();
    let kstatus = judge.kstatus(objects).unwrap();
    let argo = judge.argo(&root().join("examples/gitops/argocd/health-counternamespace.lua"), objects).unwrap();
    for (object, verdicts) in objects.iter().zip(kstatus.iter().zip(&argo)) {
        judge_one(object, verdicts);
    }
}

fn judge_one(object: &Value, (kstatus, argo): (&Verdict, &Verdict)) {
    let shown = || format!("kstatus {kstatus:?}, Argo CD {argo:?}:\n{}", serde_json::to_string_pretty(object).unwrap());
    let is_deleted = object["metadata"]["deletionTimestamp"].is_string();
    let conditions = conditions(object);
    let is = |kind: &str| conditions.get(kind).is_some_and(|status| status == "True");
    let is_current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
    let is_ready = is_current && is("Ready") && !is_deleted;
    let is_paused = is("Paused");
    if kstatus.health == "Current" || argo.health == "Healthy" {
        assert!(is_ready, "healthy before it is ready: {}", shown());
    }
    if is_ready {
        assert!(PARTS.iter().all(|part| is(part)), "ready before its parts are: {}", shown());
        assert_eq!(kstatus.health, "Current", "stuck though it is ready: {}", shown());
        let healthy = if is_paused { "Suspended" } else { "Healthy" };
        assert_eq!(argo.health, healthy, "stuck though it is ready: {}", shown());
    }
    if is_current && !is_deleted && is("Stalled") {
        assert_eq!((&*kstatus.health, &*argo.health), ("Failed", "Degraded"), "{}", shown());
    }
}

/// The statuses of those conditions that speak of the newest generation.
fn conditions(object: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let newest = all.iter().filter(|condition| condition["observedGeneration"] == object["metadata"]["generation"]);
    newest.map(|condition| (text(&condition["type"]), text(&condition["status"]))).collect()
}

/// What kstatus and Argo CD say of a CounterNamespace now.
pub fn verdicts(corner: &Corner, name: &str) -> (String, String) {
    let object = [corner.get("counternamespace", name).unwrap()];
    let judge = Judge::new().unwrap();
    let kstatus = judge.kstatus(&object).unwrap().remove(0).health;
    let argo = judge.argo(&root().join("examples/gitops/argocd/health-counternamespace.lua"), &object).unwrap();
    (kstatus, argo[0].health.clone())
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn nothing_is_healthy_while_pods_are_not_ready_and_all_is_once_they_are() {
    let story = Story::begin("statuses");
    let corner = &story.corner;
    let kubelet = &corner.plane.kubelet;
    let labels = |component| [("tallyman.dev/counter-namespace", "slowly"), ("app.kubernetes.io/component", component)];
    kubelet.set_ready(&labels("rollup"), false);
    kubelet.set_ready(&labels("cache"), false);
    corner.apply(&corner.counter_namespace("slowly", json!({})));
    corner.wait_for_condition("slowly", "Ready", "False", "CacheRollout");
    assert_eq!(verdicts(corner, "slowly"), ("InProgress".to_owned(), "Progressing".to_owned()));
    kubelet.set_ready(&labels("cache"), true);
    corner.wait_for_condition("slowly", "Ready", "False", "RollupRollout");
    assert_eq!(verdicts(corner, "slowly"), ("InProgress".to_owned(), "Progressing".to_owned()));
    kubelet.set_ready(&labels("rollup"), true);
    corner.wait_until_ready("slowly");
    assert_eq!(verdicts(corner, "slowly"), ("Current".to_owned(), "Healthy".to_owned()));
    // A pod that fails later.
    kubelet.set_ready(&labels("rollup"), false);
    corner.wait_for_condition("slowly", "RollupReady", "False", "RollupRollout");
    assert_eq!(verdicts(corner, "slowly").0, "InProgress");
    kubelet.set_ready(&labels("rollup"), true);
    corner.wait_until_ready("slowly");
    story.end();
}
