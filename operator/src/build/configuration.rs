//! The configuration of the data plane: the spec, the plan and the class, as sidecars and rollup servers read them.

use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;

use tallyman_counter::configuration::{
    Accuracy, BestEffort, CacheStorage, Cardinality, Cassandra, Counting, DatasetStorage, Durable,
    NamespaceConfiguration, Queue, Retention, RollupTls, TimePartition,
};
use tallyman_counter::model::{NamespaceName, SliceSettings};
use tallyman_crds::{
    CounterClassSpec, CounterNamespace, CounterNamespaceSpec, CounterType, counter_namespace as resource,
};

use super::Error;
use super::context::Context;
use crate::capacity::{Cache, Events, Plan, Rollup};
use crate::names;

/// What a configuration is made from: that of a sibling, too.
pub struct Source<'a> {
    pub namespace: &'a CounterNamespace,
    pub plan: &'a Plan,
    pub class_name: &'a str,
    pub class: &'a CounterClassSpec,
    pub kubernetes_namespace: &'a str,
    /// Whether the dataset's role has a password.
    pub credentials: bool,
}

pub fn build(context: &Context<'_>) -> Result<NamespaceConfiguration, Error> {
    let source = Source {
        namespace: context.namespace,
        plan: context.plan,
        class_name: context.class_name,
        class: context.class,
        kubernetes_namespace: context.kubernetes_namespace,
        credentials: context.secrets.password.is_some(),
    };
    source.configuration()
}

impl Source<'_> {
    pub fn configuration(&self) -> Result<NamespaceConfiguration, Error> {
        let name = self.name();
        let namespace = NamespaceName::new(name).map_err(|error| invalid("metadata.name", name, error))?;
        let durable = |accuracy| Ok::<_, Error>(Counting::Durable(Box::new(self.durable(accuracy)?)));
        let spec = self.spec();
        let counting = match spec.counter_type {
            CounterType::BestEffort => {
                Counting::BestEffort(BestEffort { storage: self.cache(), ttl: spec.ttl_or_default().as_std() })
            }
            CounterType::Eventual => durable(Accuracy::Eventual)?,
            CounterType::Accurate => durable(Accuracy::Accurate)?,
        };
        let region = self.class.region_or_default().to_owned();
        let configuration = NamespaceConfiguration { namespace, region, counting };
        configuration.check()?;
        Ok(configuration)
    }

    fn name(&self) -> &str {
        self.namespace.metadata.name.as_deref().unwrap_or_default()
    }

    fn spec(&self) -> &CounterNamespaceSpec {
        &self.namespace.spec
    }

    fn cache(&self) -> CacheStorage {
        match &self.class.memcached {
            Some(shared) => CacheStorage::Memcached {
                cluster: self.class_name.to_owned(),
                replicas: shared.replicas.iter().map(|replica| replica.shards.clone()).collect(),
            },
            None => CacheStorage::Memcached {
                cluster: names::cache(self.name()),
                replicas: cache_endpoints(self.name(), self.kubernetes_namespace, &self.plan.cache),
            },
        }
    }

    fn durable(&self, accuracy: Accuracy) -> Result<Durable, Error> {
        let (spec, set) = (self.spec(), self.spec().event_store_or_default());
        let (Some(events), Some(rollup)) = (&self.plan.events, &self.plan.rollup) else {
            return Err(Error::Incomplete { field: "the plan of a durable CounterNamespace" });
        };
        let storage = DatasetStorage::Cassandra(self.cassandra());
        Ok(Durable {
            accuracy,
            cardinality: match spec.cardinality {
                resource::Cardinality::Low => Cardinality::Low,
                resource::Cardinality::High => Cardinality::High,
            },
            cache: Some(self.cache()),
            events: storage.clone(),
            rollups: storage,
            rollup_endpoints: rollup_endpoints(self.name(), self.kubernetes_namespace, rollup),
            rollup_tls: Some(self.rollup_tls()),
            queue: Queue {
                num_queues: count("spec.rollup.numQueues", rollup.num_queues.value)?,
                coalesce: spec.rollup.coalesce.as_std(),
                capacity_bytes: usize::try_from(spec.rollup.queue_capacity.as_bytes())
                    .map_err(|error| invalid("spec.rollup.queueCapacity", spec.rollup.queue_capacity, error))?,
            },
            rollup_batch_count: NonZeroUsize::from(count("spec.rollup.batchCount", spec.rollup.batch_count)?),
            time_partition: time_partition(&set, events)?,
            retention: Retention {
                close_after: set.retention.close_after.as_std(),
                delete_after: set.retention.delete_after.as_std(),
            },
        })
    }

    fn rollup_tls(&self) -> RollupTls {
        let [ca_file, cert_file, key_file] =
            names::rollup_tls_keys(self.name()).map(|key| PathBuf::from(names::secret_file(&key)));
        RollupTls { ca_file, cert_file, key_file }
    }

    fn cassandra(&self) -> Cassandra {
        let dataset = self.namespace.dataset_or_default();
        let file = |key: &str| PathBuf::from(names::secret_file(key));
        let class = &self.class.cassandra;
        Cassandra {
            cluster: self.class_name.to_owned(),
            contact_points: class.contact_points.clone(),
            local_datacenter: class.local_datacenter.clone(),
            credentials_file: self.credentials.then(|| file(&names::credentials_key(&dataset))),
            tls_ca_file: class.tls.is_some().then(|| file(&names::cassandra_ca_key(&dataset))),
            dataset,
        }
    }
}

fn time_partition(set: &resource::EventStore, events: &Events) -> Result<TimePartition, Error> {
    Ok(TimePartition {
        settings: SliceSettings {
            buckets_per_id: count("spec.eventStore.bucketsPerId", events.buckets_per_id.value)?,
            bucket_width: events.bucket_width.value.as_std(),
            accept_limit: set.accept_limit.as_std(),
            write_timeout: set.write_timeout.as_std(),
            max_clock_skew: set.max_clock_skew.as_std(),
        },
        slice_width: events.slice_width.value.as_std(),
    })
}

/// The rollup servers, `host:port`, whose hosts' first labels are the pods' names.
pub fn rollup_endpoints(name: &str, kubernetes_namespace: &str, rollup: &Rollup) -> Vec<String> {
    let set = names::rollup(name);
    let endpoint = |number| format!("{set}-{number}.{set}.{kubernetes_namespace}.svc:{}", names::ROLLUP_PORT);
    (0..rollup.replicas.value).map(endpoint).collect()
}

/// The cache servers, a list of shards for each copy.
pub fn cache_endpoints(name: &str, kubernetes_namespace: &str, cache: &Cache) -> Vec<Vec<String>> {
    let endpoint = |replica, shard| {
        let set = names::cache_replica(name, replica);
        format!("{set}-{shard}.{set}.{kubernetes_namespace}.svc:{}", names::MEMCACHED_PORT)
    };
    (0..cache.replicas.value)
        .map(|replica| (0..cache.shards.value).map(|shard| endpoint(replica, shard)).collect())
        .collect()
}

/// The schema has narrower bounds; these are the type's.
fn count(field: &str, value: i32) -> Result<NonZeroU16, Error> {
    let count = u16::try_from(value).ok().and_then(NonZeroU16::new);
    count.ok_or_else(|| invalid(field, value, format_args!("must be 1 to {}", u16::MAX)))
}

fn invalid(field: &str, value: impl ToString, allowed: impl ToString) -> Error {
    Error::Invalid { field: field.to_owned(), value: value.to_string(), allowed: allowed.to_string() }
}
