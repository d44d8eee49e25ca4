//! The data plane as a cluster has it: a sidecar and a rollup server in processes of their own, configured by namespace
//! documents, over Cassandra and memcached.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cassandra::{Keyspace, Node};
use crate::deployment::{Deployment, Namespace};
use crate::memcached::Memcached;
use crate::process::{self, Server};
use crate::programs::Programs;

/// The windows of the durable namespace have the proportions of the defaults and are half as long: an event is immutable after
/// 4 s (8 s by default), a counter is rolled up once in 5 s (10 s). So what is added is rolled up while adds are measured. The
/// skew leaves room for what a node that is busy takes to tell its time.
const EVENT_LIMITS: [(&str, &str); 3] = [("accept_limit", "2.5s"), ("write_timeout", "1s"), ("max_clock_skew", "0.5s")];
const COALESCE_MS: u32 = 5_000;
/// A rollup server may rest for as long between two windows.
const REST: Duration = Duration::from_millis(5_500);
/// How often a server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(50);

/// The stores that a data plane works on.
pub struct Stores<'a> {
    pub memcached: &'a Memcached,
    /// For the durable namespace; without it there is only the best-effort one.
    pub cassandra: Option<Durable<'a>>,
}

/// What the durable namespace has to itself.
#[derive(Clone, Copy)]
pub struct Durable<'a> {
    /// The node.
    pub node: &'a Node,
    /// A keyspace that does not exist yet.
    pub keyspace: &'a Keyspace,
    /// Over how many partitions the events of one counter are spread: one does for counters that are written seldom.
    pub buckets_per_id: u32,
}

/// Provisions the keyspace, starts the processes, and waits until they are ready.
pub async fn start(programs: &Programs, dir: &Path, stores: &Stores<'_>) -> Result<Deployment> {
    let namespaces = dir.join("namespaces");
    std::fs::create_dir(&namespaces)?;
    write(&namespaces, &best_effort(stores.memcached))?;
    let mut servers = Vec::new();
    let mut processes = vec![stores.memcached.server.process()];
    let mut rest = Duration::ZERO;
    if let Some(durable) = stores.cassandra {
        let rollup = process::free_address()?;
        let eventual = document(Namespace::Eventual.name(), COALESCE_MS, stores.memcached, durable, rollup);
        write(&namespaces, &eventual)?;
        apply_schema(programs, &namespaces)?;
        servers.push(serve(programs, "rollup", &namespaces, rollup, dir).await?);
        processes.extend(durable.node.processes());
        rest = REST;
    }
    let api = process::free_address()?;
    servers.push(serve(programs, "sidecar", &namespaces, api, dir).await?);
    Ok(Deployment { name: "sidecar", servers, stores: processes, api, rest })
}

/// Provisions the keyspace for a namespace named `rollup`, whose pipeline runs in this process; answers its document. Its
/// coalescing window is short: it is waiting, not work.
pub fn provision_rollup(
    programs: &Programs,
    dir: &Path,
    memcached: &Memcached,
    durable: Durable<'_>,
) -> Result<String> {
    let nobody = process::free_address()?;
    let document = document("rollup", 5, memcached, durable, nobody);
    write(dir, &document)?;
    apply_schema(programs, dir)?;
    Ok(document.to_string())
}

async fn serve(programs: &Programs, name: &str, namespaces: &Path, listen: SocketAddr, dir: &Path) -> Result<Server> {
    let program = programs.path(&format!("tallyman-{name}"))?;
    let admin = process::free_address()?;
    let (listen, admin_text) = (listen.to_string(), admin.to_string());
    let arguments = [
        "--namespaces-dir".as_ref(),
        namespaces.as_os_str(),
        "--listen".as_ref(),
        listen.as_ref(),
        "--admin".as_ref(),
        admin_text.as_ref(),
        "--name".as_ref(),
        // The name by which the sidecar's documents know it, where they name it.
        listen.as_ref(),
    ];
    let mut server = Server::start(name, program, arguments, dir)?;
    server.until_ready(POLL, async || process::answers_ok(admin, "/readyz").await).await?;
    Ok(server)
}

/// Makes the keyspace and the tables, as somebody does who has the rights to.
fn apply_schema(programs: &Programs, namespaces: &Path) -> Result<()> {
    let applied = Command::new(programs.path("tallyman")?)
        .args(["schema", "apply", "--namespaces-dir"])
        .arg(namespaces)
        .stdin(Stdio::null())
        .output()?;
    ensure!(applied.status.success(), "the schema is not applied: {}", String::from_utf8_lossy(&applied.stderr));
    Ok(())
}

fn write(dir: &Path, document: &Value) -> Result<()> {
    let name = document["namespace"].as_str().unwrap_or_default();
    Ok(std::fs::write(dir.join(format!("{name}.json")), document.to_string())?)
}

fn cache(memcached: &Memcached) -> Value {
    json!({"type": "MEMCACHED", "cluster": "bench", "replicas": [[memcached.address.to_string()]]})
}

fn best_effort(memcached: &Memcached) -> Value {
    json!({"namespace": Namespace::BestEffort.name(), "region": "local", "persistence_configuration": [
        {"id": "CACHE", "scope": "dal=counter", "physical_storage": cache(memcached),
         "config": {"counter_type": "BEST_EFFORT", "best_effort_counter_config": {"ttl": "3600s"}}}]})
}

fn document(name: &str, coalesce_ms: u32, memcached: &Memcached, durable: Durable<'_>, rollup: SocketAddr) -> Value {
    let Durable { node, keyspace, buckets_per_id } = durable;
    let datacenter = node.datacenter();
    let storage = json!({"type": "CASSANDRA", "cluster": "bench", "dataset": keyspace.name(),
        "contact_points": [node.address().to_string()], "local_datacenter": datacenter});
    let mut events = json!({"time_partition": {"buckets_per_id": buckets_per_id}});
    for (name, limit) in EVENT_LIMITS {
        events[name] = limit.into();
    }
    json!({"namespace": name, "region": datacenter, "persistence_configuration": [
        {"id": "CACHE", "scope": "dal=counter", "physical_storage": cache(memcached)},
        {"id": "COUNTER_ROLLUP", "scope": "dal=counter", "physical_storage": storage, "counter_cardinality": "HIGH",
         "config": {"counter_type": "EVENTUAL", "rollup_endpoints": [rollup.to_string()],
            "eventual_counter_config": {"internal_config": {"queue_config": {"num_queues": 8, "coalesce_ms": coalesce_ms}}}}},
        {"id": "EVENT_STORAGE", "scope": "dal=ts", "physical_storage": storage, "config": events}]})
}
