//! One span per request, for whoever exports traces: what was called, in which namespace, and how it ended.
//!
//! The spans have a target of their own, [`TARGET`], so that a process that exports none can leave them off: then a request
//! pays for one look at whether its span is wanted, and nothing is allocated. Attributes are named by OpenTelemetry's
//! semantic conventions. Names of counters, tokens, and paths and messages, which contain them, are in no attribute: they say
//! whom a count is about, and there are too many of them for an index. Neither is a namespace that is not served here, which
//! can be any text.

use http::HeaderMap;
use opentelemetry::global;
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::TraceContextExt;
use tallyman_api::status::Status;
use tonic::Code;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::metrics::Method;

/// The target of the spans; their level is DEBUG.
pub const TARGET: &str = tallyman_daemon::telemetry::REQUESTS;

/// The service of [`tallyman_api::proto::counter_service_server`].
const SERVICE: &str = "tallyman.v1.CounterService";

/// How a method was called.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub transport: Transport<'a>,
    pub headers: &'a HeaderMap,
}

/// What a method was called by.
#[derive(Clone, Copy)]
pub(crate) enum Transport<'a> {
    Grpc,
    /// With the path's pattern.
    HttpJson {
        method: &'a http::Method,
        route: &'static str,
    },
}

/// A request's span, if anybody wants it. Dropped before its end, the request was cancelled by the client.
pub(crate) struct RequestSpan {
    span: Span,
    code: Code,
}

impl RequestSpan {
    /// Begins a span; `namespace` answers the namespace if it is served here, and is asked only if the span is wanted.
    pub fn begin<'a>(method: Method, call: Call<'_>, namespace: impl FnOnce() -> Option<&'a str>) -> Self {
        let name = method.name();
        let span = match call.transport {
            Transport::Grpc => tracing::debug_span!(
                target: TARGET,
                parent: None,
                "request",
                otel.name = name,
                otel.kind = "server",
                otel.status_code = Empty,
                rpc.system = "grpc",
                rpc.service = SERVICE,
                rpc.method = name,
                rpc.grpc.status_code = Empty,
                tallyman.namespace = Empty,
            ),
            Transport::HttpJson { method, route } => tracing::debug_span!(
                target: TARGET,
                parent: None,
                "request",
                otel.name = name,
                otel.kind = "server",
                otel.status_code = Empty,
                http.request.method = method.as_str(),
                http.route = route,
                http.response.status_code = Empty,
                rpc.grpc.status_code = Empty,
                tallyman.namespace = Empty,
            ),
        };
        if !span.is_disabled() {
            if let Some(namespace) = namespace() {
                span.record("tallyman.namespace", namespace);
            }
            let parent = global::get_text_map_propagator(|propagator| propagator.extract(&Headers(call.headers)));
            // Without a `traceparent`, or with one that is malformed, the request begins a trace of its own.
            if parent.has_active_span()
                && let Err(error) = span.set_parent(parent)
            {
                tracing::debug!(%error, "a request's span has no parent: nobody exports it");
            }
        }
        Self { span, code: Code::Cancelled }
    }

    /// The first of the response is on its way. Of gRPC's there is nothing to tell.
    pub fn responded(&self, response: Result<(), &Status>) {
        if !self.span.is_disabled() {
            let http = response.err().map_or(http::StatusCode::OK, Status::http);
            self.span.record("http.response.status_code", i64::from(http.as_u16()));
        }
    }

    /// The request is answered to the end.
    pub fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if self.span.is_disabled() {
            return;
        }
        self.span.record("rpc.grpc.status_code", self.code as i64);
        if is_the_servers_fault(self.code) {
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

/// The codes that the conventions count as errors of a server; over HTTP they are the 5xx.
fn is_the_servers_fault(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

/// Where a caller's trace context is read from.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
