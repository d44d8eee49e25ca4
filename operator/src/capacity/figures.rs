//! The figures that the plan calculates with. docs/capacity.md has the same, with their sources; a test holds the two together.

/// Bytes of an event as Cassandra stores it (Netflix's service-capacity-modeling).
pub const EVENT_BYTES: u64 = 256;
/// Bytes of a rollup, as record and in memory (Netflix's service-capacity-modeling).
pub const ROLLUP_BYTES: u64 = 128;
/// Processor time of Cassandra for a write, over all its replicas, in milliseconds (Netflix's service-capacity-modeling).
pub const CASSANDRA_WRITE_CORE_MS: u64 = 1;
/// Processor time of Cassandra for a read (Netflix's service-capacity-modeling).
pub const CASSANDRA_READ_CORE_MS: u64 = 2;
/// Processor time of memcached for an operation, in microseconds (Netflix's service-capacity-modeling, for EVCache).
pub const MEMCACHED_CORE_US: u64 = 10;
/// One in so many writes leads to a rollup, with low cardinality (Netflix's service-capacity-modeling: 0.0167).
pub const WRITES_PER_ROLLUP_LOW: u64 = 60;
/// The same with high cardinality (0.1).
pub const WRITES_PER_ROLLUP_HIGH: u64 = 10;

/// Writes a second that one partition is to take: half a core of each of its replicas. Measured: over 2,500.
pub const PARTITION_WRITES_PER_SECOND: u64 = 500;
/// Bytes that one partition is to hold. Cassandra reads and compacts partitions of up to 100 MB well; ten times less leaves room for
/// bursts, and for counters hotter than expected.
pub const PARTITION_BYTES: u64 = 10 << 20;
/// Bytes that the table of one slice is to hold, without replicas.
pub const SLICE_BYTES: u64 = 512 << 30;
/// Counters where the workload does not say: the hottest one's share depends on it.
pub const COUNTERS_ASSUMED: u64 = 1_000;

/// Processor time of a rollup server for a rollup, in microseconds (measured, `cassandra-add-spread`: 19).
pub const ROLLUP_CORE_US: u64 = 20;
/// Processor time of a rollup server for a write, whatever the number of rollups, in microseconds (measured, `cassandra-add-hot`: 0.5).
pub const ROLLUP_WRITE_CORE_US: u64 = 1;
/// The most cores that a rollup server is to have; more servers beyond.
pub const ROLLUP_SERVER_CORES: u64 = 4;
/// Rollups a second of one server beyond which there are to be more.
pub const ROLLUP_SERVER_ROLLUPS_PER_SECOND: u64 = 50_000;
/// Batches that a queue's consumer rolls up in a second.
pub const BATCHES_PER_SECOND: u64 = 10;
/// Memory of a rollup server besides its queues, in MiB (measured: 30 MiB resident after adds), with the scans under way.
pub const ROLLUP_BASE_MIB: u64 = 128;

/// Memory of an item of memcached: the rollup, its key and memcached's own 56 bytes and rounding up to a slab's size.
pub const CACHE_ITEM_BYTES: u64 = 2 * ROLLUP_BYTES;
/// The most memory of a cache server of durable counters; more shards beyond.
pub const CACHE_SERVER_MIB: u64 = 4 << 10;
/// Operations a second of one cache server: half of its four threads.
pub const CACHE_SERVER_OPERATIONS_PER_SECOND: u64 = 4 * 1_000_000 / MEMCACHED_CORE_US / 2;
/// Memory of a cache server besides that for counters, in MiB, and a quarter of the latter.
pub const CACHE_BASE_MIB: u64 = 64;

/// Processors are planned to be half busy at peak.
pub const BUSY: f64 = 0.5;
