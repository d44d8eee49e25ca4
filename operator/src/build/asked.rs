//! What was asked of the pods of a StatefulSet, as a digest: the words of the spec and the class and the image, not what this release
//! makes of them. As long as it stays the same, an upgrade of the operator has no reason to restart a pod. For the same reason, a
//! field that is added here must be left out while it is not set.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use tallyman_crds::counter_namespace::{Cardinality, Workload};
use tallyman_crds::resources::Resources;
use tallyman_crds::{CounterType, Duration, Quantity};

use super::context::Context;

#[derive(Serialize)]
struct Asked<'a, T> {
    image: &'a str,
    counter_type: CounterType,
    cardinality: Cardinality,
    workload: Option<&'a Workload>,
    set: T,
    class_resources: Option<&'a Resources>,
}

/// Without the number of servers, which pods do not see.
#[derive(Serialize)]
struct Rollup<'a> {
    num_queues: Option<i32>,
    coalesce: Duration,
    queue_capacity: Quantity,
    batch_count: i32,
    resources: Option<&'a Resources>,
}

/// Without the numbers of copies and shards.
#[derive(Serialize)]
struct Cache<'a> {
    memory: Option<Quantity>,
    resources: Option<&'a Resources>,
}

pub fn of_rollup(context: &Context<'_>) -> String {
    let rollup = &context.spec.rollup;
    let set = Rollup {
        num_queues: rollup.num_queues,
        coalesce: rollup.coalesce,
        queue_capacity: rollup.queue_capacity,
        batch_count: rollup.batch_count,
        resources: rollup.resources.as_ref(),
    };
    let class = context.class.defaults.as_ref().and_then(|defaults| defaults.rollup_resources.as_ref());
    digest_of(context, &context.images.rollup, set, class)
}

pub fn of_cache(context: &Context<'_>) -> String {
    let cache = context.spec.cache.as_ref();
    let set = Cache {
        memory: cache.and_then(|cache| cache.memory),
        resources: cache.and_then(|cache| cache.resources.as_ref()),
    };
    let class = context.class.defaults.as_ref().and_then(|defaults| defaults.cache_resources.as_ref());
    digest_of(context, &context.images.memcached, set, class)
}

/// Sixteen digits: enough to tell changes of one object apart.
fn digest_of(context: &Context<'_>, image: &str, set: impl Serialize, class_resources: Option<&Resources>) -> String {
    let spec = context.spec;
    let asked = Asked {
        image,
        counter_type: spec.counter_type,
        cardinality: spec.cardinality,
        workload: spec.workload.as_ref(),
        set,
        class_resources,
    };
    // Structs with fixed field names, and maps with text for keys.
    let json = serde_json::to_vec(&asked).expect("what was asked is JSON");
    digest(&SHA256, &json).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
