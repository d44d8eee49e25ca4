//! From a CounterNamespace, as `kubectl apply` takes it, to the configuration that the engine reads. Pure.
//!
//! What the operator's plan would choose is left at its defaults here, and what only a cluster has (replicas, resources,
//! classes, deletion) has no meaning: everything is in this process, but for best-effort counts where there is a memcached.

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::Path;

use tallyman_counter::configuration::{
    Accuracy, BestEffort, CacheStorage, Cardinality, Counting, DatasetStorage, Durable, NamespaceConfiguration, Queue,
    Retention, TimePartition,
};
use tallyman_counter::model::{NamespaceName, SliceSettings};
use tallyman_crds::manifest::read_counter_namespaces;
use tallyman_crds::{CounterNamespace, CounterType, counter_namespace as resource};

/// The region of everything that this process writes: there is no other.
const REGION: &str = "local";

/// All namespaces of a file's text. Best-effort counts are kept in `best_effort`; checkpoints are cached in memory, as nobody
/// but this process reads them.
///
/// # Errors
/// What is wrong with it: document, field, value, and what is allowed.
pub fn configurations(
    path: &Path,
    text: &str,
    best_effort: &CacheStorage,
) -> Result<Vec<NamespaceConfiguration>, String> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let resources = read_counter_namespaces(text, &name).map_err(|error| error.to_string())?;
    resources.iter().map(|resource| configuration(resource, best_effort)).collect()
}

fn configuration(resource: &CounterNamespace, best_effort: &CacheStorage) -> Result<NamespaceConfiguration, String> {
    let name = resource.metadata.name.as_deref().unwrap_or_default();
    let namespace = NamespaceName::new(name).map_err(|error| format!("metadata.name: {name:?}: {error}"))?;
    let counting = match resource.spec.counter_type {
        CounterType::BestEffort => Counting::BestEffort(BestEffort {
            storage: best_effort.clone(),
            ttl: resource.spec.ttl_or_default().as_std(),
        }),
        CounterType::Eventual => Counting::Durable(Box::new(durable(resource, Accuracy::Eventual)?)),
        CounterType::Accurate => Counting::Durable(Box::new(durable(resource, Accuracy::Accurate)?)),
    };
    Ok(NamespaceConfiguration { namespace, region: REGION.to_owned(), counting })
}

fn durable(resource: &CounterNamespace, accuracy: Accuracy) -> Result<Durable, String> {
    let (spec, rollup, events) = (&resource.spec, &resource.spec.rollup, resource.spec.event_store_or_default());
    let storage = DatasetStorage::Embedded { dataset: resource.dataset_or_default() };
    Ok(Durable {
        accuracy,
        cardinality: match spec.cardinality {
            resource::Cardinality::Low => Cardinality::Low,
            resource::Cardinality::High => Cardinality::High,
        },
        cache: Some(CacheStorage::Memory),
        events: storage.clone(),
        rollups: storage,
        rollup_endpoints: Vec::new(),
        rollup_tls: None,
        queue: Queue {
            num_queues: count("spec.rollup.numQueues", rollup.num_queues_or_default())?,
            coalesce: rollup.coalesce.as_std(),
            capacity_bytes: usize::try_from(rollup.queue_capacity.as_bytes())
                .map_err(|_| format!("spec.rollup.queueCapacity: {}: is too large", rollup.queue_capacity))?,
        },
        rollup_batch_count: NonZeroUsize::from(count("spec.rollup.batchCount", rollup.batch_count)?),
        time_partition: TimePartition {
            settings: SliceSettings {
                buckets_per_id: count("spec.eventStore.bucketsPerId", events.buckets_per_id_or_default())?,
                bucket_width: events.bucket_width_or_default().as_std(),
                accept_limit: events.accept_limit.as_std(),
                write_timeout: events.write_timeout.as_std(),
                max_clock_skew: events.max_clock_skew.as_std(),
            },
            slice_width: events.slice_width_or_default().as_std(),
        },
        retention: Retention {
            close_after: events.retention.close_after.as_std(),
            delete_after: events.retention.delete_after.as_std(),
        },
    })
}

/// The schema has narrower bounds; these are the type's.
fn count(field: &str, value: i32) -> Result<NonZeroU16, String> {
    let count = u16::try_from(value).ok().and_then(NonZeroU16::new);
    count.ok_or_else(|| format!("{field}: {value}: must be 1 to {}", u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(spec: &str) -> Result<Vec<NamespaceConfiguration>, String> {
        let head = "apiVersion: tallyman.dev/v1alpha1\nkind: CounterNamespace\nmetadata: {name: video-plays}\n";
        configurations(Path::new("a/plays.yaml"), &format!("{head}spec: {spec}\n"), &CacheStorage::Memory)
    }

    fn durable_of(spec: &str) -> Durable {
        match read(spec).unwrap().remove(0).counting {
            Counting::Durable(durable) => *durable,
            Counting::BestEffort(_) => panic!("a best-effort namespace"),
        }
    }

    #[test]
    fn a_short_manifest_becomes_a_whole_configuration_by_the_defaults() {
        let configuration = read("{counterType: Eventual}").unwrap().remove(0);
        assert_eq!(configuration.namespace.as_str(), "video-plays");
        let durable = durable_of("{counterType: Eventual}");
        assert_eq!(durable.accuracy, Accuracy::Eventual);
        assert_eq!(durable.cardinality, Cardinality::High);
        assert_eq!(durable.events, DatasetStorage::Embedded { dataset: "video_plays".to_owned() });
        assert_eq!(durable.rollups, durable.events);
        assert_eq!(durable.cache, Some(CacheStorage::Memory));
        let settings = durable.time_partition.settings;
        assert_eq!(settings.accept_limit, Duration::from_secs(5));
        assert_eq!(settings.write_timeout, Duration::from_secs(2));
        assert_eq!(settings.max_clock_skew, Duration::from_secs(1));
        assert_eq!((settings.buckets_per_id.get(), settings.bucket_width), (4, Duration::from_secs(600)));
        assert_eq!(durable.time_partition.slice_width, Duration::from_secs(86_400));
        assert_eq!((durable.queue.num_queues.get(), durable.queue.capacity_bytes), (8, 16 << 20));
        assert_eq!((durable.queue.coalesce, durable.rollup_batch_count.get()), (Duration::from_secs(10), 32));
        assert_eq!(durable.retention.close_after, Duration::from_secs(144 * 3600));
        assert_eq!(durable.retention.delete_after, Duration::from_secs(168 * 3600));
    }

    #[test]
    fn what_is_set_is_taken_over() {
        let durable = durable_of(
            "{counterType: Accurate, cardinality: Low, dataset: shared, \
             eventStore: {acceptLimit: 1500ms, writeTimeout: 500ms, maxClockSkew: 100ms, bucketsPerId: 7, bucketWidth: 1m, \
             sliceWidth: 1h, retention: {closeAfter: 2h, deleteAfter: 3h}}, \
             rollup: {numQueues: 3, coalesce: 250ms, queueCapacity: 1Mi, batchCount: 9}}",
        );
        assert_eq!((durable.accuracy, durable.cardinality), (Accuracy::Accurate, Cardinality::Low));
        assert_eq!(durable.events, DatasetStorage::Embedded { dataset: "shared".to_owned() });
        let settings = SliceSettings {
            buckets_per_id: NonZeroU16::new(7).unwrap(),
            bucket_width: Duration::from_secs(60),
            accept_limit: Duration::from_millis(1500),
            write_timeout: Duration::from_millis(500),
            max_clock_skew: Duration::from_millis(100),
        };
        assert_eq!(durable.time_partition, TimePartition { settings, slice_width: Duration::from_secs(3600) });
        let (close_after, delete_after) = (Duration::from_secs(7200), Duration::from_secs(10_800));
        assert_eq!(durable.retention, Retention { close_after, delete_after });
        let (num_queues, coalesce) = (NonZeroU16::new(3).unwrap(), Duration::from_millis(250));
        assert_eq!(durable.queue, Queue { num_queues, coalesce, capacity_bytes: 1 << 20 });
        assert_eq!(durable.rollup_batch_count.get(), 9);
    }

    #[test]
    fn best_effort_counts_are_in_memcached_where_there_is_one() {
        let text = "apiVersion: tallyman.dev/v1alpha1\nkind: CounterNamespace\nmetadata: {name: views}\n\
                    spec: {counterType: BestEffort, ttl: 90s}\n";
        let cache =
            CacheStorage::Memcached { cluster: "c".to_owned(), replicas: vec![vec!["localhost:11211".to_owned()]] };
        let read = configurations(Path::new("n.yaml"), text, &cache).unwrap();
        let expected = BestEffort { storage: cache, ttl: Duration::from_secs(90) };
        assert_eq!(read[0].counting, Counting::BestEffort(expected));
    }

    #[test]
    fn what_is_wrong_names_the_file_the_field_and_what_is_allowed() {
        let error = read("{counterType: Eventual, eventStore: {acceptLimit: 1h}}").unwrap_err();
        assert!(error.contains("plays.yaml") && error.contains("acceptLimit must be between"), "{error}");
        let error = read("{counterType: Sometimes}").unwrap_err();
        assert!(error.contains("spec.counterType") && error.contains("Accurate"), "{error}");
    }

    #[test]
    fn what_the_engine_refuses_as_a_dataset_the_resource_refuses_too() {
        use tallyman_counter::configuration;
        use tallyman_crds::counter_namespace;
        assert_eq!(configuration::RESERVED_WORDS, counter_namespace::RESERVED_WORDS);
        assert_eq!(configuration::RESERVED_DATASETS, counter_namespace::RESERVED_DATASETS);
    }
}
