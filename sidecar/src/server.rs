//! The server: connections on every listener, and their end when the process stops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::registry::Registry;
use tallyman_counter::service::CounterService;
use tallyman_daemon::admin::Admin;
use tallyman_daemon::connections::{Connections, HEADERS_TIMEOUT, Listener};
use tallyman_daemon::health;
use tallyman_daemon::readiness::Readiness;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatch;
use crate::grpc::Grpc;
use crate::listeners::{Listeners, UnixSocket};
use crate::methods::Api;
use crate::metrics::ApiMetrics;

/// What gRPC health tells of: the whole server, and the API.
const SERVICES: &[&str] = &["", "tallyman.v1.CounterService"];

/// Connections of the API at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// Requests of one HTTP/2 connection at once. The engine bounds what is in flight over all connections.
const STREAMS_MAX: u32 = 4_096;
/// Calls that a client has cancelled before they were looked at, as clients that hedge do. Beyond it the connection is ended,
/// with all its other calls: it bounds what an attacker may waste, not what a client may change its mind about.
const RESETS_PENDING_MAX: usize = STREAMS_MAX as usize;
/// A full batch fits into a stream's window, so that no request waits for a round trip.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// An HTTP/2 connection without traffic is asked for a sign of life, and closed without one.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A process's API and admin pages.
pub struct Server {
    service: Arc<CounterService>,
    metrics: Arc<ApiMetrics>,
    readiness: Readiness,
    registry: Registry,
    /// How long requests under way may take once the server stops.
    drain: Duration,
}

impl Server {
    /// A server of `service`. The admin pages show `readiness` and `registry`; `metrics` are registered there. Requests
    /// that are under way when it stops may take `drain` longer.
    #[must_use]
    pub fn new(
        service: Arc<CounterService>,
        metrics: Arc<ApiMetrics>,
        readiness: Readiness,
        registry: Registry,
        drain: Duration,
    ) -> Self {
        Self { service, metrics, readiness, registry, drain }
    }

    /// Serves until `shutdown` is there. Then nothing more is accepted, watches end, requests under way are answered or, at
    /// the end of the drain, cut off; the admin pages answer to the last.
    pub async fn serve(self, listeners: Listeners, shutdown: impl Future<Output = ()>) {
        let Self { service, metrics, readiness, registry, drain } = self;
        let Listeners { api: tcp, unix_socket, admin: admin_tcp, .. } = listeners;
        let stop = CancellationToken::new();
        let readiness = Arc::new(readiness);

        let (reporter, health_server) = tonic_health::server::health_reporter();
        let api = Arc::new(Api::new(service, metrics.clone(), stop.clone()));
        let dispatch = Dispatch { grpc: Grpc::new(api.clone(), health_server), api };
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let connections = Connections { builder: api_connections(), permits, open: metrics.connections.clone(), drain };
        let mut api_tasks = JoinSet::new();
        api_tasks.spawn(health::follow(SERVICES, readiness.clone(), reporter, stop.clone()));
        api_tasks.spawn(connections.clone().accept(tcp, dispatch.clone(), stop.clone()));
        if let Some(socket) = unix_socket {
            api_tasks.spawn(connections.accept(socket, dispatch, stop.clone()));
        }

        let admin = Admin { readiness, registry: Arc::new(registry), stop: stop.clone() };
        let admin_stop = CancellationToken::new();
        let mut admin_tasks = JoinSet::new();
        admin_tasks.spawn(admin.serve(admin_tcp, admin_stop.clone()));

        shutdown.await;
        stop.cancel();
        api_tasks.join_all().await;
        admin_stop.cancel();
        admin_tasks.join_all().await;
    }
}

fn api_connections() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

impl Listener for UnixSocket {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}
