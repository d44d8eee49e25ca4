//! Rollup servers that share a store in memory and a folder of namespaces, and a sidecar that writes and forwards.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tallyman_counter::clock::SystemClock;
use tallyman_counter::configuration::{Directory, NamespaceConfiguration};
use tallyman_counter::dataset::Dataset;
use tallyman_counter::forward::{RollupEndpoint, Routes, TouchedCounters};
use tallyman_counter::model::{CounterKey, CounterName, NamespaceName};
use tallyman_counter::opening::Opener;
use tallyman_counter::pipeline::Statistics;
use tallyman_counter::retention::{Ahead, create_ahead};
use tallyman_counter::service::{ClientToken, CounterService, Limits};
use tallyman_daemon::tls_files::TlsFiles;
use tallyman_rollup::engine::Engine;
use tallyman_rollup::server::{Listeners, serve};
use tallyman_rollup::tls::Tls;
use tallyman_sidecar::rollup_endpoint::RemoteRollupServer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// Long, for busy machines: it decides about failures only.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// How soon servers notice a change in the folder.
const READ_EVERY: Duration = Duration::from_millis(50);

/// Waits until `what` holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(POLL).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

pub fn name() -> NamespaceName {
    NamespaceName::new("plays").unwrap()
}

/// A document of namespace `plays`: events are final after 0.8 s.
pub fn document(endpoints: &[SocketAddr], coalesce: Duration) -> Value {
    let coalesce_ms = u64::try_from(coalesce.as_millis()).unwrap();
    let storage = json!({"type": "MEMORY", "dataset": "plays"});
    let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    json!({"namespace": "plays", "region": "here", "persistence_configuration": [
        {"id": "COUNTER_ROLLUP", "scope": "dal=counter", "physical_storage": storage, "counter_cardinality": "HIGH",
         "config": {"counter_type": "EVENTUAL", "rollup_endpoints": endpoints,
            "eventual_counter_config": {"internal_config": {
                "queue_config": {"num_queues": 2, "coalesce_ms": coalesce_ms, "capacity_bytes": 1 << 20}}}}},
        {"id": "EVENT_STORAGE", "scope": "dal=ts", "physical_storage": storage,
         "config": {"accept_limit": "0.5s", "write_timeout": "0.2s", "max_clock_skew": "0.1s"}},
    ]})
}

/// What servers and sidecar share.
pub struct World {
    pub folder: TempDir,
    pub dataset: Arc<Dataset>,
    pub service: Arc<CounterService>,
    pub touched: Arc<TouchedCounters>,
    opener: Arc<Opener>,
    forwarding: JoinHandle<()>,
}

impl World {
    /// A store with slices, a folder with `document`, and a sidecar that forwards to nobody yet.
    pub async fn new(document: &Value) -> Self {
        let clock = Arc::new(SystemClock::new());
        let opener = Arc::new(Opener::new(clock.clone(), None));
        let configuration = Arc::new(NamespaceConfiguration::from_json(&document.to_string()).unwrap());
        let namespace = opener.open(configuration).await.unwrap();
        let durable = namespace.durable().unwrap();
        let (dataset, time_partition) = (durable.dataset.clone(), durable.settings.time_partition);
        dataset.refresh().await.unwrap();
        create_ahead(&dataset, time_partition, Ahead::USUAL).await.unwrap();
        dataset.refresh().await.unwrap();
        let touched = TouchedCounters::new(1 << 20);
        let service = Arc::new(CounterService::new("sidecar", clock, touched.clone(), Limits::default()));
        service.serve([namespace]);
        let telling = touched.clone();
        let forwarding = tokio::spawn(async move { telling.run().await });
        let world = Self { folder: tempfile::tempdir().unwrap(), dataset, service, touched, opener, forwarding };
        world.configure(&document.to_string());
        world
    }

    /// Replaces the document in one step.
    pub fn configure(&self, text: &str) {
        let beside = self.folder.path().join("document");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.document_file()).unwrap();
    }

    pub fn document_file(&self) -> PathBuf {
        self.folder.path().join("plays.json")
    }

    /// Starts a server that is named after its address, in a runtime of its own.
    pub async fn start(&self, listen: SocketAddr) -> Server {
        self.start_with(listen, None).await
    }

    /// As [`Self::start`]; with files it takes sidecars by mutual TLS only.
    pub async fn start_with(&self, listen: SocketAddr, tls: Option<TlsFiles>) -> Server {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (folder, opener, stop) = (self.folder.path().to_owned(), self.opener.clone(), CancellationToken::new());
        let starting = async move {
            let listeners = loop {
                match Listeners::bind(listen, ANY_PORT).await {
                    Ok(listeners) => break listeners,
                    // The one before may not be gone yet.
                    Err(_) => tokio::time::sleep(POLL).await,
                }
            };
            let tls = match tls {
                Some(files) => Some(Tls::open(files).await),
                None => None,
            };
            (listeners, tls, Directory::new(folder).watch(READ_EVERY).await)
        };
        let started = runtime.spawn(tokio::time::timeout(PATIENCE, starting));
        let (listeners, tls, loaded) = started.await.unwrap().expect("its address is free");
        let (address, admin) = (listeners.forwarding_address, listeners.admin_address);
        let engine = Engine::new(&address.to_string(), opener, |_| Ok(()));
        let task = runtime.spawn(serve(engine.clone(), listeners, tls, loaded, stop.clone().cancelled_owned()));
        Server { address, admin, engine, stop, task, runtime }
    }

    /// Forwards to these servers from now on.
    pub fn route(&self, servers: &[SocketAddr]) -> Vec<Arc<RemoteRollupServer>> {
        let servers: Vec<_> =
            servers.iter().map(|address| RemoteRollupServer::connect(&address.to_string(), None)).collect();
        let endpoints = servers.iter().map(|server| server.clone() as Arc<dyn RollupEndpoint>).collect();
        self.touched.route(Routes::from([(name(), endpoints)]));
        servers
    }

    /// Adds 1 to each of these counters.
    pub async fn add(&self, counters: impl IntoIterator<Item = String>) {
        for counter in counters {
            let token = ClientToken { token: None, generation_time: None };
            self.service.add_count("plays", &counter, 1, token, None).await.unwrap();
        }
    }

    pub async fn count(&self, counter: &str) -> Option<i128> {
        let counter = CounterKey { namespace: name(), name: CounterName::new(counter).unwrap() };
        let row = self.dataset.rollups.read(&counter).await.unwrap();
        row.and_then(|row| row.checkpoint).map(|checkpoint| checkpoint.last_rollup_count)
    }

    /// Waits until each of these counters is rolled up to `count`, without touching it.
    pub async fn wait_for(&self, counters: impl IntoIterator<Item = String>, count: i128) {
        for counter in counters {
            eventually(&format!("{counter} is {count}"), async || self.count(&counter).await == Some(count)).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

/// Counters of a group.
pub fn group(prefix: &str, count: usize) -> impl Iterator<Item = String> + Clone {
    let prefix = prefix.to_owned();
    (0..count).map(move |i| format!("{prefix}-{i}"))
}

/// A rollup server at work.
pub struct Server {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub engine: Arc<Engine>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    runtime: Runtime,
}

impl Server {
    /// Ends it as SIGTERM does.
    pub async fn stop(self) -> Statistics {
        self.stop.cancel();
        self.task.await.unwrap();
        self.runtime.shutdown_background();
        self.engine.rollups.statistics()
    }

    /// Ends it without a word, with all that it had in hand.
    pub fn crash(self) {
        self.runtime.shutdown_background();
    }

    pub fn statistics(&self) -> Statistics {
        self.engine.rollups.statistics()
    }
}

/// `GET path` of an admin address: the status line's code, and all that was answered.
pub async fn get(admin: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(admin).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((code, answer))
}
