//! A real Kubernetes control plane and a real Cassandra that asks for passwords, with operators as processes beside them: shared by
//! the tests of a binary, each of which has Kubernetes namespaces, a class and operators of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};
use tallyman_cluster::{AuditLog, Cluster, StandinKubelet, Version};
use tallyman_servers::{Pid, SUPERUSER, Set};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::binaries::{Binaries, command};
use crate::packaging::root;
use crate::{PATIENCE, now};

const POLL: Duration = Duration::from_millis(100);
const LOG_LINES_SHOWN: usize = 40;
/// The Kubernetes version to test on: `1.34` or `1.36`.
const VERSION: &str = "TALLYMAN_KUBERNETES";
/// Third bytes of the addresses of the cluster and of Cassandra, and second byte of those of operators.
const CLUSTER: u8 = 63;
const CASSANDRA: u8 = 64;
const OPERATORS: u8 = 63;

/// What the tests of a binary share; it ends with the last that uses it.
pub struct ControlPlane {
    /// Pods without a node are ready by it. Before the cluster, so that it ends first.
    pub kubelet: StandinKubelet,
    /// Runs the stand-in.
    _runtime: Runtime,
    /// Kubernetes.
    pub cluster: Cluster,
    /// Cassandra, one node, with passwords.
    pub cassandra: Set,
}

impl ControlPlane {
    /// The one that runs, or a new one, with the resource types installed.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<ControlPlane>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start());
        *shared = Arc::downgrade(&started);
        started
    }

    fn start() -> Self {
        let version: Version = std::env::var(VERSION).map_or_else(|_| Version::default(), |text| text.parse().unwrap());
        let cassandra = tallyman_servers::Place::in_memory("e2e-operator", CASSANDRA).unwrap();
        let cassandra =
            Set::start(&cassandra, &tallyman_servers::Shape { nodes: 1, auth: true, ..Default::default() }).unwrap();
        let place = tallyman_cluster::Place::named("e2e-operator", CLUSTER).unwrap();
        let cluster = Cluster::start(&place, &tallyman_cluster::Shape::control_plane(version)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let kubelet = runtime.block_on(StandinKubelet::start(&cluster)).unwrap();
        let crds = root().join("crds/yaml");
        cluster.kubectl(&["apply", "--server-side", "-f", crds.to_str().unwrap()]).unwrap();
        for crd in ["counternamespaces", "counterclasses"] {
            let crd = format!("crd/{crd}.tallyman.dev");
            cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &crd]).unwrap();
        }
        Self { kubelet, _runtime: runtime, cluster, cassandra }
    }
}

/// A test's own corner: Kubernetes namespace `NAME` for applications, `NAME-system` for operators, and CounterClass `NAME`.
pub struct Corner {
    /// What it shares with others.
    pub plane: Arc<ControlPlane>,
    /// Its name.
    pub name: String,
    folder: TempDir,
}

impl Corner {
    /// A new corner. No operator runs there yet, and there is no class.
    pub fn new(name: &str) -> Self {
        let plane = ControlPlane::shared();
        let corner = Self { plane, name: name.to_owned(), folder: TempDir::new().unwrap() };
        for namespace in [corner.name.clone(), corner.system()] {
            corner.kubectl(&["create", "namespace", &namespace]);
        }
        corner
    }

    /// The operators' Kubernetes namespace.
    pub fn system(&self) -> String {
        format!("{}-system", self.name)
    }

    /// The Secret `cassandra-admin` that the class names.
    pub fn create_admin_secret(&self) {
        self.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cassandra-admin", "namespace": self.system()},
            "stringData": {"username": SUPERUSER.0, "password": SUPERUSER.1}}));
    }

    /// The class of this corner, over the real Cassandra; `more` goes into its spec.
    pub fn class(&self, more: Value) -> Value {
        let mut class = json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterClass", "metadata": {"name": self.name}, "spec": {
            "cassandra": {"contactPoints": self.plane.cassandra.contact_points().split(',').collect::<Vec<_>>(),
                "localDatacenter": "dc1", "replication": {"dc1": 1}, "adminCredentialsSecretName": "cassandra-admin"}}});
        merge(&mut class["spec"], more);
        class
    }

    /// A CounterNamespace of this corner, with this spec; `className` is filled in, and a dataset that no other test has.
    pub fn counter_namespace(&self, name: &str, spec: Value) -> Value {
        let dataset = format!("{}_{name}", self.name).replace('-', "_");
        let mut object = json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterNamespace",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"counterType": "Eventual", "className": self.name, "dataset": dataset}});
        merge(&mut object["spec"], spec);
        if object["spec"]["counterType"] == "BestEffort" {
            object["spec"].as_object_mut().unwrap().remove("dataset");
        }
        object
    }

    /// Admin Secret and class applied.
    pub fn with_class(self) -> Self {
        self.create_admin_secret();
        self.apply(&self.class(json!({})));
        self
    }

    /// An operator that looks after this corner alone; not started yet.
    pub fn operator(&self, identity: &str) -> OperatorProcess {
        static OPERATORS_SO_FAR: AtomicU32 = AtomicU32::new(1);
        let number = OPERATORS_SO_FAR.fetch_add(1, Ordering::SeqCst);
        let [_, _, high, low] = number.to_be_bytes();
        // A loopback address per operator and test process.
        let process = u8::try_from(std::process::id() % 200).unwrap();
        let ip = IpAddr::V4(Ipv4Addr::new(127, 60 + OPERATORS + high, process, low));
        let (admin, webhook) = (SocketAddr::new(ip, 7798), SocketAddr::new(ip, 9443));
        let mut arguments = BTreeMap::new();
        let mut set = |name: &str, value: &str| drop(arguments.insert(name.to_owned(), value.to_owned()));
        set("--operator-namespace", &self.system());
        set("--watch-namespaces", &self.name);
        set("--identity", identity);
        set("--lease-duration", "15s");
        set("--admin", &admin.to_string());
        set("--webhook", &webhook.to_string());
        set("--webhook-configuration", &self.name);
        OperatorProcess {
            identity: identity.to_owned(),
            arguments,
            kubeconfig: self.plane.cluster.kubeconfig(),
            environment: Vec::new(),
            temporary: TempDir::new().unwrap(),
            admin,
            webhook,
            log: self.folder.path().join(format!("{identity}.log")),
            running: None,
        }
    }

    /// What kubectl prints; it must succeed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.plane.cluster.kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    /// What became of a kubectl that may fail, given this on its standard input.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        use std::io::Write;
        let mut kubectl = self.plane.cluster.kubectl_command();
        let kubectl = kubectl.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Applies an object as GitOps does: server-side.
    pub fn apply(&self, object: &Value) {
        let output = self.try_kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &object.to_string());
        assert!(output.status.success(), "{object}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// An object in this corner's Kubernetes namespace, if it is there.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let output = self.try_kubectl(&["-n", &self.name, "get", kind, name, "-o", "json", "--ignore-not-found"], "");
        assert!(output.status.success(), "get {kind} {name}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).ok()
    }

    /// All objects of a kind in this corner's Kubernetes namespace.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.kubectl(&["-n", &self.name, "get", kind, "-o", "json"])).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// A condition of a CounterNamespace.
    pub fn condition(&self, name: &str, kind: &str) -> Option<Value> {
        let object = self.get("counternamespace", name)?;
        object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind).cloned()
    }

    /// Waits until a CounterNamespace has a condition of this status and reason (`""`: any) for its newest generation.
    pub fn wait_for_condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> Value {
        self.wait_for(&format!("{name}: {kind}={status} {reason}"), || {
            let object = self.get("counternamespace", name)?;
            let conditions = object["status"]["conditions"].as_array()?;
            let condition = conditions.iter().find(|condition| condition["type"] == kind)?.clone();
            let is_it = condition["status"] == status && (reason.is_empty() || condition["reason"] == reason);
            (is_it && condition["observedGeneration"] == object["metadata"]["generation"]).then_some(condition)
        })
    }

    /// Waits until it is ready.
    pub fn wait_until_ready(&self, name: &str) {
        self.wait_for_condition(name, "Ready", "True", "");
    }

    /// Waits until `look` finds it.
    pub fn wait_for<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let started = now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            if started.elapsed() > PATIENCE {
                let all = self.kubectl(&["-n", &self.name, "get", "counternamespaces", "-o", "yaml"]);
                let logs = std::fs::read_dir(self.folder.path()).unwrap().map(|file| last_lines(&file.unwrap().path()));
                panic!("waited in vain for {what}\n{all}\n{}", logs.collect::<Vec<_>>().join("\n"));
            }
            std::thread::sleep(POLL);
        }
    }

    /// The API server's audit log.
    pub fn audit_log(&self) -> AuditLog {
        self.plane.cluster.audit_log()
    }
}

/// Puts the fields of `more` into `into`, objects field by field; null removes a field.
pub fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                if value.is_null() {
                    into.remove(&name);
                } else {
                    merge(into.entry(name).or_insert(Value::Null), value);
                }
            }
        }
        (into, more) => *into = more,
    }
}

fn last_lines(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    format!("== {}\n{}", file.display(), lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n"))
}

/// An operator as a process of its own. Ends with its value.
pub struct OperatorProcess {
    /// Its name in the Lease.
    pub identity: String,
    arguments: BTreeMap<String, String>,
    kubeconfig: PathBuf,
    environment: Vec<(String, String)>,
    /// Its temporary files since its last start, of which it removes none when it is killed.
    temporary: TempDir,
    /// Its admin pages.
    pub admin: SocketAddr,
    /// Its webhook.
    pub webhook: SocketAddr,
    log: PathBuf,
    running: Option<(Child, Pid)>,
}

impl OperatorProcess {
    /// Sets an option, from its next start on.
    pub fn set(&mut self, option: &str, value: &str) -> &mut Self {
        self.arguments.insert(option.to_owned(), value.to_owned());
        self
    }

    /// Removes an option.
    pub fn unset(&mut self, option: &str) -> &mut Self {
        self.arguments.remove(option);
        self
    }

    /// Has it go by another kubeconfig, such as a ServiceAccount's.
    pub fn set_kubeconfig(&mut self, file: PathBuf) -> &mut Self {
        self.kubeconfig = file;
        self
    }

    /// Sets an environment variable, from its next start on.
    pub fn set_environment(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it.
    pub fn start(&mut self) -> &mut Self {
        assert!(self.running.is_none(), "{} runs already", self.identity);
        let output = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command: Command = command(Binaries::built().operator());
        for (name, value) in &self.arguments {
            command.args([name, value]);
        }
        self.temporary = TempDir::new().unwrap();
        command.env("TMPDIR", self.temporary.path());
        command.env("KUBECONFIG", &self.kubeconfig).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap();
        let pid = Pid::running(child.id()).unwrap_or_else(|| panic!("it ended at once:\n{}", self.log()));
        self.running = Some((child, pid));
        self
    }

    /// Its process id.
    pub fn pid(&self) -> &Pid {
        &self.running.as_ref().unwrap().1
    }

    /// Stops it in its tracks (SIGSTOP).
    pub fn pause(&self) {
        self.pid().pause().unwrap();
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.pid().resume().unwrap();
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        let (mut child, _) = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to end (SIGTERM), and waits for that; it must end well.
    pub fn terminate(&mut self) {
        self.pid().terminate().unwrap();
        assert!(self.pid().ends_within(PATIENCE), "it does not end on SIGTERM:\n{}", self.log());
        let (mut child, _) = self.running.take().unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
        // Passwords are among them.
        let left: Vec<_> = std::fs::read_dir(self.temporary.path()).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(left.is_empty(), "it left {left:?}");
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_some_and(|(child, _)| child.try_wait().unwrap().is_some())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What an admin page says.
    pub fn page(&self, path: &str) -> String {
        crate::daemon::get(self.admin, path).unwrap_or_default()
    }

    /// Resident memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let (child, _) = self.running.as_ref().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
