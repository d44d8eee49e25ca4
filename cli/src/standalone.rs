//! `tallyman standalone`: the whole service in one process, over the embedded store.
//!
//! The parts: [`manifests`] reads the namespaces and follows their files, [`namespace`] makes configurations of them;
//! [`engine`] counts and rolls up; logs, traces and signals are [`tallyman_daemon`]'s, the transport is the sidecar's. Here they
//! are put together, and taken apart again in order.

mod arguments;
mod banner;
mod engine;
mod manifests;
mod namespace;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tallyman_counter::backend::embedded::Database;
use tallyman_counter::configuration::{Accuracy, CacheStorage, Counting, Loaded, NamespaceConfiguration};
use tallyman_counter::metrics::EngineCollector;
use tallyman_daemon::process;
use tallyman_daemon::readiness::Readiness;
use tallyman_daemon::telemetry::Telemetry;
use tallyman_sidecar::listeners::{Addresses, Listeners};
use tallyman_sidecar::metrics::ApiMetrics;
use tallyman_sidecar::server::Server;
use tokio::sync::watch;

pub use self::arguments::Arguments;
use self::banner::{Banner, NamespaceLine};
use self::engine::Engine;
use self::manifests::Manifests;
use crate::failure::Failure;
use crate::output::Format;

/// This process's name in the traces that it exports.
const SERVICE: &str = "tallyman";
/// How long requests under way may take once the process is told to stop.
const REQUESTS_DRAIN: Duration = Duration::from_secs(3);

/// Serves until SIGTERM or SIGINT.
pub async fn run(arguments: Arguments, format: Format) -> Result<ExitCode, Failure> {
    let telemetry = Telemetry::start(SERVICE, &arguments.shared).map_err(|error| Failure::local(error.to_string()))?;
    let ended = serve(arguments, format).await;
    telemetry.stop().await;
    ended
}

async fn serve(arguments: Arguments, format: Format) -> Result<ExitCode, Failure> {
    let shutdown = process::shutdown();
    let shutdown = shutdown.map_err(|error| Failure::local(format!("cannot listen to signals: {error}")))?;
    // Before anything is made on disk.
    let addresses =
        Addresses { api: arguments.listen, unix_socket: arguments.unix_socket.clone(), admin: arguments.admin };
    let listeners = Listeners::bind(&addresses).await.map_err(|error| {
        Failure::local(error.to_string()).with_remedy("choose other addresses with --listen, --admin and --unix-socket")
    })?;
    let database = open(&arguments.data_dir).await?;
    let manifests = Manifests::follow(arguments.namespaces, best_effort(arguments.memcached)).await;
    let loaded = manifests.loaded.borrow().clone();
    if loaded.namespaces.is_empty() {
        return Err(no_namespaces(&loaded));
    }
    let engine = Engine::new(database);
    engine.serve(loaded.namespaces.values().cloned()).await;
    let banner = Banner {
        listen: listeners.api_address(),
        admin: listeners.admin_address(),
        unix_socket: arguments.unix_socket,
        data_dir: arguments.data_dir,
        namespaces: loaded.namespaces.values().map(|configuration| line(configuration, &manifests)).collect(),
        problems: problems(&loaded, &engine),
    };
    let server = server(&engine, manifests.loaded.clone());
    // The listeners are bound: whoever reads the addresses can connect.
    format.print(&banner.to_string(), &banner)?;
    tokio::select! {
        () = server.serve(listeners, shutdown) => {}
        ((), ()) = async { futures::join!(engine.run(), follow(&engine, manifests.loaded.clone())) } => {
            return Err(Failure::local("the engine ended by itself"));
        }
    };
    tracing::info!("every request is answered; stopping");
    engine.stop().await;
    Ok(ExitCode::SUCCESS)
}

async fn open(data_dir: &Path) -> Result<Database, Failure> {
    let path = data_dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || Database::open(&path)).await;
    let opened = opened.map_err(|error| Failure::local(format!("opening the data directory broke off: {error}")))?;
    opened.map_err(|error| Failure::local(error.to_string()))
}

fn best_effort(memcached: Option<String>) -> CacheStorage {
    match memcached {
        None => CacheStorage::Memory,
        Some(server) => CacheStorage::Memcached { cluster: "memcached".to_owned(), replicas: vec![vec![server]] },
    }
}

fn no_namespaces(loaded: &Loaded) -> Failure {
    if loaded.problems.is_empty() {
        return Failure::local("there is no CounterNamespace in the files given with --namespaces");
    }
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    Failure::local(format!("no CounterNamespace can be served:\n{}", problems.join("\n")))
}

fn line(configuration: &NamespaceConfiguration, manifests: &Manifests) -> NamespaceLine {
    let counter_type = match &configuration.counting {
        Counting::BestEffort(_) => "BestEffort",
        Counting::Durable(durable) => match durable.accuracy {
            Accuracy::Eventual => "Eventual",
            Accuracy::Accurate => "Accurate",
        },
    };
    let file = manifests.file(&configuration.namespace);
    NamespaceLine { namespace: configuration.namespace.to_string(), counter_type, file }
}

/// What is wrong with files and with namespaces.
fn problems(loaded: &Loaded, engine: &Engine) -> Vec<String> {
    loaded.problems.iter().map(ToString::to_string).chain(engine.problems()).collect()
}

/// Serves what the files say, as they change.
async fn follow(engine: &Engine, mut loaded: watch::Receiver<Arc<Loaded>>) {
    loaded.mark_unchanged();
    while loaded.changed().await.is_ok() {
        let now = loaded.borrow_and_update().clone();
        engine.serve(now.namespaces.values().cloned()).await;
    }
}

fn server(engine: &Arc<Engine>, loaded: watch::Receiver<Arc<Loaded>>) -> Server {
    let mut registry = Registry::default();
    let metrics = ApiMetrics::register(&mut registry);
    let datasets = engine.clone();
    registry.register_collector(Box::new(EngineCollector {
        rollups: Some(engine.rollups.clone()),
        touched: Some(engine.touched.clone()),
        datasets: Box::new(move || datasets.datasets()),
    }));
    let (store, clock, slices, configured) = (engine.clone(), engine.clone(), engine.clone(), engine.clone());
    let readiness = Readiness::new()
        .check("store", move || store.check_store())
        .check("clock", move || clock.check_clock())
        .check("slices", move || slices.check_slices())
        // A mistake in a file takes nothing out of service: what was right before it stays in force.
        .warning("configuration", move || {
            let problems = problems(&loaded.borrow(), &configured);
            if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
        });
    Server::new(engine.service.clone(), metrics, readiness, registry, REQUESTS_DRAIN)
}
