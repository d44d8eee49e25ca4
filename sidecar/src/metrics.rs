//! What the API tells of itself. Every handle that a request needs is resolved beforehand: no label is looked up on its way.

use std::sync::{Arc, OnceLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;
use tonic::Code;

/// Requests answered, by method and code; shown as `…_total`.
pub const REQUESTS: &str = "tallyman_api_requests";
/// How long requests took, in seconds, by method; without watches, which last as long as their client wants.
pub const REQUEST_DURATION_SECONDS: &str = "tallyman_api_request_duration_seconds";
/// Requests under way now, watches included.
pub const REQUESTS_IN_FLIGHT: &str = "tallyman_api_requests_in_flight";
/// Connections open now.
pub const CONNECTIONS: &str = "tallyman_api_connections";

/// Upper bounds of the latency buckets, in seconds.
const BUCKETS_SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// gRPC has the codes 0 to 16.
const CODES: usize = 17;

/// A method of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Add,
    AddAndGet,
    Get,
    Clear,
    BatchAdd,
    BatchGet,
    Watch,
}

impl Method {
    /// In the order of their discriminants.
    const ALL: [Self; 7] =
        [Self::Add, Self::AddAndGet, Self::Get, Self::Clear, Self::BatchAdd, Self::BatchGet, Self::Watch];

    /// The method's name in the API's definition.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "AddCount",
            Self::AddAndGet => "AddAndGetCount",
            Self::Get => "GetCount",
            Self::Clear => "ClearCount",
            Self::BatchAdd => "BatchAddCount",
            Self::BatchGet => "BatchGetCount",
            Self::Watch => "WatchCount",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    code: String,
}

/// The API's metrics, registered once per process.
#[derive(Debug)]
pub struct ApiMetrics {
    methods: [MethodMetrics; Method::ALL.len()],
    requests: Family<RequestLabels, Counter>,
    in_flight: Gauge,
    pub(crate) connections: Gauge,
}

#[derive(Debug)]
struct MethodMetrics {
    duration: Histogram,
    /// By code; a series begins with its first request.
    requests: [OnceLock<Counter>; CODES],
}

impl ApiMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        let requests = Family::default();
        let durations: Family<MethodLabel, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS_SECONDS));
        let (in_flight, connections) = (Gauge::default(), Gauge::default());
        registry.register(REQUESTS, "Requests answered, by method and code", requests.clone());
        registry.register(
            REQUEST_DURATION_SECONDS,
            "How long requests took, in seconds, by method; without watches",
            durations.clone(),
        );
        registry.register(REQUESTS_IN_FLIGHT, "Requests under way, watches included", in_flight.clone());
        registry.register(CONNECTIONS, "Connections open", connections.clone());
        let methods = Method::ALL.map(|method| MethodMetrics {
            duration: durations.get_or_create_owned(&MethodLabel { method: method.name() }),
            requests: Default::default(),
        });
        Arc::new(Self { methods, requests, in_flight, connections })
    }

    /// A request begins.
    pub(crate) fn begin(self: &Arc<Self>, method: Method) -> Measurement {
        self.in_flight.inc();
        Measurement { metrics: self.clone(), method, begun: Instant::now(), code: Code::Cancelled }
    }
}

/// A request under way. Dropped before its end, it was cancelled by the client.
pub(crate) struct Measurement {
    metrics: Arc<ApiMetrics>,
    method: Method,
    begun: Instant,
    code: Code,
}

impl Measurement {
    /// The request is answered.
    pub fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Measurement {
    fn drop(&mut self) {
        let ApiMetrics { methods, requests, in_flight, .. } = &*self.metrics;
        in_flight.dec();
        let metrics = &methods[self.method as usize];
        let labels = || RequestLabels { method: self.method.name(), code: format!("{:?}", self.code) };
        metrics.requests[self.code as usize].get_or_init(|| requests.get_or_create_owned(&labels())).inc();
        if self.method != Method::Watch {
            metrics.duration.observe(self.begun.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_method_and_code_and_dropped_ones_as_cancelled() {
        let mut registry = Registry::default();
        let metrics = ApiMetrics::register(&mut registry);
        metrics.begin(Method::Add).end(Code::Ok);
        metrics.begin(Method::Add).end(Code::Unauthenticated);
        drop(metrics.begin(Method::Watch));
        let under_way = metrics.begin(Method::Get);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"tallyman_api_requests_total{method="AddCount",code="Ok"} 1"#,
            r#"tallyman_api_requests_total{method="AddCount",code="Unauthenticated"} 1"#,
            r#"tallyman_api_requests_total{method="WatchCount",code="Cancelled"} 1"#,
            r#"tallyman_api_request_duration_seconds_count{method="AddCount"} 2"#,
            r#"tallyman_api_request_duration_seconds_count{method="WatchCount"} 0"#,
            "tallyman_api_requests_in_flight 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        under_way.end(Code::Ok);
    }

    #[test]
    fn methods_lie_in_the_order_of_their_discriminants() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, index);
        }
    }
}
