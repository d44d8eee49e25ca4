//! The server: connections on every listener, and their end when the process stops.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tallyman_counter::service::CounterService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::admin::Admin;
use crate::dispatch::Dispatch;
use crate::grpc::Grpc;
use crate::health;
use crate::listeners::{Listeners, UnixSocket};
use crate::methods::Api;
use crate::metrics::ApiMetrics;
use crate::readiness::Readiness;

/// Connections of the API at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// Connections of the admin pages at once.
const ADMIN_CONNECTIONS_MAX: usize = 64;
/// How long the admin pages' requests may take once the server has stopped; they wait for nothing.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);
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
/// How long an HTTP/1 connection may be idle, or take to send its headers.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause after a failed accept: most often the process is out of file descriptors, and trying on burns the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
        api_tasks.spawn(health::follow(readiness.clone(), reporter, stop.clone()));
        api_tasks.spawn(connections.clone().accept(tcp, dispatch.clone(), stop.clone()));
        if let Some(socket) = unix_socket {
            api_tasks.spawn(connections.accept(socket, dispatch, stop.clone()));
        }

        let admin = Admin { readiness, registry: Arc::new(registry), stop: stop.clone() };
        let admin_stop = CancellationToken::new();
        let connections = Connections {
            builder: admin_connections(),
            permits: Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX)),
            open: Gauge::default(),
            drain: ADMIN_DRAIN,
        };
        let mut admin_tasks = JoinSet::new();
        admin_tasks.spawn(connections.accept(admin_tcp, admin, admin_stop.clone()));

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

fn admin_connections() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
    builder
}

/// What connections come from.
trait Listener: Send + 'static {
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Listener for TcpListener {
    type Connection = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        // Replies are small and awaited; holding one back to fill a packet only delays it.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before it was served");
        }
        Ok(stream)
    }
}

impl Listener for UnixSocket {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// How the connections of a listener are served.
#[derive(Clone)]
struct Connections {
    builder: Builder<TokioExecutor>,
    /// One per connection, shared by listeners.
    permits: Arc<Semaphore>,
    open: Gauge,
    drain: Duration,
}

impl Connections {
    /// Accepts until `stop`, then waits for the connections to end; those that outlive the drain are cut off.
    async fn accept<L, S>(self, listener: L, service: S, stop: CancellationToken)
    where
        L: Listener,
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
    {
        let mut tasks = JoinSet::new();
        loop {
            let accepted = async {
                let permit = match self.permits.clone().acquire_owned().await {
                    Ok(permit) => permit,
                    // Nobody closes it.
                    Err(_) => pending().await,
                };
                (permit, listener.accept().await)
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = tasks.join_next() => {}
                (permit, accepted) = accepted => match accepted {
                    Ok(stream) => {
                        let serving = self.clone().serve(stream, service.clone(), stop.clone());
                        tasks.spawn(async move {
                            serving.await;
                            drop(permit);
                        });
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
        // Nobody gets in from here on.
        drop(listener);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.drain, ended).await.is_err() && !tasks.is_empty() {
            tracing::warn!(connections = tasks.len(), "connections outlived the drain and are cut off");
            tasks.shutdown().await;
        }
    }

    /// Serves one connection until it ends; after `stop` it ends with the requests it has.
    async fn serve<C, S>(self, stream: C, service: S, stop: CancellationToken)
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        S::Future: Send + 'static,
    {
        self.open.inc();
        let _open = Open(&self.open);
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // A client that goes away is its own business.
            tracing::debug!(%error, "a connection ended");
        }
    }
}

/// Counts a connection as closed, however it ends.
struct Open<'a>(&'a Gauge);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
