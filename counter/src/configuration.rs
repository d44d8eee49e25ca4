//! The namespace configuration: what the operator renders and every process of the data plane reads, one document per
//! namespace. Here is what a checked document says; [`NamespaceConfiguration::from_json`] reads and checks one,
//! [`NamespaceConfiguration::to_json`] writes one, [`Directory`] keeps up with a folder of them.

mod bounds;
mod directory;
mod document;
mod invalid;
mod parse;
mod reconcile;
mod render;

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod documentation;

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{NamespaceName, SliceSettings};

pub use directory::Directory;
pub use invalid::InvalidDocument;
pub use parse::{RESERVED_DATASETS, RESERVED_WORDS};
pub use reconcile::{Change, Contents, Loaded, Problem};

/// A checked namespace configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceConfiguration {
    /// Which namespace.
    pub namespace: NamespaceName,
    /// Where its events are written: one datacenter of the store.
    pub region: String,
    /// How it counts, and where.
    pub counting: Counting,
}

/// How a namespace counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counting {
    /// In the cache alone.
    BestEffort(BestEffort),
    /// As events and rollups.
    Durable(Box<Durable>),
}

/// Counters that live in a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BestEffort {
    /// Where they live.
    pub storage: CacheStorage,
    /// How long a counter lives from its creation.
    pub ttl: Duration,
}

/// Counters made of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable {
    /// What GetCount answers.
    pub accuracy: Accuracy,
    /// Whether counters stay in circulation.
    pub cardinality: Cardinality,
    /// Where checkpoints are cached; without it every read asks the rollup store.
    pub cache: Option<CacheStorage>,
    /// Where events are.
    pub events: DatasetStorage,
    /// Where rollup rows are; the same dataset as the events.
    pub rollups: DatasetStorage,
    /// The rollup servers, `host:port`. Empty where rollups run in this process.
    pub rollup_endpoints: Vec<String>,
    /// What sidecars connect to the rollup servers with; without it, in plain text.
    pub rollup_tls: Option<RollupTls>,
    /// The queues of each rollup server.
    pub queue: Queue,
    /// Counters that a consumer rolls up at a time.
    pub rollup_batch_count: NonZeroUsize,
    /// For slices not yet created.
    pub time_partition: TimePartition,
    /// When slices end.
    pub retention: Retention,
}

/// Mutual TLS to the rollup servers: the sidecar's side. The files are in PEM and are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RollupTls {
    /// The certificate authority that the rollup servers' certificates come from.
    pub ca_file: PathBuf,
    /// The certificate that the sidecar shows.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// What a read of a durable counter answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accuracy {
    /// The last rollup.
    Eventual,
    /// The last rollup and every event since.
    Accurate,
}

/// How many counters a namespace has, in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// Few: each stays in circulation once touched, so that its checkpoint keeps up with now.
    Low,
    /// Many: a counter goes back on its queue only while it has events that are not rolled up.
    High,
}

/// A rollup server's queues for one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// How many queues; one consumer each.
    pub num_queues: NonZeroU16,
    /// How long rollup events of a counter are gathered before it is rolled up.
    pub coalesce: Duration,
    /// Memory that one queue may take.
    pub capacity_bytes: usize,
}

/// How the next slice will be laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimePartition {
    /// Its settings.
    pub settings: SliceSettings,
    /// Its width; whole seconds, a multiple of the bucket width.
    pub slice_width: Duration,
}

/// How long slices are kept, counted from their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// When a sweep may close a slice.
    pub close_after: Duration,
    /// When a closed slice may be dropped.
    pub delete_after: Duration,
}

/// Where a dataset's events and rollups are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DatasetStorage {
    /// A Cassandra (or `ScyllaDB`) keyspace.
    Cassandra(Cassandra),
    /// The durable store inside this process.
    Embedded {
        /// The dataset's name.
        dataset: String,
    },
    /// In memory, gone with the process; for tests.
    Memory {
        /// The dataset's name.
        dataset: String,
    },
}

/// How a keyspace is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cassandra {
    /// The cluster's name, for messages.
    pub cluster: String,
    /// The keyspace.
    pub dataset: String,
    /// `host:port` of some nodes.
    pub contact_points: Vec<String>,
    /// The datacenter whose quorum acknowledges.
    pub local_datacenter: String,
    /// A file with user name and password.
    pub credentials_file: Option<PathBuf>,
    /// The certificate authority that the nodes' certificates come from; without it, no TLS.
    pub tls_ca_file: Option<PathBuf>,
}

/// Where a namespace's cache is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CacheStorage {
    /// memcached: one list of shards (`host:port`) per replica.
    Memcached {
        /// The cluster's name, for messages.
        cluster: String,
        /// The replicas, each the list of its shards.
        replicas: Vec<Vec<String>>,
    },
    /// In this process's memory.
    Memory,
}
