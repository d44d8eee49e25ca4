//! What the operator tells Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tallyman_counter::model::Timestamp;

/// Bounds of the histogram of reconciles, seconds.
const SECONDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepName {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDataset {
    dataset: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionStatus {
    condition: &'static str,
    status: String,
}

/// The operator's metrics.
#[derive(Debug, Default)]
pub struct Metrics {
    reconciles: Family<Outcome, Counter<u64, AtomicU64>>,
    reconcile_seconds: Seconds,
    writes: Family<Outcome, Counter<u64, AtomicU64>>,
    ddl: Family<StepName, Counter<u64, AtomicU64>>,
    leader: Gauge<i64, AtomicI64>,
    slices_ahead: Family<OfDataset, Gauge<i64, AtomicI64>>,
    slices_overdue: Family<OfDataset, Gauge<i64, AtomicI64>>,
    conditions: Family<ConditionStatus, Gauge<i64, AtomicI64>>,
}

#[derive(Debug, Clone)]
struct Seconds(Histogram);

impl Default for Seconds {
    fn default() -> Self {
        Self(Histogram::new(SECONDS))
    }
}

impl Metrics {
    /// The metrics, told to `registry`.
    #[must_use]
    pub fn registered(registry: &mut Registry) -> Arc<Self> {
        let metrics = Arc::new(Self::default());
        let of = registry.sub_registry_with_prefix("tallyman_operator");
        of.register("reconciles", "Reconciles ended, by kind of resource and result", metrics.reconciles.clone());
        let seconds = metrics.reconcile_seconds.0.clone();
        of.register_with_unit("reconcile", "How long reconciles take", Unit::Seconds, seconds);
        of.register("writes", "Writes to the Kubernetes API, by kind and result", metrics.writes.clone());
        of.register("ddl_statements", "Changes of Cassandra schemas begun, by step", metrics.ddl.clone());
        of.register("leader", "1 while this operator leads, else 0", metrics.leader.clone());
        let ahead = metrics.slices_ahead.clone();
        of.register_with_unit("slices_ahead", "How far ahead of now a dataset's slices reach", Unit::Seconds, ahead);
        let overdue = metrics.slices_overdue.clone();
        of.register(
            "slices_overdue",
            "Slices of a dataset that are past closeAfter and not closed: a sweep cannot finish",
            overdue,
        );
        registry.register(
            "tallyman_counternamespaces",
            "CounterNamespaces, by condition and its status",
            metrics.conditions.clone(),
        );
        metrics
    }

    /// A reconcile of this kind of resource ended.
    pub fn reconciled(&self, kind: &'static str, is_well: bool, took: Duration) {
        let result = if is_well { "ok" } else { "error" };
        self.reconciles.get_or_create(&Outcome { kind, result }).inc();
        self.reconcile_seconds.0.observe(took.as_secs_f64());
    }

    /// Something was written to the Kubernetes API.
    pub fn wrote(&self, kind: &'static str, is_well: bool) {
        let result = if is_well { "ok" } else { "error" };
        self.writes.get_or_create(&Outcome { kind, result }).inc();
    }

    /// A step of a schema was begun.
    pub fn schema_step(&self, step: &'static str) {
        self.ddl.get_or_create(&StepName { step }).inc();
    }

    /// Whether this operator leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// How far a dataset's slices reach.
    pub fn slices_ahead(&self, dataset: &str, newest_end: Option<Timestamp>, now: Timestamp) {
        let ahead = newest_end.map_or(0, |end| (end.as_micros() - now.as_micros()) / 1_000_000);
        self.slices_ahead.get_or_create(&OfDataset { dataset: dataset.to_owned() }).set(ahead);
    }

    /// How many slices of a dataset should be closed and are not.
    pub fn slices_overdue(&self, dataset: &str, overdue: usize) {
        let labels = OfDataset { dataset: dataset.to_owned() };
        self.slices_overdue.get_or_create(&labels).set(i64::try_from(overdue).unwrap_or(i64::MAX));
    }

    /// A dataset is kept no more.
    pub fn dataset_gone(&self, dataset: &str) {
        self.slices_ahead.remove(&OfDataset { dataset: dataset.to_owned() });
        self.slices_overdue.remove(&OfDataset { dataset: dataset.to_owned() });
    }

    /// How many CounterNamespaces have a condition with this status.
    pub fn condition(&self, condition: &'static str, status: &str, count: usize) {
        let labels = ConditionStatus { condition, status: status.to_owned() };
        self.conditions.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_the_operator_has_every_metric() {
        let mut registry = Registry::default();
        let metrics = Metrics::registered(&mut registry);
        metrics.reconciled("CounterNamespace", true, Duration::from_millis(3));
        metrics.wrote("Secret", false);
        metrics.schema_step("create_table");
        metrics.leads(true);
        metrics.slices_ahead("plays", Some(Timestamp::from_micros(90_000_000)), Timestamp::from_micros(30_000_000));
        metrics.slices_overdue("plays", 2);
        metrics.condition("Ready", "True", 3);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("tallyman_operator_slices_ahead_seconds{dataset=\"plays\"} 60"), "{text}");
        let page = include_str!("../../docs/operator.md");
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        for sample in samples {
            let name = sample.split(['{', ' ']).next().unwrap();
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            assert!(page.contains(name), "{name}");
        }
        metrics.dataset_gone("plays");
        text.clear();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(!text.contains("plays"), "{text}");
    }
}
