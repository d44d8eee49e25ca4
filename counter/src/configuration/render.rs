//! From a configuration to its document, with every default written out. Pure.

use std::path::Path;

use super::document::{
    self, BestEffortCounterConfig, Config, CounterType, Document, Entry, EventualCounterConfig, Id, InternalConfig,
    LifecycleConfig, LifecycleConfigs, LifecycleType, PhysicalStorage, QueueConfig, RetentionConfig, Span, StorageType,
    Tls, WholeNumber,
};
use super::{Accuracy, CacheStorage, Cardinality, Counting, DatasetStorage, Durable, NamespaceConfiguration};

impl NamespaceConfiguration {
    /// The document of this configuration, indented. [`Self::from_json`] reads it back to an equal one, if
    /// [`Self::check`] finds nothing wrong.
    #[must_use]
    pub fn to_json(&self) -> String {
        let document = Document {
            namespace: Some(self.namespace.as_str().to_owned()),
            region: Some(self.region.clone()),
            persistence_configuration: Some(match &self.counting {
                Counting::BestEffort(best_effort) => vec![Entry {
                    config: Some(Config {
                        counter_type: Some(CounterType::BestEffort),
                        best_effort_counter_config: Some(BestEffortCounterConfig { ttl: Some(Span(best_effort.ttl)) }),
                        ..Config::default()
                    }),
                    ..entry(Id::Cache, cache(&best_effort.storage))
                }],
                Counting::Durable(durable) => {
                    let cache = durable.cache.as_ref().map(|storage| entry(Id::Cache, cache(storage)));
                    cache.into_iter().chain([rollup_entry(durable), event_entry(durable)]).collect()
                }
            }),
        };
        // Plain structs with fixed field names; serde_json fails on neither.
        serde_json::to_string_pretty(&document).expect("the document has only strings, numbers and lists")
    }
}

fn entry(id: Id, storage: PhysicalStorage) -> Entry {
    Entry { id: Some(id), scope: Some(id.scope().to_owned()), physical_storage: Some(storage), ..Entry::default() }
}

fn rollup_entry(durable: &Durable) -> Entry {
    let internal_config = InternalConfig {
        queue_config: Some(QueueConfig {
            num_queues: Some(WholeNumber(durable.queue.num_queues.get().into())),
            coalesce_ms: Some(whole(durable.queue.coalesce.as_millis())),
            capacity_bytes: Some(whole(durable.queue.capacity_bytes as u128)),
        }),
        rollup_batch_count: Some(whole(durable.rollup_batch_count.get() as u128)),
    };
    Entry {
        counter_cardinality: Some(match durable.cardinality {
            Cardinality::Low => document::Cardinality::Low,
            Cardinality::High => document::Cardinality::High,
        }),
        config: Some(Config {
            counter_type: Some(match durable.accuracy {
                Accuracy::Eventual => CounterType::Eventual,
                Accuracy::Accurate => CounterType::Accurate,
            }),
            rollup_endpoints: Some(durable.rollup_endpoints.clone()),
            rollup_tls: durable.rollup_tls.as_ref().map(|tls| document::RollupTls {
                ca_file: Some(text(&tls.ca_file)),
                cert_file: Some(text(&tls.cert_file)),
                key_file: Some(text(&tls.key_file)),
            }),
            eventual_counter_config: Some(EventualCounterConfig { internal_config: Some(internal_config) }),
            ..Config::default()
        }),
        ..entry(Id::CounterRollup, dataset(&durable.rollups))
    }
}

fn event_entry(durable: &Durable) -> Entry {
    let settings = &durable.time_partition.settings;
    let retention = RetentionConfig {
        close_after: Some(Span(durable.retention.close_after)),
        delete_after: Some(Span(durable.retention.delete_after)),
    };
    Entry {
        config: Some(Config {
            time_partition: Some(document::TimePartition {
                buckets_per_id: Some(WholeNumber(settings.buckets_per_id.get().into())),
                seconds_per_bucket: Some(WholeNumber(settings.bucket_width.as_secs())),
                seconds_per_slice: Some(WholeNumber(durable.time_partition.slice_width.as_secs())),
            }),
            accept_limit: Some(Span(settings.accept_limit)),
            write_timeout: Some(Span(settings.write_timeout)),
            max_clock_skew: Some(Span(settings.max_clock_skew)),
            ..Config::default()
        }),
        lifecycle_configs: Some(LifecycleConfigs {
            lifecycle_config: Some(vec![LifecycleConfig {
                lifecycle_type: Some(LifecycleType::Retention),
                config: Some(retention),
            }]),
        }),
        ..entry(Id::EventStorage, dataset(&durable.events))
    }
}

fn cache(storage: &CacheStorage) -> PhysicalStorage {
    match storage {
        CacheStorage::Memcached { cluster, replicas } => PhysicalStorage {
            storage_type: Some(StorageType::Memcached),
            cluster: Some(cluster.clone()),
            replicas: Some(replicas.clone()),
            ..PhysicalStorage::default()
        },
        CacheStorage::Memory => {
            PhysicalStorage { storage_type: Some(StorageType::Memory), ..PhysicalStorage::default() }
        }
    }
}

fn dataset(storage: &DatasetStorage) -> PhysicalStorage {
    let of_this_process = |storage_type, dataset: &String| PhysicalStorage {
        storage_type: Some(storage_type),
        dataset: Some(dataset.clone()),
        ..PhysicalStorage::default()
    };
    match storage {
        DatasetStorage::Cassandra(cassandra) => PhysicalStorage {
            storage_type: Some(StorageType::Cassandra),
            cluster: Some(cassandra.cluster.clone()),
            dataset: Some(cassandra.dataset.clone()),
            contact_points: Some(cassandra.contact_points.clone()),
            local_datacenter: Some(cassandra.local_datacenter.clone()),
            credentials_file: cassandra.credentials_file.as_deref().map(text),
            tls: cassandra.tls_ca_file.as_deref().map(|file| Tls { ca_file: Some(text(file)) }),
            replicas: None,
        },
        DatasetStorage::Embedded { dataset } => of_this_process(StorageType::Embedded, dataset),
        DatasetStorage::Memory { dataset } => of_this_process(StorageType::Memory, dataset),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Numbers beyond 64 bits are out of every bound of the document, as the greatest one is.
fn whole(number: u128) -> WholeNumber {
    WholeNumber(u64::try_from(number).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::arbitrary::{configurations, example};
    use super::*;

    proptest! {
        #[test]
        fn what_is_rendered_reads_back_the_same(configuration in configurations()) {
            let json = configuration.to_json();
            prop_assert_eq!(NamespaceConfiguration::from_json(&json), Ok(configuration.clone()), "{}", json);
            prop_assert_eq!(configuration.check(), Ok(()));
        }
    }

    #[test]
    fn what_a_document_cannot_say_does_not_pass_the_check() {
        let broken = |change: fn(&mut Durable)| {
            let mut configuration = example();
            let Counting::Durable(durable) = &mut configuration.counting else { panic!("the example is durable") };
            change(durable);
            configuration.check().unwrap_err().path
        };
        assert_eq!(broken(|d| d.time_partition.settings.bucket_width = Duration::from_millis(1500)), ".");
        assert_eq!(broken(|d| d.queue.coalesce = Duration::from_micros(1500)), ".");
        assert_eq!(
            broken(|d| d.time_partition.settings.accept_limit = Duration::from_micros(1500)),
            "persistence_configuration[2].config.accept_limit"
        );
        let no_tls = |d: &mut Durable| {
            let DatasetStorage::Cassandra(events) = &mut d.events else { panic!("the example is in Cassandra") };
            events.tls_ca_file = None;
        };
        assert_eq!(broken(no_tls), ".");
    }
}
