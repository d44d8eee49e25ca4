//! CounterNamespace: a set of counters with one configuration.
//!
//! Types, defaults, bounds and rules only. What a rule forbids to change is what would lose or hide counts:
//!
//! - `counterType`: the three types keep their counts in different places; a change would start again from 0.
//! - `dataset`, `className`: they say where the events are; a change would leave them behind.
//! - `cache.shards` of BestEffort: there the cache is the only place, and a key that moves to another shard is lost.
//!
//! Everything else may change. The event store's settings belong to slices, each of which keeps the settings it
//! was created with, and the rest (cardinality, queues, replicas, retention, ttl) moves no count.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resources::Resources;
use crate::{Duration, Quantity, duration};

/// Longest name of a CounterNamespace; what is derived from it still fits names of Services and keyspaces.
pub const NAME_LENGTH_MAX: usize = 40;

/// Cassandra's own keyspaces, which no dataset may be. The engine has the same list.
pub const RESERVED_DATASETS: [&str; 7] = [
    "system",
    "system_auth",
    "system_distributed",
    "system_schema",
    "system_traces",
    "system_views",
    "system_virtual_schema",
];

/// Words that are names in CQL only where they are quoted, which no dataset may be. The engine has the same list.
#[rustfmt::skip]
pub const RESERVED_WORDS: [&str; 62] = [
    "add", "allow", "alter", "and", "apply", "asc", "authorize", "batch", "begin", "by", "columnfamily", "create",
    "default", "delete", "desc", "describe", "drop", "entries", "execute", "from", "full", "grant", "if", "in",
    "index", "infinity", "insert", "into", "is", "keyspace", "limit", "materialized", "mbean", "mbeans", "modify",
    "nan", "norecursive", "not", "null", "of", "on", "or", "order", "primary", "rename", "replace", "revoke", "schema",
    "select", "set", "table", "to", "token", "truncate", "unlogged", "unset", "update", "use", "using", "view",
    "where", "with",
];

/// A list of texts in CEL.
fn cel_list(texts: &[&str]) -> String {
    format!("['{}']", texts.join("', '"))
}

/// What an application team declares: how a set of counters behaves and what load to plan for.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::duplicated_attributes, reason = "each printer column has its own `type_`")]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    kind = "CounterNamespace",
    plural = "counternamespaces",
    shortname = "cns",
    category = "tallyman",
    namespaced,
    status = "CounterNamespaceStatus",
    derive = "PartialEq",
    cel,
    doc = "A set of counters with one configuration. Applications adjust and read the counters of a CounterNamespace through the sidecar on localhost.",
    scale(
        spec_replicas_path = ".spec.rollup.replicas",
        status_replicas_path = ".status.rollup.replicas",
        label_selector_path = ".status.rollup.selector"
    ),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.counterType"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Rollup", type_ = "integer", json_path = ".status.rollup.replicas"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.className", priority = 1),
    printcolumn(name = "Dataset", type_ = "string", json_path = ".spec.dataset", priority = 1),
    printcolumn(name = "Cardinality", type_ = "string", json_path = ".spec.cardinality", priority = 1),
    printcolumn(name = "Paused", type_ = "boolean", json_path = ".spec.paused", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // The API server allows no fieldPath into metadata: the messages name the field.
    validation = Rule::new("size(self.metadata.name) <= 40")
        .message("metadata.name must be at most 40 characters long"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be lower-case letters, digits and '-', begin with a letter, end with a letter or digit and have no dots: Services are named after it"),
    validation = Rule::new(format!("has(self.spec.dataset) || !(self.metadata.name.replace('-', '_') in {})", cel_list(&RESERVED_DATASETS)))
        .message("metadata.name would make a keyspace of Cassandra's own the dataset; set spec.dataset or choose another name"),
    // A BestEffort namespace has no dataset. No reserved word has a '_'.
    validation = Rule::new(format!("has(self.spec.dataset) || self.spec.counterType == 'BestEffort' || !(self.metadata.name in {})", cel_list(&RESERVED_WORDS)))
        .message("metadata.name would make a word that CQL reserves the dataset; set spec.dataset or choose another name")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.counterType == oldSelf.counterType")
        .message("counterType cannot change: each type keeps its counts elsewhere; create another CounterNamespace")
        .field_path(".counterType"),
    validation = Rule::new("has(self.dataset) == has(oldSelf.dataset) && (!has(self.dataset) || self.dataset == oldSelf.dataset)")
        .message("dataset cannot be changed, set or unset later: the counters' events would be left behind")
        .field_path(".dataset"),
    validation = Rule::new("has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className)")
        .message("className cannot be changed, set or unset later: the counters' events would be left behind")
        .field_path(".className"),
    validation = Rule::new("self.counterType != 'BestEffort' || (has(self.cache) && has(self.cache.shards) ? self.cache.shards : 0) == (has(oldSelf.cache) && has(oldSelf.cache.shards) ? oldSelf.cache.shards : 0)")
        .message("cache.shards of a BestEffort namespace cannot be changed, set or unset later: counts of the keys that move would be lost")
        .field_path(".cache.shards"),
    validation = Rule::new("!has(self.ttl) || self.counterType == 'BestEffort'")
        .message("ttl is for counterType BestEffort only; Eventual and Accurate counters do not expire")
        .field_path(".ttl"),
    validation = Rule::new("!has(self.eventStore) || self.counterType != 'BestEffort'")
        .message("eventStore is for counterType Eventual and Accurate only; BestEffort counters keep no events")
        .field_path(".eventStore"),
    // The API server fills rollup in, because the scale subresource needs replicas; so its presence says nothing.
    validation = Rule::new("self.counterType != 'BestEffort' || (self.rollup.replicas == 2 && !has(self.rollup.numQueues) && duration(self.rollup.coalesce) == duration('10s') && quantity(self.rollup.queueCapacity).compareTo(quantity('16Mi')) == 0 && self.rollup.batchCount == 32 && !has(self.rollup.resources))")
        .message("rollup is for counterType Eventual and Accurate only; leave it out, BestEffort counters are not rolled up")
        .field_path(".rollup")
)]
pub struct CounterNamespaceSpec {
    /// How the counters behave. BestEffort: fast, kept in memcached, may lose counts. Eventual: durable, exact
    /// after a few seconds. Accurate: durable, and every read includes all acknowledged changes. Cannot change.
    pub counter_type: CounterType,
    /// How many counters are active at a time. Low: some thousands, which are rolled up all the time. High: many,
    /// which are rolled up after they were touched.
    #[serde(default)]
    pub cardinality: Cardinality,
    /// The CounterClass to use; the class marked as default when absent. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$"))]
    pub class_name: Option<String>,
    /// The load to plan for. Buckets, slices, queues, replicas and memory follow from it where they are not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Workload")]
    pub workload: Option<Workload>,
    /// The keyspace that holds the counters, which several CounterNamespaces of one Kubernetes namespace may
    /// share; when absent, the name of this one with '_' for '-'. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 48), regex(pattern = "^[a-z][a-z0-9_]*$"))]
    #[x_kube(
        validation = Rule::new(format!("!(self in {})", cel_list(&RESERVED_DATASETS))).message("dataset must not be a keyspace of Cassandra's own"),
        validation = Rule::new(format!("!(self in {})", cel_list(&RESERVED_WORDS))).message("dataset must not be a word that CQL reserves, such as index")
    )]
    pub dataset: Option<String>,
    /// BestEffort only: how long a counter lives from its creation, 1s to 720h (30 days); 1h when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    // memcached takes more than 30 days for a point in time.
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('720h')").message("ttl must be between 1s and 720h"))]
    pub ttl: Option<Duration>,
    /// Eventual and Accurate only: how events are kept. A change applies to the first slice not yet created.
    /// CounterNamespaces that share a dataset must agree here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EventStore")]
    pub event_store: Option<EventStore>,
    /// Eventual and Accurate only: the servers that aggregate events into counts.
    #[serde(default)]
    pub rollup: Rollup,
    /// The memcached cluster: the counts themselves of BestEffort, a cache of counts otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Cache")]
    pub cache: Option<Cache>,
    /// What becomes of the counters' tables when this resource is deleted. Retain keeps them.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// True stops the operator from changing anything but the creation of slices; counting goes on.
    #[serde(default)]
    pub paused: bool,
}

/// How the counters of a namespace behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CounterType {
    /// In memcached alone: fast, expires, may lose counts.
    BestEffort,
    /// Events and rollups: durable, exact after a few seconds.
    Eventual,
    /// As Eventual, and every read includes all acknowledged changes.
    Accurate,
}

/// How many counters are active at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Cardinality {
    /// Few: always in circulation.
    Low,
    /// Many: rolled up when touched. The default, as it is right for any number of counters.
    #[default]
    High,
}

/// What becomes of the tables when the resource is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay.
    #[default]
    Retain,
    /// The counters' rows go; the tables go with the dataset's last CounterNamespace.
    Delete,
}

/// The load to plan for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// Adds and clears a second, over all counters, at peak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = 100_000_000))]
    pub writes_per_second: Option<i64>,
    /// Reads a second, over all counters, at peak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = 100_000_000))]
    pub reads_per_second: Option<i64>,
    /// Number of counters that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64", range(min = 0, max = 1_000_000_000_000_i64))]
    pub counters: Option<i64>,
}

/// How events are kept.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    // The fall-backs are DEFAULT_SLICE_WIDTH and DEFAULT_BUCKET_WIDTH; the plan keeps to the same rules.
    validation = Rule::new("duration(has(self.sliceWidth) ? self.sliceWidth : '24h').getSeconds() % duration(has(self.bucketWidth) ? self.bucketWidth : '10m').getSeconds() == 0")
        .message("bucketWidth (10m when absent) must divide sliceWidth (24h when absent) without a rest")
        .field_path(".bucketWidth"),
    validation = Rule::new("duration(self.acceptLimit) + duration(self.writeTimeout) + duration(self.maxClockSkew) < duration(self.retention.closeAfter)")
        .message("retention.closeAfter must be longer than acceptLimit + writeTimeout + maxClockSkew: until then an event may still arrive")
        .field_path(".retention.closeAfter"),
    validation = Rule::new("duration(has(self.sliceWidth) ? self.sliceWidth : '24h') <= duration(self.retention.closeAfter)")
        .message("retention.closeAfter must be no shorter than sliceWidth (24h when absent)")
        .field_path(".retention.closeAfter")
)]
pub struct EventStore {
    /// How far the time of an event may lie from the sidecar's clock; others are refused. 100ms to 10m. Counts lag
    /// behind by at least this much, and retries with the same token are safe for this long.
    #[serde(default = "default_accept_limit")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('100ms') && duration(self) <= duration('10m')").message("acceptLimit must be between 100ms and 10m"))]
    pub accept_limit: Duration,
    /// How long a write to the store may take. 10ms to 1m.
    #[serde(default = "default_write_timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10ms') && duration(self) <= duration('1m')").message("writeTimeout must be between 10ms and 1m"))]
    pub write_timeout: Duration,
    /// How far clocks may be apart before counting stops rather than miscounts. 10ms to 1m.
    #[serde(default = "default_max_clock_skew")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10ms') && duration(self) <= duration('1m')").message("maxClockSkew must be between 10ms and 1m"))]
    pub max_clock_skew: Duration,
    /// Partitions that the events of one counter and time bucket are spread over, 1 to 1024; follows from the
    /// workload when absent. More of them help counters that are written thousands of times a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 1024))]
    pub buckets_per_id: Option<i32>,
    /// Length of time that one partition covers, whole seconds, 1s to 24h; follows from the workload when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration", regex(pattern = duration::PATTERN_WHOLE_SECONDS))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("bucketWidth must be between 1s and 24h"))]
    pub bucket_width: Option<Duration>,
    /// Length of time that one table covers, whole seconds, 1m to 720h; follows from the workload when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration", regex(pattern = duration::PATTERN_WHOLE_SECONDS))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('720h')").message("sliceWidth must be between 1m and 720h"))]
    pub slice_width: Option<Duration>,
    /// How long events are kept after they are counted.
    #[serde(default)]
    pub retention: Retention,
}

/// How long slices of events are kept. Counts outlive them.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("duration(self.closeAfter) < duration(self.deleteAfter)")
        .message("retention.closeAfter must be shorter than retention.deleteAfter")
        .field_path(".closeAfter")
)]
pub struct Retention {
    /// When a slice is closed, once every counter in it is counted. 1m to 87600h, whole seconds.
    #[serde(default = "default_close_after")]
    #[schemars(regex(pattern = duration::PATTERN_WHOLE_SECONDS))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')").message("retention.closeAfter must be between 1m and 87600h"))]
    pub close_after: Duration,
    /// When a closed slice is dropped. 1m to 87600h, whole seconds.
    #[serde(default = "default_delete_after")]
    #[schemars(regex(pattern = duration::PATTERN_WHOLE_SECONDS))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('87600h')").message("retention.deleteAfter must be between 1m and 87600h"))]
    pub delete_after: Duration,
}

/// The servers that aggregate events into counts.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollup {
    /// Number of rollup servers, 1 to 256. `kubectl scale` and autoscalers set it.
    #[serde(default = "default_rollup_replicas")]
    #[schemars(range(min = 1, max = 256))]
    pub replicas: i32,
    /// Queues of a rollup server, 1 to 1024; follows from the workload when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 1024))]
    pub num_queues: Option<i32>,
    /// How long touched counters are collected, so that each is rolled up once in that time. 10ms to 10m.
    #[serde(default = "default_coalesce")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10ms') && duration(self) <= duration('10m')").message("rollup.coalesce must be between 10ms and 10m"))]
    pub coalesce: Duration,
    /// Memory that one queue may take, 64Ki to 16Gi; beyond it rollups are refused and made good by a sweep.
    #[serde(default = "default_queue_capacity")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('64Ki')) >= 0 && quantity(self).compareTo(quantity('16Gi')) <= 0").message("rollup.queueCapacity must be between 64Ki and 16Gi"))]
    pub queue_capacity: Quantity,
    /// Counters that are rolled up together, 1 to 1000.
    #[serde(default = "default_batch_count")]
    #[schemars(range(min = 1, max = 1000))]
    pub batch_count: i32,
    /// CPU and memory of a rollup server; the class's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Resources")]
    pub resources: Option<Resources>,
}

/// The memcached cluster.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cache {
    /// Copies of the whole cache, 1 to 8; follows from the workload when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 8))]
    pub replicas: Option<i32>,
    /// Servers that one copy is spread over, 1 to 256; follows from the workload when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 1, max = 256))]
    pub shards: Option<i32>,
    /// Memory of one server for counters, 16Mi to 1Ti; follows from the workload when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Quantity")]
    #[x_kube(validation = Rule::new("quantity(self).compareTo(quantity('16Mi')) >= 0 && quantity(self).compareTo(quantity('1Ti')) <= 0").message("cache.memory must be between 16Mi and 1Ti"))]
    pub memory: Option<Quantity>,
    /// CPU and memory of a cache server; follows from `memory` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Resources")]
    pub resources: Option<Resources>,
}

/// Lifetime of a BestEffort counter whose namespace sets no `ttl`.
pub const DEFAULT_TTL: Duration = Duration::from_hours(1);
/// Partitions per counter and time bucket where neither the resource nor a plan says.
pub const DEFAULT_BUCKETS_PER_ID: i32 = 4;
/// Length of a time bucket where neither the resource nor a plan says.
pub const DEFAULT_BUCKET_WIDTH: Duration = Duration::from_mins(10);
/// Length of a slice where neither the resource nor a plan says.
pub const DEFAULT_SLICE_WIDTH: Duration = Duration::from_hours(24);
/// Queues of a rollup server where neither the resource nor a plan says.
pub const DEFAULT_NUM_QUEUES: i32 = 8;

// serde takes defaults as functions; the same functions give the schema its defaults.
fn default_accept_limit() -> Duration {
    Duration::from_secs(5)
}
fn default_write_timeout() -> Duration {
    Duration::from_secs(2)
}
fn default_max_clock_skew() -> Duration {
    Duration::from_secs(1)
}
fn default_close_after() -> Duration {
    Duration::from_hours(144)
}
fn default_delete_after() -> Duration {
    Duration::from_hours(168)
}
fn default_rollup_replicas() -> i32 {
    2
}
fn default_coalesce() -> Duration {
    Duration::from_secs(10)
}
fn default_queue_capacity() -> Quantity {
    Quantity::from_mebibytes(16)
}
fn default_batch_count() -> i32 {
    32
}

impl Default for EventStore {
    fn default() -> Self {
        Self {
            accept_limit: default_accept_limit(),
            write_timeout: default_write_timeout(),
            max_clock_skew: default_max_clock_skew(),
            buckets_per_id: None,
            bucket_width: None,
            slice_width: None,
            retention: Retention::default(),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self { close_after: default_close_after(), delete_after: default_delete_after() }
    }
}

impl Default for Rollup {
    fn default() -> Self {
        Self {
            replicas: default_rollup_replicas(),
            num_queues: None,
            coalesce: default_coalesce(),
            queue_capacity: default_queue_capacity(),
            batch_count: default_batch_count(),
            resources: None,
        }
    }
}

impl EventStore {
    /// Partitions per counter and time bucket, as set or [`DEFAULT_BUCKETS_PER_ID`].
    pub fn buckets_per_id_or_default(&self) -> i32 {
        self.buckets_per_id.unwrap_or(DEFAULT_BUCKETS_PER_ID)
    }

    /// Length of a time bucket, as set or [`DEFAULT_BUCKET_WIDTH`].
    pub fn bucket_width_or_default(&self) -> Duration {
        self.bucket_width.unwrap_or(DEFAULT_BUCKET_WIDTH)
    }

    /// Length of a slice, as set or [`DEFAULT_SLICE_WIDTH`].
    pub fn slice_width_or_default(&self) -> Duration {
        self.slice_width.unwrap_or(DEFAULT_SLICE_WIDTH)
    }
}

impl Rollup {
    /// Queues of a rollup server, as set or [`DEFAULT_NUM_QUEUES`].
    pub fn num_queues_or_default(&self) -> i32 {
        self.num_queues.unwrap_or(DEFAULT_NUM_QUEUES)
    }
}

impl CounterNamespaceSpec {
    /// How events are kept, as set or all defaults. Says nothing of a BestEffort namespace, which keeps none.
    pub fn event_store_or_default(&self) -> EventStore {
        self.event_store.clone().unwrap_or_default()
    }

    /// Lifetime of a counter of a BestEffort namespace, as set or [`DEFAULT_TTL`].
    pub fn ttl_or_default(&self) -> Duration {
        self.ttl.unwrap_or(DEFAULT_TTL)
    }
}

impl CounterNamespace {
    /// The dataset, as set or derived from the name. Names have no `_`, so two names never derive the same one.
    pub fn dataset_or_default(&self) -> String {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        self.spec.dataset.clone().unwrap_or_else(|| name.replace('-', "_"))
    }
}

/// What the operator found and did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CounterNamespaceStatus {
    /// Generation of the resource that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// Ready, Progressing, Degraded, Paused, SchemaReady, CacheReady, RollupReady, SidecarsCurrent and ImagesCurrent (False names what
    /// the operator's release would change); Reconciling while work goes on, Stalled when waiting cannot help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The CounterClass in use, which stays the same when another one becomes the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub class_name: Option<String>,
    /// What the capacity plan chose or took over from the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PlanStatus")]
    pub plan: Option<PlanStatus>,
    /// The slices of the dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "SlicesStatus")]
    pub slices: Option<SlicesStatus>,
    /// Where the data plane reaches what belongs to this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EndpointsStatus")]
    pub endpoints: Option<EndpointsStatus>,
    /// The images in use. An upgrade of the operator does not change them unasked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ImagesStatus")]
    pub images: Option<ImagesStatus>,
    /// The rollup servers, as the scale subresource reports them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RollupStatus")]
    pub rollup: Option<RollupStatus>,
}

/// What the capacity plan chose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// Partitions per counter and time bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    pub buckets_per_id: Option<i32>,
    /// Length of time that one partition covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub bucket_width: Option<Duration>,
    /// Length of time that one table covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Duration")]
    pub slice_width: Option<Duration>,
    /// Queues of a rollup server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    pub num_queues: Option<i32>,
    /// Copies of the whole cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    pub cache_replicas: Option<i32>,
    /// Servers that one copy of the cache is spread over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32")]
    pub cache_shards: Option<i32>,
    /// Memory of one cache server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Quantity")]
    pub cache_memory: Option<Quantity>,
}

/// The slices of the dataset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlicesStatus {
    /// Start of the oldest slice that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub oldest_start: Option<Time>,
    /// End of the newest slice; events can be taken until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub newest_end: Option<Time>,
    /// Number of slices that take or may still take events.
    #[serde(default)]
    pub open: i32,
    /// Number of slices that are counted completely and wait to be dropped.
    #[serde(default)]
    pub closed: i32,
}

/// Where the data plane reaches what belongs to a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointsStatus {
    /// The rollup servers, host:port each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollup: Vec<String>,
    /// The copies of the cache.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache: Vec<CacheReplicaStatus>,
}

/// One copy of the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheReplicaStatus {
    /// Its servers, host:port each, in the order that keys are hashed over.
    pub shards: Vec<String>,
}

/// The images in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagesStatus {
    /// Image of the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub sidecar: Option<String>,
    /// Image of the rollup server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub rollup: Option<String>,
    /// Image of memcached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub memcached: Option<String>,
}

/// The rollup servers, as the scale subresource reports them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollupStatus {
    /// Number of rollup servers there are.
    #[serde(default)]
    pub replicas: i32,
    /// Label selector of their pods, in text form.
    #[serde(default)]
    pub selector: String,
}
