//! The echo server: connections served as `tallyman_sidecar::server` serves its own, with a method that answers at once.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Result;
use futures::future::{Ready, ready};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::server::UnaryService;
use tonic_prost::ProstCodec;

use super::Payload;

/// Serves until the process ends.
pub async fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    let builder = connections();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let builder = builder.clone();
        tokio::spawn(async move {
            // A client that goes away is its own business.
            drop(builder.serve_connection(TokioIo::new(stream), EchoService).await);
        });
    }
}

/// The settings of the sidecar's API connections: keep the two alike.
fn connections() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(60));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(4_096)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

#[derive(Clone, Copy)]
struct EchoService;

impl Service<Request<Incoming>> for EchoService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Payload, Payload>::default());
            Ok(grpc.unary(EchoMethod, request).await)
        })
    }
}

struct EchoMethod;

impl UnaryService<Payload> for EchoMethod {
    type Response = Payload;
    type Future = Ready<Result<tonic::Response<Payload>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Payload>) -> Self::Future {
        ready(Ok(tonic::Response::new(request.into_inner())))
    }
}
