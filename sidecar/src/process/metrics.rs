//! What the process tells Prometheus of its namespaces, gathered when it is asked.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tallyman_counter::configuration::Loaded;
use tokio::sync::watch;

use super::engine::{Engine, is_accepting};

/// Documents, and namespaces in right ones, that are refused now.
const CONFIGURATION_PROBLEMS: &str = "tallyman_configuration_problems";
/// By namespace: 1 while it is served, 0 while its mutations are refused.
const NAMESPACE_ACCEPTING: &str = "tallyman_namespace_accepting";

/// Where the numbers come from.
pub struct NamespaceCollector {
    /// What is served.
    pub engine: Arc<Engine>,
    /// What is configured.
    pub loaded: watch::Receiver<Arc<Loaded>>,
}

impl fmt::Debug for NamespaceCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceCollector").finish_non_exhaustive()
    }
}

impl Collector for NamespaceCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let refused = self.engine.refused();
        let problems = self.loaded.borrow().problems.len() + refused.len();
        let problems = ConstGauge::new(i64::try_from(problems).unwrap_or(i64::MAX));
        let help = "Documents that are wrong, and namespaces that this process cannot serve as they are configured";
        problems.encode(encoder.encode_descriptor(CONFIGURATION_PROBLEMS, help, None, MetricType::Gauge)?)?;

        let served = self.engine.service.namespaces();
        let served = served.iter().map(|namespace| (namespace.name(), is_accepting(namespace)));
        let refused = refused.iter().filter(|refused| !refused.has_fallback).map(|refused| (&refused.namespace, false));
        let help = "1 while a namespace's mutations are accepted, 0 while they are refused: /readyz says why";
        let mut family = encoder.encode_descriptor(NAMESPACE_ACCEPTING, help, None, MetricType::Gauge)?;
        for (namespace, is_accepting) in served.chain(refused) {
            let labels = [("namespace", namespace.as_str())];
            ConstGauge::new(i64::from(is_accepting)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
