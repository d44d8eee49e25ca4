//! memcached: memory by the number of counters, shards by memory and operations.

use tallyman_crds::resources::{Amount, Resources};
use tallyman_crds::{CounterNamespaceSpec, CounterType, Quantity};

use super::figures::{CACHE_BASE_MIB, CACHE_ITEM_BYTES, CACHE_SERVER_MIB, CACHE_SERVER_OPERATIONS_PER_SECOND};
use super::load::Load;
use super::{Cache, Choice, Origin, sizes};

/// One may be away: its counts are read from the other.
const REPLICAS: i32 = 2;
/// The most that the schema allows.
const SHARDS_MAX: u64 = 256;
/// Without a workload.
const DEFAULT_MIB: u64 = 256;
const MIB_MIN: u64 = 64;
/// The most that the schema allows.
const MIB_MAX: u64 = 1 << 20;
/// Without a workload, and the least.
const MILLICORES_MIN: u64 = 100;
/// It has four threads.
const MILLICORES_MAX: u64 = 4_000;

pub fn plan(spec: &CounterNamespaceSpec, load: &Load, notes: &mut Vec<String>) -> Cache {
    let set = spec.cache.clone().unwrap_or_default();
    let replicas = match set.replicas {
        Some(replicas) => Choice::of_spec(replicas, "cache.replicas"),
        None => Choice::new(REPLICAS, Origin::Default, "one may be away"),
    };
    let shards = match set.shards {
        Some(shards) => Choice::of_spec(shards, "cache.shards"),
        None => shards(spec.counter_type, load, notes),
    };
    let memory = match set.memory {
        Some(memory) => Choice::of_spec(memory, "cache.memory"),
        None => memory(spec.counter_type, load),
    };
    let resources = match &set.resources {
        Some(resources) => {
            notes.extend(too_small(resources, memory.value));
            Choice::of_spec(resources.clone(), "cache.resources")
        }
        None => resources(spec.counter_type, load, memory.value),
    };
    Cache { replicas, shards, memory, resources }
}

/// Memory for all counters, in MiB, of one copy.
fn needed_mib(load: &Load) -> Option<(u64, u64)> {
    let counters = load.counters?;
    Some((counters, sizes::mib(counters.saturating_mul(CACHE_ITEM_BYTES))))
}

/// Operations a second on one copy: every read, and every write of counts.
fn operations(counter_type: CounterType, load: &Load) -> Option<(u64, String)> {
    let reads = load.reads.unwrap_or(0);
    let (writes, what) = match counter_type {
        CounterType::BestEffort => (load.writes?, "writes/s"),
        CounterType::Eventual | CounterType::Accurate => (load.rollups()?.number, "rollups/s"),
    };
    Some((reads + writes, format!("{reads} reads/s + {writes} {what}")))
}

fn shards(counter_type: CounterType, load: &Load, notes: &mut Vec<String>) -> Choice<i32> {
    let needed = needed_mib(load);
    let operations = operations(counter_type, load);
    if needed.is_none() && operations.is_none() {
        return Choice::new(1, Origin::Default, "the default, as workload gives neither counters nor writesPerSecond");
    }
    let (counters, needed) = needed.unwrap_or_default();
    let (operations, what) = operations.unwrap_or_default();
    let by_memory = needed.div_ceil(CACHE_SERVER_MIB);
    let by_operations = operations.div_ceil(CACHE_SERVER_OPERATIONS_PER_SECOND);
    let number = by_memory.max(by_operations).clamp(1, SHARDS_MAX);
    let mut reasons = Vec::new();
    if counters > 0 {
        reasons.push(format!(
            "{counters} counters × {CACHE_ITEM_BYTES} B = {needed} MiB ÷ {CACHE_SERVER_MIB} MiB a server = {by_memory}"
        ));
    }
    if operations > 0 {
        reasons
            .push(format!("({what}) ÷ {CACHE_SERVER_OPERATIONS_PER_SECOND} operations/s a server = {by_operations}"));
    }
    let why = reasons.join("; ");
    if counter_type == CounterType::BestEffort {
        // Counts of keys that move are lost: a changed workload must not change the number.
        if number > 1 {
            notes.push(format!(
                "cache.shards: 1, though the load asks for {number} ({why}): the number can never change, so that it is only ever what cache.shards says. Set it when the CounterNamespace is created"
            ));
        }
        let reason =
            "BestEffort counts are lost when the number of shards changes: 1 unless cache.shards says otherwise";
        return Choice::new(1, Origin::Default, reason);
    }
    let why = if why.is_empty() { "the workload is none".to_owned() } else { why };
    // Not above 256.
    Choice::new(number as i32, Origin::Workload, format!("{why}; 1 at least"))
}

fn memory(counter_type: CounterType, load: &Load) -> Choice<Quantity> {
    let Some((counters, needed)) = needed_mib(load) else {
        let reason = "the default, as workload.counters is not given";
        return Choice::new(Quantity::from_mebibytes(DEFAULT_MIB), Origin::Default, reason);
    };
    // BestEffort counts have no other place, and one shard unless more are set.
    let most = if counter_type == CounterType::BestEffort { MIB_MAX } else { CACHE_SERVER_MIB };
    let mib = sizes::memory_step(needed.min(most)).clamp(MIB_MIN, most);
    let reason = format!(
        "{counters} counters × {CACHE_ITEM_BYTES} B = {needed} MiB, to a step, {MIB_MIN} MiB at least and {most} MiB at most"
    );
    Choice::new(Quantity::from_mebibytes(mib), Origin::Workload, reason)
}

fn resources(counter_type: CounterType, load: &Load, memory: Quantity) -> Choice<Resources> {
    let memory_mib = sizes::mib(memory.as_bytes());
    let container = sizes::memcached_container_mib(memory_mib);
    let memory_why = format!("memory {memory_mib} MiB × 1.25 + {CACHE_BASE_MIB} MiB = {container} MiB");
    let container = container.next_multiple_of(16);
    let Some((operations, what)) = operations(counter_type, load) else {
        let reason = format!("cpu by default; {memory_why}");
        return Choice::new(sizes::resources(MILLICORES_MIN, container), Origin::Default, reason);
    };
    // Half busy: see CACHE_SERVER_OPERATIONS_PER_SECOND.
    let most = operations.min(CACHE_SERVER_OPERATIONS_PER_SECOND);
    let millicores = (most * MILLICORES_MAX).div_ceil(CACHE_SERVER_OPERATIONS_PER_SECOND);
    let reason = format!(
        "cpu ({what}), {most} of them on one server, × 4 cores ÷ {CACHE_SERVER_OPERATIONS_PER_SECOND}/s = {millicores} millicores, to a step; {memory_why}"
    );
    Choice::new(sizes::resources(sizes::cpu_step(millicores), container), Origin::Workload, reason)
}

/// A container that is killed for its memory loses what it holds; one with less for counters only forgets the oldest.
fn too_small(resources: &Resources, memory: Quantity) -> Option<String> {
    let Amount(limit) = resources.limits.get("memory")?;
    let limit_bytes = limit.parse::<Quantity>().ok()?.as_bytes();
    let within = sizes::memcached_memory_within(limit_bytes);
    (within < memory.as_bytes() >> 20).then(|| {
        format!(
            "cache.resources.limits.memory: {limit}: is too little for cache.memory {memory}; counters get {within} MiB of it, so that memcached is not killed"
        )
    })
}
