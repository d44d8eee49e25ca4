//! memcached: for each copy of the cache a StatefulSet, a headless Service and a PodDisruptionBudget; one NetworkPolicy.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::context::Context;
use super::stateful_set::{self, Parts};
use super::{Object, asked, disruption, network, pod, resources, service};
use crate::capacity::memcached_memory_within;
use crate::names::{self, Component};

/// The user of the image.
const USER: i64 = 11_211;
const PORT: &str = "memcached";
const THREADS: u32 = 4;
/// Each sidecar and rollup server has a few; an idle one takes about a kilobyte.
const CONNECTIONS_MAX: u32 = 8_192;

pub fn build(context: &Context<'_>) -> Vec<Object> {
    let groups = (0..context.plan.cache.replicas.value).flat_map(|replica| group(context, replica));
    [network::of_cache(context)].into_iter().chain(groups).collect()
}

/// One copy of the cache.
fn group(context: &Context<'_>, replica: i32) -> [Object; 3] {
    let name = names::cache_replica(context.name, replica);
    let with_replica = |mut labels: BTreeMap<String, String>| {
        labels.insert(names::CACHE_REPLICA.to_owned(), replica.to_string());
        labels
    };
    let metadata = || {
        let metadata = context.metadata(name.clone(), Component::Cache);
        ObjectMeta { labels: metadata.labels.map(with_replica), ..metadata }
    };
    let labels = with_replica(names::selector_labels(context.name, Component::Cache));
    let selector = LabelSelector { match_labels: Some(labels.clone()), match_expressions: None };
    // Copies of one shard apart from each other matter more than the shards of one copy.
    let mut pod = pod::base(USER, names::selector(context.name, Component::Cache));
    pod.containers = vec![container(context)];
    [
        service::headless(metadata(), labels, &[(PORT, names::MEMCACHED_PORT)]),
        disruption::one_at_a_time(metadata(), selector.clone()),
        stateful_set::build(Parts {
            metadata: metadata(),
            asked: asked::of_cache(context),
            replicas: context.plan.cache.shards.value,
            selector,
            pod,
        }),
    ]
}

fn container(context: &Context<'_>) -> Container {
    let resources = resources::of_cache(context);
    let planned_mib = (context.plan.cache.memory.value.as_bytes() >> 20).max(1);
    let limit = resources::memory_limit_bytes(&resources);
    let memory_mib = limit.map_or(planned_mib, |limit| planned_mib.min(memcached_memory_within(limit)));
    Container {
        name: "memcached".to_owned(),
        image: Some(context.images.memcached.clone()),
        args: Some(vec![
            format!("--memory-limit={memory_mib}"),
            format!("--port={}", names::MEMCACHED_PORT),
            format!("--conn-limit={CONNECTIONS_MAX}"),
            format!("--threads={THREADS}"),
        ]),
        ports: Some(vec![pod::port(PORT, names::MEMCACHED_PORT)]),
        readiness_probe: Some(pod::tcp_probe(PORT, 5)),
        liveness_probe: Some(pod::tcp_probe(PORT, 10)),
        resources: Some(resources),
        security_context: Some(pod::container_security()),
        ..Container::default()
    }
}
