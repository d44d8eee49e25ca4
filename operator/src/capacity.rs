//! The capacity plan: from the load that a CounterNamespace declares to its settings, each with its arithmetic. Pure.
//!
//! What the spec sets wins; without a workload, the defaults stand. docs/capacity.md names the source of every figure.

mod cache;
mod events;
pub mod figures;
mod load;
mod rollup;
mod sizes;
#[cfg(test)]
mod tests;

use std::fmt;

use tallyman_crds::counter_namespace::PlanStatus;
use tallyman_crds::resources::Resources;
use tallyman_crds::{CounterNamespaceSpec, CounterType, Duration, Quantity};

use load::Load;
pub use sizes::memcached_memory_within;

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
    let load = Load::of(spec);
    let mut notes = Vec::new();
    let durable = spec.counter_type != CounterType::BestEffort;
    let events = durable.then(|| events::plan(spec, &load, dataset_of));
    let rollup = durable.then(|| rollup::plan(spec, &load, &mut notes));
    let cache = cache::plan(spec, &load, &mut notes);
    let buckets = events.as_ref().map(|events| events.buckets_per_id.value);
    notes.extend(buckets.and_then(|buckets| load.of_cassandra(spec.counter_type, buckets)));
    Plan { events, rollup, cache, notes }
}

impl<T> Choice<T> {
    fn new(value: T, origin: Origin, reason: impl Into<String>) -> Self {
        Self { value, origin, reason: reason.into() }
    }

    fn of_spec(value: T, field: &str) -> Self {
        Self::new(value, Origin::Spec, format!("spec.{field} sets it"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spec => "spec",
            Self::Workload => "workload",
            Self::Default => "default",
            Self::Dataset => "dataset",
        })
    }
}

/// A setting as it is shown: its name, its value, what it follows from and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The field of the spec that would set it.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// What it follows from.
    pub origin: Origin,
    /// The arithmetic.
    pub reason: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.setting, self.value, self.reason)
    }
}

impl Line {
    fn new<T: fmt::Display>(setting: &'static str, choice: &Choice<T>) -> Self {
        let Choice { value, origin, reason } = choice;
        Self { setting, value: value.to_string(), origin: *origin, reason: reason.clone() }
    }

    fn of_resources(setting: &'static str, choice: &Choice<Resources>) -> Self {
        let Choice { value, origin, reason } = choice;
        Self { setting, value: sizes::shown(value), origin: *origin, reason: reason.clone() }
    }
}

impl Plan {
    /// Every setting with its arithmetic, in the order of the spec.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let Self { events, rollup, cache, notes: _ } = self;
        let events = events.iter().flat_map(|events| {
            [
                Line::new("eventStore.bucketsPerId", &events.buckets_per_id),
                Line::new("eventStore.bucketWidth", &events.bucket_width),
                Line::new("eventStore.sliceWidth", &events.slice_width),
            ]
        });
        let rollup = rollup.iter().flat_map(|rollup| {
            [
                Line::new("rollup.replicas", &rollup.replicas),
                Line::new("rollup.numQueues", &rollup.num_queues),
                Line::of_resources("rollup.resources", &rollup.resources),
            ]
        });
        let cache = [
            Line::new("cache.replicas", &cache.replicas),
            Line::new("cache.shards", &cache.shards),
            Line::new("cache.memory", &cache.memory),
            Line::of_resources("cache.resources", &cache.resources),
        ];
        events.chain(rollup).chain(cache).collect()
    }

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
