//! Kubernetes and Cassandra, operators in this process over clients of their own, and all that there is of a namespace.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Config};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use serde_json::{Value, json};
use tallyman_cluster::{Cluster, StandinKubelet};
use tallyman_counter::backend::cassandra::schema::tables::events_start;
use tallyman_counter::clock::SystemClock;
use tallyman_operator::build::Images;
use tallyman_operator::controller::{self, Parts, Settings};
use tallyman_operator::inject;
use tallyman_operator::leader::Leadership;
use tallyman_operator::metrics::Metrics;
use tallyman_operator::passwords::PasswordKey;
use tallyman_servers::{SUPERUSER, Set};
use tokio::task::JoinHandle;

use super::killed::{Fault, Killed};

/// Third bytes of the addresses of the cluster and of Cassandra.
const CLUSTER: u8 = 68;
const CASSANDRA: u8 = 69;
const SYSTEM: &str = "interrupted-system";
const NAMESPACE: &str = "interrupted";
const CLASS: &str = "interrupted";
const KINDS: &str = "counternamespaces,configmaps,secrets,services,statefulsets,poddisruptionbudgets,networkpolicies";
/// Decides about failures only.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
/// Longer than the test: who comes after a killed operator has its name, and so its lease.
const LEASE: Duration = Duration::from_secs(3600);

/// What there is beside operators.
pub struct Place {
    // Before the cluster, so that it ends first.
    _kubelet: StandinKubelet,
    cluster: Cluster,
    _cassandra: Set,
    session: Session,
}

impl Place {
    /// Starts it all, with a class and no namespace.
    pub async fn start() -> Self {
        let place = tallyman_servers::Place::in_memory("interrupted", CASSANDRA).unwrap();
        let cassandra = Set::start(&place, &tallyman_servers::Shape { auth: true, ..Default::default() }).unwrap();
        let place = tallyman_cluster::Place::named("interrupted", CLUSTER).unwrap();
        let cluster = Cluster::start(&place, &tallyman_cluster::Shape::default()).unwrap();
        let kubelet = StandinKubelet::start(&cluster).await.unwrap();
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/yaml");
        cluster.kubectl(&["apply", "--server-side", "-f", crds]).unwrap();
        for crd in ["crd/counternamespaces.tallyman.dev", "crd/counterclasses.tallyman.dev"] {
            cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", crd]).unwrap();
        }
        for namespace in [NAMESPACE, SYSTEM] {
            cluster.kubectl(&["create", "namespace", namespace]).unwrap();
        }
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "cassandra-admin", "namespace": SYSTEM},
            "stringData": {"username": SUPERUSER.0, "password": SUPERUSER.1}});
        cluster.apply(&secret.to_string()).unwrap();
        let points = cassandra.contact_points();
        let class = json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterClass", "metadata": {"name": CLASS},
            "spec": {"cassandra": {"contactPoints": [points], "localDatacenter": "dc1", "replication": {"dc1": 1},
                "adminCredentialsSecretName": "cassandra-admin"}}});
        cluster.apply(&class.to_string()).unwrap();
        let session = SessionBuilder::new()
            .known_node(&points)
            .user(SUPERUSER.0, SUPERUSER.1)
            .connection_timeout(PATIENCE)
            .build()
            .await
            .unwrap();
        Self { _kubelet: kubelet, cluster, _cassandra: cassandra, session }
    }

    async fn config(&self) -> Config {
        let kubeconfig = kube::config::Kubeconfig::read_from(self.cluster.kubeconfig()).unwrap();
        Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await.unwrap()
    }

    /// An operator over this client.
    fn operator(&self, client: Client) -> Operator {
        let leadership = Leadership::new(client.clone(), SYSTEM, "operator", LEASE);
        let reporter = Reporter { controller: "tallyman-operator".to_owned(), instance: None };
        let release = Images::of_release();
        let parts = Parts {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            settings: Settings {
                operator_namespace: SYSTEM.to_owned(),
                injection: inject::Settings::new(release.sidecar.clone()),
                release,
            },
            leadership: leadership.clone(),
            clock: Arc::new(SystemClock::new()),
            passwords: PasswordKey::new(&[7; 32]),
            metrics: Arc::new(Metrics::default()),
            watch_namespaces: vec![NAMESPACE.to_owned()],
        };
        Operator(tokio::spawn(async move {
            let leads = async {
                leadership.taken().await;
                controller::run(parts).await;
            };
            tokio::join!(leads, leadership.campaign());
        }))
    }

    /// An operator that nothing happens to.
    pub async fn undisturbed(&self) -> Operator {
        self.operator(Client::try_from(self.config().await).unwrap())
    }

    /// Runs an operator until it is killed, or until `is_done`. Whether it was killed.
    pub async fn killed_at(&self, fault: Fault, is_done: impl AsyncFn() -> bool) -> bool {
        let killed = Killed::at(fault);
        let operator = self.operator(killed.client(self.config().await));
        let was_killed = loop {
            let waited = tokio::time::timeout(POLL, killed.wait()).await;
            if waited.is_ok() {
                break true;
            }
            if is_done().await {
                break false;
            }
        };
        operator.end().await;
        was_killed
    }

    /// Creates a namespace with a dataset of its own, which is to go with it.
    pub fn create(&self, name: &str) {
        let object = json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterNamespace",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"counterType": "Eventual", "className": CLASS, "dataset": dataset(name),
                "deletionPolicy": "Delete", "rollup": {"replicas": 1}, "cache": {"replicas": 1}}});
        self.cluster.apply(&object.to_string()).unwrap();
    }

    /// Asks that a namespace be deleted.
    pub fn delete(&self, name: &str) {
        self.cluster.kubectl(&["-n", NAMESPACE, "delete", "counternamespace", name, "--wait=false"]).unwrap();
    }

    /// A namespace, where it is there.
    pub fn get(&self, name: &str) -> Option<Value> {
        let get = ["-n", NAMESPACE, "get", "counternamespace", name, "-o", "json", "--ignore-not-found"];
        serde_json::from_str(&self.cluster.kubectl(&get).unwrap()).ok()
    }

    /// Whether a namespace says so.
    pub fn is_ready(&self, name: &str) -> bool {
        let object = self.get(name).unwrap();
        let conditions = object["status"]["conditions"].as_array();
        conditions.is_some_and(|all| all.iter().any(|known| known["type"] == "Ready" && known["status"] == "True"))
    }

    /// Whether a namespace is there no more.
    pub fn is_gone(&self, name: &str) -> bool {
        self.get(name).is_none()
    }

    /// Everything of a namespace, in Kubernetes and in Cassandra, but for what differs from one to the next. Names are all of the
    /// same length, so that no text is cut elsewhere for one of them.
    pub async fn all_of(&self, name: &str) -> Value {
        let listed = self.cluster.kubectl(&["-n", NAMESPACE, "get", KINDS, "-o", "json"]).unwrap();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let all = listed["items"].as_array().unwrap().iter().filter(|object| is_of(object, name));
        let objects: Vec<Value> = all.map(|object| normalised(object.clone())).collect();
        let all = json!({"objects": objects, "tables": self.in_cassandra(name).await}).to_string();
        serde_json::from_str(&all.replace(name, "NAME")).unwrap()
    }

    /// The names of its keyspace, tables and role, and of what that may use. Tables of events by their order: their names are days.
    async fn in_cassandra(&self, name: &str) -> BTreeSet<String> {
        let dataset = dataset(name);
        let statements = [
            format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{dataset}'"),
            format!("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{dataset}'"),
            format!("SELECT role FROM system_auth.roles WHERE role = 'tallyman_{dataset}'"),
            format!("SELECT resource FROM system_auth.role_permissions WHERE role = 'tallyman_{dataset}'"),
        ];
        let mut found = BTreeSet::new();
        for statement in statements {
            let rows = self.session.query_unpaged(statement, ()).await.unwrap().into_rows_result().unwrap();
            found.extend(rows.rows::<(String,)>().unwrap().map(|row| row.unwrap().0));
        }
        let (events, mut found): (BTreeSet<_>, BTreeSet<_>) =
            found.into_iter().partition(|name| events_start(name).is_some());
        found.extend((1..=events.len()).map(|nth| format!("events, table {nth}")));
        found
    }

    /// Waits until a namespace is as `expected` says.
    pub async fn becomes(&self, name: &str, expected: &Value, fault: Fault) {
        if !wait_until(async || self.all_of(name).await == *expected).await {
            let (expected, found) = (lines(expected), lines(&self.all_of(name).await));
            let missing: Vec<_> = expected.difference(&found).collect();
            let more: Vec<_> = found.difference(&expected).collect();
            panic!("{fault:?}: it is not as if nothing had happened\nmissing: {missing:#?}\nmore: {more:#?}");
        }
    }

    /// Waits until a namespace is gone, and looks for what it has left.
    pub async fn goes(&self, name: &str, fault: Option<Fault>) {
        let is_gone = wait_until(async || self.is_gone(name)).await;
        assert!(is_gone, "{fault:?}: deletion does not come to its end: {:#}", self.get(name).unwrap());
        let mut left = self.in_cassandra(name).await;
        // An operator killed right after it has created a keyspace has not yet put down that it was the one: who comes next takes
        // the keyspace for somebody else's and leaves it, empty.
        if fault.is_some() {
            left.remove(&dataset(name));
        }
        assert_eq!(left, BTreeSet::new(), "{fault:?}: left in Cassandra");
    }
}

/// An operator. Aborted with its value.
pub struct Operator(JoinHandle<()>);

impl Operator {
    /// Ends it in the middle of whatever it does.
    pub async fn end(mut self) {
        self.0.abort();
        assert!((&mut self.0).await.unwrap_err().is_cancelled(), "it ended by itself");
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether it comes to be so.
pub async fn wait_until(is_so: impl AsyncFn() -> bool) -> bool {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(POLL).await;
        }
    });
    waited.await.is_ok()
}

fn dataset(name: &str) -> String {
    format!("interrupted_{name}")
}

fn is_of(object: &Value, name: &str) -> bool {
    let is_owner = |owner: &Value| owner["kind"] == "CounterNamespace" && owner["name"] == name;
    (object["kind"] == "CounterNamespace" && object["metadata"]["name"] == name)
        || object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.iter().any(is_owner))
}

/// Without what is numbered, dated or drawn by lot.
fn normalised(mut object: Value) -> Value {
    fn remove(from: Option<&mut Value>, names: &[&str]) {
        if let Some(fields) = from.and_then(Value::as_object_mut) {
            fields.retain(|name, _| !names.contains(&name.as_str()));
        }
    }
    remove(object.get_mut("metadata"), &["uid", "resourceVersion", "creationTimestamp", "managedFields"]);
    // A digest of all of the object, and the text that kubectl keeps.
    let text = ["tallyman.dev/applied", "kubectl.kubernetes.io/last-applied-configuration"];
    remove(object.pointer_mut("/metadata/annotations"), &text);
    for owner in object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
        remove(Some(owner), &["uid"]);
    }
    remove(object.get_mut("status"), &["currentRevision", "updateRevision"]);
    for condition in object.pointer_mut("/status/conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        remove(Some(condition), &["lastTransitionTime"]);
    }
    remove(object.pointer_mut("/status/slices"), &["oldestStart", "newestEnd"]);
    if object["kind"] == "Secret" {
        for value in object["data"].as_object_mut().unwrap().values_mut() {
            *value = json!("drawn by lot, or of the dataset alone");
        }
    }
    object
}

/// A value as lines of a path and a value each, for what differs to be shown.
fn lines(value: &Value) -> BTreeSet<String> {
    fn add(value: &Value, path: &str, lines: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| add(value, &format!("{path}.{name}"), lines));
            }
            Value::Array(values) => {
                values.iter().enumerate().for_each(|(index, value)| add(value, &format!("{path}[{index}]"), lines));
            }
            value => drop(lines.insert(format!("{path} = {value}"))),
        }
    }
    let mut all = BTreeSet::new();
    add(value, "", &mut all);
    all
}
