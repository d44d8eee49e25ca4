//! The capacity plan: from the load that a CounterNamespace declares to its settings, each with its arithmetic. Pure.
//!
//! What the spec sets wins; without a workload, the defaults stand. docs/capacity.md names the source of every figure.

use tallyman_crds::counter_namespace::PlanStatus;
use tallyman_crds::resources::Resources;
use tallyman_crds::{CounterNamespaceSpec, Duration, Quantity};

/// The settings of a CounterNamespace, whatever they follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How events are kept; `None` for BestEffort.
    pub events: Option<Events>,
    /// The rollup servers; `None` for BestEffort.
    pub rollup: Option<Rollup>,
    /// Its own memcached. Not used with a class whose memcached is shared.
    pub cache: Cache,
    /// What the plan would have otherwise than it is set, and what a person should know.
    pub notes: Vec<String>,
}

/// A setting and why it is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<T> {
    /// The setting.
    pub value: T,
    /// What it follows from.
    pub origin: Origin,
    /// The arithmetic, one line.
    pub reason: String,
}

/// What a setting follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The spec sets it.
    Spec,
    /// The workload, by arithmetic.
    Workload,
    /// Neither: the default.
    Default,
    /// The oldest CounterNamespace of the dataset, whose slices all of them share.
    Dataset,
}

/// How the events of a dataset are laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Partitions per counter and time bucket.
    pub buckets_per_id: Choice<i32>,
    /// Length of time that one partition covers; divides the slice width.
    pub bucket_width: Choice<Duration>,
    /// Length of time that one table covers.
    pub slice_width: Choice<Duration>,
}

/// The rollup servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollup {
    /// How many; always the spec's, which an autoscaler may set. The reason says what the load asks for.
    pub replicas: Choice<i32>,
    /// How many the load asks for; `None` without a workload.
    pub replicas_recommended: Option<i32>,
    /// Queues of one server.
    pub num_queues: Choice<i32>,
    /// CPU and memory of one server. A class's defaults come before them, unless the spec sets them.
    pub resources: Choice<Resources>,
}

/// memcached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Copies of the whole cache.
    pub replicas: Choice<i32>,
    /// Servers that one copy is spread over.
    pub shards: Choice<i32>,
    /// Memory of one server for counters.
    pub memory: Choice<Quantity>,
    /// CPU and memory of one server's container. A class's defaults come before them, unless the spec sets them.
    pub resources: Choice<Resources>,
}

/// The plan of a CounterNamespace that has its dataset for itself, or is its oldest.
#[must_use]
pub fn plan(spec: &CounterNamespaceSpec) -> Plan {
    plan_in_dataset(spec, None)
}

/// The plan of a CounterNamespace in the dataset of an older one, by which all lay out their events: `dataset_of` is the spec of
/// the dataset's oldest CounterNamespace, `None` where that is this one.
#[must_use]
pub fn plan_in_dataset(spec: &CounterNamespaceSpec, dataset_of: Option<&CounterNamespaceSpec>) -> Plan {
    let _ = (spec, dataset_of);
    unimplemented!()
}

impl Plan {
    /// The plan as the resource's status shows it.
    #[must_use]
    pub fn status(&self) -> PlanStatus {
        PlanStatus {
            buckets_per_id: self.events.as_ref().map(|events| events.buckets_per_id.value),
            bucket_width: self.events.as_ref().map(|events| events.bucket_width.value),
            slice_width: self.events.as_ref().map(|events| events.slice_width.value),
            num_queues: self.rollup.as_ref().map(|rollup| rollup.num_queues.value),
            cache_replicas: Some(self.cache.replicas.value),
            cache_shards: Some(self.cache.shards.value),
            cache_memory: Some(self.cache.memory.value),
        }
    }
}
