//! A namespace at work: its configuration with the stores that it names opened.

use std::sync::Arc;
use std::time::Duration;

use crate::configuration::{Accuracy, Durable, NamespaceConfiguration};
use crate::dataset::Dataset;
use crate::model::NamespaceName;
use crate::store::{BestEffortStore, RollupCache};

/// A namespace with its stores.
#[derive(Clone)]
pub struct Namespace {
    /// What it was made from.
    pub configuration: Arc<NamespaceConfiguration>,
    /// How it counts.
    pub counting: NamespaceStores,
}

/// The stores of a namespace.
#[derive(Clone)]
pub enum NamespaceStores {
    /// A best-effort namespace's.
    BestEffort(BestEffortNamespace),
    /// An eventual or accurate namespace's.
    Durable(Box<DurableNamespace>),
}

/// A best-effort namespace.
#[derive(Clone)]
pub struct BestEffortNamespace {
    /// Where it counts.
    pub store: Arc<dyn BestEffortStore>,
    /// How long a counter lives from its creation.
    pub ttl: Duration,
}

/// An eventual or accurate namespace.
#[derive(Clone)]
pub struct DurableNamespace {
    /// Its settings.
    pub settings: Durable,
    /// Its dataset.
    pub dataset: Arc<Dataset>,
    /// Its cache, if it has one.
    pub cache: Option<Arc<dyn RollupCache>>,
}

impl Namespace {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &NamespaceName {
        &self.configuration.namespace
    }

    /// The durable side, if it is an eventual or accurate namespace.
    #[must_use]
    pub fn durable(&self) -> Option<&DurableNamespace> {
        match &self.counting {
            NamespaceStores::BestEffort(_) => None,
            NamespaceStores::Durable(durable) => Some(durable),
        }
    }
}

impl DurableNamespace {
    /// Whether reads include what is not rolled up yet.
    #[must_use]
    pub fn is_accurate(&self) -> bool {
        self.settings.accuracy == Accuracy::Accurate
    }
}
