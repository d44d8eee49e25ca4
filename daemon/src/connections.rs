//! Listeners, connections, and their end when the process stops.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

/// How long an HTTP/1 connection may be idle, or take to send its headers.
pub const HEADERS_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause after a failed accept: most often the process is out of file descriptors, and trying on burns the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}: {source}")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What for.
    pub purpose: &'static str,
    /// Why not.
    pub source: io::Error,
}

/// Listens on `address`, and answers the address with the port it got. `purpose` is for messages.
///
/// # Errors
/// When the operating system refuses.
pub async fn bind(address: SocketAddr, purpose: &'static str) -> Result<(TcpListener, SocketAddr), BindError> {
    let refused = |source| BindError { address, purpose, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

/// What connections come from.
pub trait Listener: Send + 'static {
    /// A connection.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next connection.
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

/// How the connections of a listener are served.
#[derive(Clone)]
pub struct Connections {
    /// How HTTP is spoken.
    pub builder: Builder<TokioExecutor>,
    /// One per connection, shared by listeners.
    pub permits: Arc<Semaphore>,
    /// Shows how many are open.
    pub open: Gauge,
    /// How long they may take to end once the process stops.
    pub drain: Duration,
}

impl Connections {
    /// Accepts until `stop`, then waits for the connections to end; those that outlive the drain are cut off.
    pub async fn accept<L, S>(self, listener: L, service: S, stop: CancellationToken)
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
