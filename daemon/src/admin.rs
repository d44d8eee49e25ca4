//! The admin pages: is the process alive, is it ready, how is it doing.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::connections::{Connections, HEADERS_TIMEOUT};
use crate::readiness::{Readiness, Report};

/// Connections of the admin pages at once.
const CONNECTIONS_MAX: usize = 64;
/// How long requests may take once the pages have stopped; they wait for nothing.
const DRAIN: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages show.
#[derive(Clone)]
pub struct Admin {
    /// Asked for `/readyz`.
    pub readiness: Arc<Readiness>,
    /// Written for `/metrics`.
    pub registry: Arc<Registry>,
    /// Cancelled once the process stops: from then on it is not ready, whatever the readiness says.
    pub stop: CancellationToken,
}

impl hyper::service::Service<Request<Incoming>> for Admin {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (path, query) = (request.uri().path(), request.uri().query());
        let response = match path {
            _ if *request.method() != Method::GET && *request.method() != Method::HEAD => {
                let mut response = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is allowed here\n".to_owned());
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
            "/livez" => page(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => self.readyz(wants_json(query, request.headers())),
            "/metrics" => self.metrics(),
            _ => {
                let text = format!("there is nothing at {path}; known are /livez, /readyz and /metrics\n");
                page(StatusCode::NOT_FOUND, TEXT, text)
            }
        };
        ready(Ok(response))
    }
}

impl Admin {
    /// Answers on `listener` until `ended`, which comes after the process has stopped: the pages answer to the last.
    pub async fn serve(self, listener: TcpListener, ended: CancellationToken) {
        let mut builder = Builder::new(TokioExecutor::new()).http1_only();
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
        let connections = Connections {
            builder,
            permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            open: Gauge::default(),
            drain: DRAIN,
        };
        connections.accept(listener, self, ended).await;
    }

    fn report(&self) -> Report {
        let stopping = self.stop.is_cancelled().then(|| "the server is stopping".to_owned());
        self.readiness.report().and("serving", stopping)
    }

    fn readyz(&self, as_json: bool) -> Response<Body> {
        let report = self.report();
        let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        if as_json && let Ok(text) = serde_json::to_string(&report) {
            return page(status, JSON, text);
        }
        page(status, TEXT, report.to_string())
    }

    fn metrics(&self) -> Response<Body> {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => page(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("cannot write the metrics: {error}\n")),
        }
    }
}

fn wants_json(query: Option<&str>, headers: &HeaderMap) -> bool {
    let asked = query.is_some_and(|query| query.split('&').any(|parameter| parameter == "format=json"));
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    asked || accept.is_some_and(|accept| accept.contains(JSON))
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
