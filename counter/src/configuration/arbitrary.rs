//! Configurations for tests: the design's example, and any that is right.

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{
    Accuracy, BestEffort, CacheStorage, Cardinality, Cassandra, Counting, DatasetStorage, Durable,
    NamespaceConfiguration, Queue, Retention, RollupTls, TimePartition,
};
use crate::model::{NamespaceName, SliceSettings};

/// The example of the documentation.
pub const EXAMPLE: &str = r#"
{"namespace": "video-plays", "region": "dc1",
 "persistence_configuration": [
  {"id": "CACHE", "scope": "dal=counter",
   "physical_storage": {"type": "MEMCACHED", "cluster": "video-plays-cache",
      "replicas": [["cache-a-0:11211", "cache-a-1:11211"], ["cache-b-0:11211"]]}},
  {"id": "COUNTER_ROLLUP", "scope": "dal=counter",
   "physical_storage": {"type": "CASSANDRA", "cluster": "main", "dataset": "my_dataset_1",
      "contact_points": ["127.0.0.1:9042"], "local_datacenter": "dc1", "credentials_file": "/etc/tallyman/credentials",
      "tls": {"ca_file": "/etc/tallyman/ca.crt"}},
   "counter_cardinality": "LOW",
   "config": {"counter_type": "EVENTUAL", "rollup_endpoints": ["rollup-0.rollup:7787", "rollup-1.rollup:7787"],
      "rollup_tls": {"ca_file": "/etc/tallyman/rollup.ca.crt", "cert_file": "/etc/tallyman/rollup.tls.crt", "key_file": "/etc/tallyman/rollup.tls.key"},
      "eventual_counter_config": {"internal_config": {
         "queue_config": {"num_queues": 8, "coalesce_ms": 10000, "capacity_bytes": 16777216}, "rollup_batch_count": 32}}}},
  {"id": "EVENT_STORAGE", "scope": "dal=ts",
   "physical_storage": {"type": "CASSANDRA", "cluster": "main", "dataset": "my_dataset_1",
      "contact_points": ["127.0.0.1:9042"], "local_datacenter": "dc1"},
   "config": {"time_partition": {"buckets_per_id": 4, "seconds_per_bucket": "600", "seconds_per_slice": "86400"},
              "accept_limit": "5s", "write_timeout": "2s", "max_clock_skew": "1s"},
   "lifecycleConfigs": {"lifecycleConfig": [{"type": "retention", "config": {"close_after": "518400s", "delete_after": "604800s"}}]}}]}
"#;

/// A best-effort namespace.
pub const BEST_EFFORT: &str = r#"
{"namespace": "likes", "region": "dc1",
 "persistence_configuration": [
  {"id": "CACHE", "scope": "dal=counter",
   "physical_storage": {"type": "MEMORY"},
   "config": {"counter_type": "BEST_EFFORT", "best_effort_counter_config": {"ttl": "3600s"}}}]}
"#;

/// What [`EXAMPLE`] says, written without the reader.
pub fn example() -> NamespaceConfiguration {
    let keyspace = DatasetStorage::Cassandra(Cassandra {
        cluster: "main".to_owned(),
        dataset: "my_dataset_1".to_owned(),
        contact_points: vec!["127.0.0.1:9042".to_owned()],
        local_datacenter: "dc1".to_owned(),
        credentials_file: Some(PathBuf::from("/etc/tallyman/credentials")),
        tls_ca_file: Some(PathBuf::from("/etc/tallyman/ca.crt")),
    });
    NamespaceConfiguration {
        namespace: NamespaceName::new("video-plays").unwrap(),
        region: "dc1".to_owned(),
        counting: Counting::Durable(Box::new(Durable {
            accuracy: Accuracy::Eventual,
            cardinality: Cardinality::Low,
            cache: Some(CacheStorage::Memcached {
                cluster: "video-plays-cache".to_owned(),
                replicas: vec![
                    vec!["cache-a-0:11211".to_owned(), "cache-a-1:11211".to_owned()],
                    vec!["cache-b-0:11211".to_owned()],
                ],
            }),
            events: keyspace.clone(),
            rollups: keyspace,
            rollup_endpoints: vec!["rollup-0.rollup:7787".to_owned(), "rollup-1.rollup:7787".to_owned()],
            rollup_tls: Some(RollupTls {
                ca_file: PathBuf::from("/etc/tallyman/rollup.ca.crt"),
                cert_file: PathBuf::from("/etc/tallyman/rollup.tls.crt"),
                key_file: PathBuf::from("/etc/tallyman/rollup.tls.key"),
            }),
            queue: Queue {
                num_queues: NonZeroU16::new(8).unwrap(),
                coalesce: Duration::from_secs(10),
                capacity_bytes: 16 << 20,
            },
            rollup_batch_count: NonZeroUsize::new(32).unwrap(),
            time_partition: TimePartition {
                settings: SliceSettings {
                    buckets_per_id: NonZeroU16::new(4).unwrap(),
                    bucket_width: Duration::from_secs(600),
                    accept_limit: Duration::from_secs(5),
                    write_timeout: Duration::from_secs(2),
                    max_clock_skew: Duration::from_secs(1),
                },
                slice_width: Duration::from_secs(86_400),
            },
            retention: Retention {
                close_after: Duration::from_secs(518_400),
                delete_after: Duration::from_secs(604_800),
            },
        })),
    }
}

/// Any right configuration.
pub fn configurations() -> impl Strategy<Value = NamespaceConfiguration> {
    let best_effort = (caches(), 1_u64..=2_592_000)
        .prop_map(|(storage, ttl)| Counting::BestEffort(BestEffort { storage, ttl: Duration::from_secs(ttl) }));
    let counting = prop_oneof![best_effort, durables().prop_map(|durable| Counting::Durable(Box::new(durable)))];
    ("[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", texts(), counting).prop_map(|(namespace, region, counting)| {
        NamespaceConfiguration { namespace: NamespaceName::new(&namespace).unwrap(), region, counting }
    })
}

fn texts() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,30}"
}

/// Distinct servers, whichever lists they end up in.
fn endpoints() -> impl Strategy<Value = Vec<String>> {
    vec(("[a-z][a-z0-9]{0,5}(\\.[a-z]{2})?", 1_u16..), 1..4).prop_map(|hosts| {
        hosts.into_iter().enumerate().map(|(index, (host, port))| format!("h{index}-{host}:{port}")).collect()
    })
}

fn caches() -> impl Strategy<Value = CacheStorage> {
    let memcached = (texts(), endpoints()).prop_map(|(cluster, shards)| {
        let replica = |name: &str| shards.iter().map(|shard| format!("{name}.{shard}")).collect();
        CacheStorage::Memcached { cluster, replicas: vec![replica("a"), replica("b")] }
    });
    prop_oneof![Just(CacheStorage::Memory), memcached]
}

fn datasets() -> impl Strategy<Value = DatasetStorage> {
    let name = "[a-z][a-z0-9_]{0,47}";
    let file = || option::of(texts().prop_map(PathBuf::from));
    let cassandra = (texts(), name, endpoints(), texts(), file(), file()).prop_map(
        |(cluster, dataset, contact_points, local_datacenter, credentials_file, tls_ca_file)| {
            DatasetStorage::Cassandra(Cassandra {
                cluster,
                dataset,
                contact_points,
                local_datacenter,
                credentials_file,
                tls_ca_file,
            })
        },
    );
    prop_oneof![
        cassandra,
        name.prop_map(|dataset| DatasetStorage::Embedded { dataset }),
        name.prop_map(|dataset| DatasetStorage::Memory { dataset }),
    ]
}

fn rollup_tls() -> impl Strategy<Value = RollupTls> {
    let file = || texts().prop_map(PathBuf::from);
    (file(), file(), file()).prop_map(|(ca_file, cert_file, key_file)| RollupTls { ca_file, cert_file, key_file })
}

fn durables() -> impl Strategy<Value = Durable> {
    let counting = (
        any::<bool>(),
        any::<bool>(),
        option::of(caches()),
        datasets(),
        option::of((endpoints(), option::of(rollup_tls()))),
    );
    let rollup = (1_u16..=1024, 1_u64..=3_600_000, (64_usize << 10)..=(1 << 40), 1_usize..=10_000);
    let limits = (1_u64..=3_600_000, 1_u64..=3_600_000, 2_u64..=3_600_000);
    let partition = (1_u16..=1024, 1_u64..=10_000, 1_u64..=100);
    let retention = (1_u64..=1_000_000, 1_u64..=1_000_000);
    (counting, rollup, limits, partition, retention).prop_map(|(counting, rollup, limits, partition, retention)| {
        let (accurate, low, cache, storage, servers) = counting;
        let (rollup_endpoints, rollup_tls) = servers.unwrap_or_default();
        let (num_queues, coalesce_ms, capacity_bytes, batch_count) = rollup;
        let (buckets_per_id, bucket_s, buckets_per_slice) = partition;
        let settings = SliceSettings {
            buckets_per_id: NonZeroU16::new(buckets_per_id).unwrap(),
            bucket_width: Duration::from_secs(bucket_s),
            accept_limit: Duration::from_millis(limits.0),
            write_timeout: Duration::from_millis(limits.1),
            max_clock_skew: Duration::from_millis(limits.2),
        };
        let close_after = Duration::from_secs(settings.lag().as_secs() + retention.0);
        Durable {
            accuracy: if accurate { Accuracy::Accurate } else { Accuracy::Eventual },
            cardinality: if low { Cardinality::Low } else { Cardinality::High },
            cache,
            events: storage.clone(),
            rollups: storage,
            rollup_endpoints,
            rollup_tls,
            queue: Queue {
                num_queues: NonZeroU16::new(num_queues).unwrap(),
                coalesce: Duration::from_millis(coalesce_ms),
                capacity_bytes,
            },
            rollup_batch_count: NonZeroUsize::new(batch_count).unwrap(),
            time_partition: TimePartition { settings, slice_width: Duration::from_secs(bucket_s * buckets_per_slice) },
            retention: Retention { close_after, delete_after: close_after + Duration::from_secs(retention.1) },
        }
    })
}
