//! A whole data plane: schema, sidecars and rollup servers over given Cassandra and memcached, serving one namespace.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tallyman_api::client::Client;
use tallyman_servers::Set;
use tempfile::TempDir;

use crate::binaries::{Binaries, command};
use crate::daemon::Daemon;
use crate::tables::Keyspace;

/// The one namespace.
pub const NAMESPACE: &str = "plays";
/// Deadline of each call of a test's client: shorter than the accept limit, so that there is time to send again.
const DEADLINE: Duration = Duration::from_secs(2);

/// What the namespace's document says, as far as tests differ.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The keyspace.
    pub dataset: String,
    /// `EVENTUAL` or `ACCURATE`.
    pub counter_type: &'static str,
    /// `LOW` or `HIGH`.
    pub cardinality: &'static str,
    /// A queue's window.
    pub coalesce: Duration,
    /// How far an event's time may lie from now.
    pub accept_limit: Duration,
    /// Sidecars.
    pub sidecars: usize,
    /// Rollup servers.
    pub rollups: usize,
}

impl Settings {
    /// Two sidecars and two rollup servers, with limits that leave a busy machine its time.
    pub fn new(dataset: &str) -> Self {
        Self {
            dataset: dataset.to_owned(),
            counter_type: "EVENTUAL",
            cardinality: "HIGH",
            coalesce: Duration::from_secs(1),
            accept_limit: Duration::from_secs(10),
            sidecars: 2,
            rollups: 2,
        }
    }

    /// The namespace's document.
    pub fn document(&self, servers: &Set, rollup_endpoints: &[String]) -> Value {
        let nodes: Vec<String> = servers.nodes().iter().map(|node| node.contact_point().to_string()).collect();
        // Each server is a replica of its own, so that any one of them may go.
        let caches: Vec<[String; 1]> = servers.memcached().iter().map(|server| [server.address.to_string()]).collect();
        let datacenter = &servers.nodes()[0].datacenter;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
        let dataset = json!({
            "type": "CASSANDRA", "cluster": "e2e", "dataset": self.dataset, "contact_points": nodes,
            "local_datacenter": datacenter,
        });
        let rollup = json!({
            "counter_type": self.counter_type,
            "rollup_endpoints": rollup_endpoints,
            "eventual_counter_config": {"internal_config": {
                "queue_config": {"num_queues": 4, "coalesce_ms": millis(self.coalesce), "capacity_bytes": 16 << 20},
                "rollup_batch_count": 32,
            }},
        });
        let events = json!({
            "time_partition": {"buckets_per_id": 2, "seconds_per_bucket": "60", "seconds_per_slice": "86400"},
            "accept_limit": format!("{}s", self.accept_limit.as_secs_f64()),
            "write_timeout": "2s",
            "max_clock_skew": "2s",
        });
        let mut entries = vec![
            json!({"id": "COUNTER_ROLLUP", "scope": "dal=counter", "physical_storage": dataset,
                   "counter_cardinality": self.cardinality, "config": rollup}),
            json!({"id": "EVENT_STORAGE", "scope": "dal=ts", "physical_storage": dataset, "config": events}),
        ];
        if !caches.is_empty() {
            let cache = json!({"type": "MEMCACHED", "cluster": "e2e", "replicas": caches});
            entries.push(json!({"id": "CACHE", "scope": "dal=counter", "physical_storage": cache}));
        }
        json!({"namespace": NAMESPACE, "region": datacenter, "persistence_configuration": entries})
    }
}

/// Processes that serve, and the folder they read their namespaces from.
#[derive(Debug)]
pub struct Plane {
    /// The sidecars.
    pub sidecars: Vec<Daemon>,
    /// The rollup servers.
    pub rollups: Vec<Daemon>,
    /// The namespace's keyspace.
    pub keyspace: Keyspace,
    settings: Settings,
    folder: TempDir,
}

impl Plane {
    /// Applies the schema, starts all processes, and waits until they are ready.
    pub fn start(servers: &Set, settings: Settings) -> Self {
        let binaries = Binaries::built();
        let folder = tempfile::tempdir().unwrap();
        let namespaces = folder.path().join("namespaces");
        std::fs::create_dir(&namespaces).unwrap();
        let daemon = |name: &str, program| Daemon::new(name, program, &namespaces, folder.path());
        let rollups = (0..settings.rollups).map(|number| {
            let mut rollup = daemon(&format!("rollup-{number}"), binaries.rollup());
            // A server is known by its address where that names no host.
            rollup.argument("--name", rollup.listen().to_string());
            rollup
        });
        let rollups: Vec<Daemon> = rollups.collect();
        let sidecars = (0..settings.sidecars).map(|number| {
            let name = format!("sidecar-{number}");
            let mut sidecar = daemon(&name, binaries.sidecar());
            sidecar.argument("--name", name);
            sidecar
        });
        let sidecars: Vec<Daemon> = sidecars.collect();
        let keyspace = Keyspace { contact_points: servers.contact_points(), name: settings.dataset.clone() };
        let mut plane = Self { sidecars, rollups, keyspace, settings, folder };
        plane.write_document(servers);
        plane.apply_schema(servers);
        plane.rollups.iter_mut().for_each(Daemon::start);
        plane.sidecars.iter_mut().for_each(Daemon::start);
        plane.rollups.iter_mut().for_each(Daemon::wait_until_ready);
        plane.sidecars.iter_mut().for_each(Daemon::wait_until_ready);
        plane
    }

    /// A client per sidecar that runs.
    pub fn clients(&self) -> Vec<Client> {
        let running = self.sidecars.iter().filter(|sidecar| sidecar.is_running());
        let client = |sidecar: &Daemon| {
            Client::builder(format!("http://{}", sidecar.listen())).deadline(DEADLINE).connect().unwrap()
        };
        running.map(client).collect()
    }

    /// Runs a command of `tallyman` to its end, which must be a good one; what it printed.
    pub fn tallyman(&self, arguments: &[&str]) -> String {
        let mut tallyman = command(Binaries::built().tallyman());
        let output = tallyman.args(arguments).stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "tallyman {arguments:?}: {}: {printed}\n{errors}", output.status);
        printed
    }

    /// Asks everything that runs to end, which it must do well.
    pub fn stop(mut self) {
        for daemon in self.sidecars.iter_mut().chain(&mut self.rollups).filter(|daemon| daemon.is_running()) {
            let status = daemon.terminate();
            assert!(status.success(), "SIGTERM ends it with {status}:\n{}", daemon.log());
        }
    }

    fn write_document(&self, servers: &Set) {
        let endpoints: Vec<String> = self.rollups.iter().map(|rollup| rollup.listen().to_string()).collect();
        let document = self.settings.document(servers, &endpoints);
        // In one step, as a reader may look at any time.
        let beside = self.folder.path().join("document");
        std::fs::write(&beside, document.to_string()).unwrap();
        std::fs::rename(beside, self.namespaces().join(format!("{NAMESPACE}.json"))).unwrap();
    }

    fn apply_schema(&self, servers: &Set) {
        let namespaces = self.namespaces();
        let datacenter = &servers.nodes()[0].datacenter;
        let nodes = servers.nodes().iter().filter(|node| node.datacenter == *datacenter).count();
        let replication = format!("{datacenter}={}", nodes.min(3));
        let apply = ["schema", "apply", "--namespaces-dir", namespaces.to_str().unwrap()];
        self.tallyman(&[&apply[..], &["--replication", &replication]].concat());
    }

    fn namespaces(&self) -> PathBuf {
        self.folder.path().join("namespaces")
    }
}
