//! What the webhook tells of itself.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Requests answered, by path and outcome; shown as `…_total`.
pub const REQUESTS: &str = "tallyman_webhook_requests";
/// When the certificate ends that the webhook shows, in seconds since 1970; 0 while there is none.
pub const CERTIFICATE_NOT_AFTER: &str = "tallyman_webhook_certificate_not_after_seconds";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    path: &'static str,
    outcome: &'static str,
}

/// The webhook's metrics, registered once per process.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    requests: Family<Labels, Counter>,
    certificate_not_after: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// Shows them.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(REQUESTS, "Requests answered, by path and outcome", metrics.requests.clone());
        registry.register(
            CERTIFICATE_NOT_AFTER,
            "When the certificate of the webhook ends, in seconds since 1970; 0 while there is none",
            metrics.certificate_not_after.clone(),
        );
        metrics
    }

    /// To be set to the end of the certificate that is shown.
    #[must_use]
    pub fn certificate_not_after(&self) -> Gauge<i64, AtomicI64> {
        self.certificate_not_after.clone()
    }

    pub(super) fn answered(&self, path: &'static str, outcome: &'static str) {
        self.requests.get_or_create(&Labels { path, outcome }).inc();
    }

    #[cfg(test)]
    pub(super) fn count(&self, path: &'static str, outcome: &'static str) -> u64 {
        self.requests.get_or_create(&Labels { path, outcome }).get()
    }
}
