//! The server: its listeners, and their end when the process stops.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tallyman_api::rollup::State;
use tallyman_api::rollup::rollup_service_server::RollupServiceServer;
use tallyman_counter::configuration::Loaded;
use tallyman_counter::metrics::EngineCollector;
use tallyman_daemon::admin::Admin;
use tallyman_daemon::connections::{BindError, bind};
use tallyman_daemon::health;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::engine::Engine;
use crate::forwarding::{Forwarding, keep_told, tell_farewell};
use crate::readiness;
use crate::tls::Tls;

/// Streams from sidecars that are open now.
pub const FORWARDING_STREAMS: &str = "tallyman_forwarding_streams";

/// What gRPC health tells of: the whole server, and its service.
const SERVICES: &[&str] = &["", "tallyman.rollup.v1.RollupService"];
/// A connection without traffic is asked for a sign of life, and closed without one.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long sidecars may take to end their streams once they are told that this server goes away.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long rollups that are queued may take once the process is told to stop. What is left, sweeps find.
const DRAIN: Duration = Duration::from_secs(10);

/// Everything that a server listens on.
#[derive(Debug)]
pub struct Listeners {
    forwarding: TcpListener,
    admin: TcpListener,
    /// Where sidecars connect to, with the port it got.
    pub forwarding_address: SocketAddr,
    /// Where the admin pages are, with the port they got.
    pub admin_address: SocketAddr,
}

impl Listeners {
    /// Binds both addresses. Port 0 takes a free port.
    ///
    /// # Errors
    /// When one cannot be listened on.
    pub async fn bind(forwarding: SocketAddr, admin: SocketAddr) -> Result<Self, BindError> {
        let (forwarding, forwarding_address) = bind(forwarding, "sidecars").await?;
        let (admin, admin_address) = bind(admin, "the admin pages").await?;
        Ok(Self { forwarding, admin, forwarding_address, admin_address })
    }
}

/// Rolls up what `loaded` says until `shutdown` is there. Then sidecars are told, what is queued is rolled up once more, and
/// all ends within a bounded time; the admin pages answer to the last. With `tls`, sidecars get in by nothing else.
pub async fn serve(
    engine: Arc<Engine>,
    listeners: Listeners,
    tls: Option<Arc<Tls>>,
    loaded: watch::Receiver<Arc<Loaded>>,
    shutdown: impl Future<Output = ()>,
) {
    let Listeners { forwarding: forwarding_tcp, admin: admin_tcp, .. } = listeners;
    let (stop, cut, ended) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let streams = Gauge::default();
    let registry = Arc::new(registry(&engine, streams.clone()));
    let readiness = Arc::new(readiness::checks(engine.clone(), loaded.clone(), tls.clone()));
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let following_health = tokio::spawn(health::follow(SERVICES, readiness.clone(), reporter, stop.clone()));
    let admin = tokio::spawn(Admin { readiness, registry, stop: stop.clone() }.serve(admin_tcp, ended.clone()));

    let state = watch::Sender::new(State::default());
    let forwarding = Forwarding::new(engine.rollups.clone(), state.subscribe(), cut.clone(), streams);
    let router = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(RollupServiceServer::new(forwarding))
        .add_service(health_service);
    let stopped = stop.clone().cancelled_owned();
    let mut serving = match &tls {
        None => {
            let incoming = TcpIncoming::from(forwarding_tcp).with_nodelay(Some(true));
            tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopped))
        }
        Some(tls) => {
            let incoming = tls.clone().incoming(forwarding_tcp, stop.clone());
            tokio::spawn(router.serve_with_incoming_shutdown(incoming, stopped))
        }
    };
    let keeping_renewed = async {
        match &tls {
            Some(tls) => tls.keep_renewed().await,
            None => pending().await,
        }
    };

    tokio::select! {
        () = shutdown => {}
        ((), ()) = async { futures::join!(engine.run(loaded), keep_told(&engine, &state)) } => {}
        () = keeping_renewed => {}
    }
    tracing::info!("going away");
    stop.cancel();
    tell_farewell(&state);
    if timeout(FAREWELL, &mut serving).await.is_err() {
        tracing::info!("sidecars have not ended their streams; they are cut off");
        cut.cancel();
        serving.abort();
    }
    if timeout(DRAIN, engine.rollups.drain()).await.is_err() {
        tracing::warn!("not everything that is queued was rolled up within {DRAIN:?}; sweeps will find it");
    }
    ended.cancel();
    for task in [following_health, admin] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task ended badly");
        }
    }
}

fn registry(engine: &Arc<Engine>, streams: Gauge) -> Registry {
    let mut registry = Registry::default();
    registry.register(FORWARDING_STREAMS, "Streams from sidecars that are open", streams);
    let datasets = engine.clone();
    registry.register_collector(Box::new(EngineCollector {
        rollups: Some(engine.rollups.clone()),
        touched: None,
        datasets: Box::new(move || datasets.datasets()),
    }));
    registry
}
