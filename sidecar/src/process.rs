//! The process `tallyman-sidecar`: its parts put together, and taken apart again in order.
//!
//! [`arguments`] are its options; [`engine`] serves what the folder of namespaces says; [`rollup_servers`] are those that touched
//! counters are told to; [`readiness`] and [`metrics`] tell how all that does. Log, traces, signals and admin pages are
//! [`tallyman_daemon`]'s, the transport is the library's.

mod arguments;
mod engine;
mod metrics;
mod readiness;
mod rollup_servers;

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tallyman_counter::configuration::{Directory, Loaded};
use tallyman_counter::metrics::EngineCollector;
use tallyman_daemon::process::shutdown;
use tallyman_sidecar::listeners::{Addresses, Listeners};
use tallyman_sidecar::metrics::ApiMetrics;
use tallyman_sidecar::rollup_endpoint::RemoteRollupServer;
use tallyman_sidecar::server::Server;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::arguments::{Arguments, Program};
use self::engine::Engine;
use self::metrics::NamespaceCollector;

/// How soon a change in the folder of namespaces is noticed.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// How long requests under way may take once the process is told to stop.
const REQUESTS_DRAIN: Duration = Duration::from_secs(3);
/// How long it may take to tell the rollup servers what was touched last. What they are not told, their sweeps find.
const FLUSH: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT.
pub async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let shutdown = shutdown()?;
    let Arguments { namespaces_dir, listen, admin, unix_socket, name, threads: _, shared: _ } = arguments;
    let listeners = Listeners::bind(&Addresses { api: listen, unix_socket, admin }).await?;
    let name = name.unwrap_or_else(arguments::host_name);
    let loaded = Directory::new(&namespaces_dir).watch(POLL_EVERY).await;
    let engine = Engine::new(&name, |address, tls| RemoteRollupServer::connect(address, tls));
    let in_force = loaded.borrow().clone();
    engine.serve(in_force.namespaces.values().cloned()).await;
    let server = server(&engine, &loaded);

    let stop = CancellationToken::new();
    let (touched, stopped) = (engine.touched.clone(), stop.clone().cancelled_owned());
    let mut telling = tokio::spawn(async move { touched.run_until(stopped).await });
    let followed = engine.clone();
    let following = tokio::spawn(async move { followed.follow(loaded).await });
    let (listen, admin) = (listeners.api_address(), listeners.admin_address());
    tracing::info!(%name, %listen, %admin, namespaces_dir = %namespaces_dir.display(), "serving");
    server.serve(listeners, shutdown).await;

    tracing::info!("every request is answered; stopping");
    following.abort();
    stop.cancel();
    if tokio::time::timeout(FLUSH, &mut telling).await.is_err() {
        tracing::warn!("the rollup servers were not told of everything that was touched; their sweeps will find it");
    }
    Ok(())
}

fn server(engine: &Arc<Engine>, loaded: &watch::Receiver<Arc<Loaded>>) -> Server {
    let mut registry = Registry::default();
    let metrics = ApiMetrics::register(&mut registry);
    let datasets = engine.clone();
    registry.register_collector(Box::new(EngineCollector {
        rollups: None,
        touched: Some(engine.touched.clone()),
        datasets: Box::new(move || datasets.datasets()),
    }));
    registry.register_collector(Box::new(NamespaceCollector { engine: engine.clone(), loaded: loaded.clone() }));
    let readiness = readiness::checks(engine.clone(), loaded.clone());
    Server::new(engine.service.clone(), metrics, readiness, registry, REQUESTS_DRAIN)
}
