//! A whole data plane: schema, sidecars and rollup servers over given Cassandra and memcached, serving one namespace.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tallyman_api::client::Client;
use tallyman_servers::Set;
use tempfile::TempDir;

use crate::binaries::{Binaries, command};
use crate::daemon::Daemon;
use crate::operator::{Operator, Run};
use crate::tables::Keyspace;
use crate::{PATIENCE, now};

/// The one namespace.
pub const NAMESPACE: &str = "plays";
/// Deadline of each call of a test's client: shorter than the accept limit, so that there is time to send again.
const DEADLINE: Duration = Duration::from_secs(2);

/// The folder of `tallyman schema`'s documents, beside those of the processes.
const SCHEMA: &str = "schema";
/// Nothing listens on port 1 of loopback.
const NOBODY: &str = "127.0.0.1:1";

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
    /// Queues of a rollup server.
    pub num_queues: u32,
    /// How far an event's time may lie from now.
    pub accept_limit: Duration,
    /// How long a write may take.
    pub write_timeout: Duration,
    /// What clocks may differ by.
    pub max_clock_skew: Duration,
    /// Partitions of a counter in a time bucket.
    pub buckets_per_id: u32,
    /// Width of a time bucket.
    pub bucket_width: Duration,
    /// Width of a slice.
    pub slice_width: Duration,
    /// How far ahead `schema apply` creates slices, where that is not as usual.
    pub ahead: Option<Duration>,
    /// `close_after` and `delete_after`, where they are not as usual.
    pub retention: Option<(Duration, Duration)>,
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
            num_queues: 4,
            accept_limit: Duration::from_secs(10),
            write_timeout: Duration::from_secs(2),
            max_clock_skew: Duration::from_secs(2),
            buckets_per_id: 2,
            bucket_width: Duration::from_secs(60),
            slice_width: Duration::from_secs(86_400),
            ahead: None,
            retention: None,
            sidecars: 2,
            rollups: 2,
        }
    }

    /// The namespace's document.
    pub fn document(&self, backends: &Backends, rollup_endpoints: &[String]) -> Value {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
        let span = |duration: Duration| format!("{}s", duration.as_secs_f64());
        let dataset = json!({
            "type": "CASSANDRA", "cluster": "e2e", "dataset": self.dataset, "contact_points": backends.nodes,
            "local_datacenter": backends.datacenter,
        });
        let queues = json!({
            "num_queues": self.num_queues, "coalesce_ms": millis(self.coalesce), "capacity_bytes": 16 << 20,
        });
        let rollup = json!({
            "counter_type": self.counter_type,
            "rollup_endpoints": rollup_endpoints,
            "eventual_counter_config": {"internal_config": {"queue_config": queues, "rollup_batch_count": 32}},
        });
        let events = json!({
            "time_partition": {
                "buckets_per_id": self.buckets_per_id,
                "seconds_per_bucket": self.bucket_width.as_secs().to_string(),
                "seconds_per_slice": self.slice_width.as_secs().to_string(),
            },
            "accept_limit": span(self.accept_limit),
            "write_timeout": span(self.write_timeout),
            "max_clock_skew": span(self.max_clock_skew),
        });
        let mut storage =
            json!({"id": "EVENT_STORAGE", "scope": "dal=ts", "physical_storage": dataset, "config": events});
        if let Some((close_after, delete_after)) = self.retention {
            let config = json!({"close_after": span(close_after), "delete_after": span(delete_after)});
            storage["lifecycleConfigs"] = json!({"lifecycleConfig": [{"type": "retention", "config": config}]});
        }
        let mut entries = vec![
            json!({"id": "COUNTER_ROLLUP", "scope": "dal=counter", "physical_storage": dataset,
                   "counter_cardinality": self.cardinality, "config": rollup}),
            storage,
        ];
        if !backends.caches.is_empty() {
            let cache = json!({"type": "MEMCACHED", "cluster": "e2e", "replicas": backends.caches});
            entries.push(json!({"id": "CACHE", "scope": "dal=counter", "physical_storage": cache}));
        }
        json!({"namespace": NAMESPACE, "region": backends.datacenter, "persistence_configuration": entries})
    }

    /// How far the boundary lies behind now.
    pub fn lag(&self) -> Duration {
        self.accept_limit + self.write_timeout + self.max_clock_skew
    }
}

/// The servers below, as documents name them.
#[derive(Debug, Clone)]
pub struct Backends {
    nodes: Vec<String>,
    /// Each memcached server is a replica of its own, so that any one of them may go.
    caches: Vec<[String; 1]>,
    datacenter: String,
    /// How many replicas a keyspace has.
    replicas: usize,
}

impl Backends {
    fn of(servers: &Set) -> Self {
        let datacenter = servers.nodes()[0].datacenter.clone();
        let local = servers.nodes().iter().filter(|node| node.datacenter == datacenter).count();
        Self {
            nodes: servers.nodes().iter().map(|node| node.contact_point().to_string()).collect(),
            caches: servers.memcached().iter().map(|server| [server.address.to_string()]).collect(),
            datacenter,
            replicas: local.min(3),
        }
    }
}

/// Processes that serve, each with a folder of its own that it reads its namespace from.
#[derive(Debug)]
pub struct Plane {
    /// The sidecars.
    pub sidecars: Vec<Daemon>,
    /// The rollup servers.
    pub rollups: Vec<Daemon>,
    /// The namespace's keyspace.
    pub keyspace: Keyspace,
    /// What the last document written says, wherever it was written.
    pub settings: Settings,
    /// How many of the rollup servers documents name.
    pub rollups_named: usize,
    backends: Backends,
    folder: TempDir,
}

/// Who reads documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// A sidecar.
    Sidecar(usize),
    /// All rollup servers.
    Rollups,
    /// `tallyman schema`.
    Schema,
}

impl Plane {
    /// Applies the schema, starts all processes, and waits until they are ready.
    pub fn start(servers: &Set, settings: Settings) -> Self {
        let mut plane = Self::prepare(servers, settings);
        plane.rollups.iter_mut().for_each(Daemon::start);
        plane.sidecars.iter_mut().for_each(Daemon::start);
        plane.rollups.iter_mut().for_each(Daemon::wait_until_ready);
        plane.sidecars.iter_mut().for_each(Daemon::wait_until_ready);
        plane
    }

    /// Writes documents for all, applies the schema, and starts nothing yet.
    pub fn prepare(servers: &Set, settings: Settings) -> Self {
        let binaries = Binaries::built();
        let folder = tempfile::tempdir().unwrap();
        let daemon = |name: &str, program| Daemon::new(name, program, &folder.path().join(name), folder.path());
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
        let (rollups_named, backends) = (rollups.len(), Backends::of(servers));
        let plane = Self { sidecars, rollups, keyspace, settings, rollups_named, backends, folder };
        plane.tell_all();
        plane.apply_schema();
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
        let output = command(Binaries::built().tallyman()).args(arguments).stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "tallyman {arguments:?}: {}: {printed}\n{errors}", output.status);
        printed
    }

    /// Writes the document that the settings make for one reader.
    pub fn tell(&self, reader: Reader) {
        match reader {
            Reader::Sidecar(number) => self.write_document(self.sidecars[number].name()),
            Reader::Rollups => self.rollups.iter().for_each(|rollup| self.write_document(rollup.name())),
            Reader::Schema => self.write_document(SCHEMA),
        }
    }

    /// Writes the document that the settings make for all readers.
    pub fn tell_all(&self) {
        (0..self.sidecars.len()).map(Reader::Sidecar).for_each(|sidecar| self.tell(sidecar));
        self.tell(Reader::Rollups);
        self.tell(Reader::Schema);
    }

    /// Applies the schema of the document that was last written for it, again where it asks for that.
    pub fn apply_schema(&self) {
        let started = now();
        loop {
            let run = Run::of(&mut self.schema_application());
            if run.is_well() {
                return;
            }
            let errors = run.errors();
            assert!(run.is_to_be_repeated() && started.elapsed() < PATIENCE, "schema apply: {errors}");
        }
    }

    /// `tallyman schema apply`, not run yet.
    pub fn schema_application(&self) -> Command {
        let mut apply = command(Binaries::built().tallyman());
        let Backends { datacenter, replicas, .. } = &self.backends;
        apply.args(["-o", "json", "schema", "apply", "--replication", &format!("{datacenter}={replicas}")]);
        apply.arg("--namespaces-dir").arg(self.folder.path().join(SCHEMA));
        if let Some(ahead) = self.settings.ahead {
            apply.args(["--ahead", &format!("{}s", ahead.as_secs())]);
        }
        apply.stdin(Stdio::null());
        apply
    }

    /// Begins to apply the schema over and over.
    pub fn operator(&self) -> Operator {
        let application = self.schema_application();
        let (program, arguments) =
            (application.get_program().to_owned(), application.get_args().map(ToOwned::to_owned));
        let arguments: Vec<_> = arguments.collect();
        Operator::start(move || {
            let mut apply = command(program.clone().into());
            apply.args(&arguments).stdin(Stdio::null());
            apply
        })
    }

    /// A folder that lasts as long as the plane.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks everything that runs to end, which it must do well.
    pub fn stop(mut self) {
        for daemon in self.sidecars.iter_mut().chain(&mut self.rollups).filter(|daemon| daemon.is_running()) {
            let status = daemon.terminate();
            assert!(status.success(), "SIGTERM ends it with {status}:\n{}", daemon.log());
        }
    }

    fn write_document(&self, reader: &str) {
        let named = &self.rollups[..self.rollups_named];
        let mut endpoints: Vec<String> = named.iter().map(|rollup| rollup.listen().to_string()).collect();
        if endpoints.is_empty() {
            endpoints.push(NOBODY.to_owned());
        }
        let document = self.settings.document(&self.backends, &endpoints);
        let namespaces = self.folder.path().join(reader);
        std::fs::create_dir_all(&namespaces).unwrap();
        // In one step, as a reader may look at any time.
        let beside = self.folder.path().join("document");
        std::fs::write(&beside, document.to_string()).unwrap();
        std::fs::rename(beside, namespaces.join(format!("{NAMESPACE}.json"))).unwrap();
    }
}
