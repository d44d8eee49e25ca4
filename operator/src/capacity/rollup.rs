//! The rollup servers. A server is sized by the load, not by how many servers there are: an autoscaler changes that number, and
//! must not change every pod with it.

use tallyman_crds::CounterNamespaceSpec;
use tallyman_crds::counter_namespace::DEFAULT_NUM_QUEUES;

use super::figures::{
    BATCHES_PER_SECOND, BUSY, ROLLUP_BASE_MIB, ROLLUP_BYTES, ROLLUP_CORE_US, ROLLUP_SERVER_CORES,
    ROLLUP_SERVER_ROLLUPS_PER_SECOND, ROLLUP_WRITE_CORE_US,
};
use super::load::{Derived, Load};
use super::{Choice, Origin, Rollup, sizes};

/// Two, so that one may be away.
const REPLICAS_MIN: u64 = 2;
/// The most that the schema allows.
const REPLICAS_MAX: u64 = 256;
const QUEUES_MIN: u64 = 4;
/// The most that the schema allows.
const QUEUES_MAX: u64 = 1_024;
/// Without a workload.
const DEFAULT_MILLICORES: u64 = 200;

pub fn plan(spec: &CounterNamespaceSpec, load: &Load, notes: &mut Vec<String>) -> Rollup {
    let rollups = load.rollups();
    let busy = rollups.as_ref().map(|rollups| cores(rollups, load));
    let recommended = rollups.as_ref().zip(busy.as_ref()).map(|(rollups, busy)| replicas(rollups, busy));
    let mut replicas = Choice::of_spec(spec.rollup.replicas, "rollup.replicas");
    if let Some((number, why)) = &recommended {
        replicas.reason = format!("spec.rollup.replicas; the load asks for {number}: {why}");
        if replicas.value < *number {
            notes.push(format!(
                "spec.rollup.replicas: {}: is less than the {number} that the load asks for ({why}): counts will lag behind; nothing is lost",
                replicas.value
            ));
        }
    }
    let num_queues = num_queues(spec, rollups.as_ref(), notes);
    let resources = resources(spec, busy.as_ref(), num_queues.value);
    Rollup { replicas, replicas_recommended: recommended.map(|(number, _)| number), num_queues, resources }
}

/// Processors of all servers, in thousandths, such that they are half busy.
fn cores(rollups: &Derived, load: &Load) -> Derived {
    let writes = load.writes.unwrap_or(0);
    let us = rollups.number * ROLLUP_CORE_US + writes * ROLLUP_WRITE_CORE_US;
    let number = (us as f64 / 1_000.0 / BUSY).ceil() as u64;
    let why = format!(
        "({} rollups/s × {ROLLUP_CORE_US} µs + {writes} writes/s × {ROLLUP_WRITE_CORE_US} µs) ÷ {BUSY} busy = {number} millicores",
        rollups.number
    );
    Derived { number, why }
}

fn replicas(rollups: &Derived, busy: &Derived) -> (i32, String) {
    let by_cores = busy.number.div_ceil(ROLLUP_SERVER_CORES * 1_000);
    let by_rollups = rollups.number.div_ceil(ROLLUP_SERVER_ROLLUPS_PER_SECOND);
    let number = by_cores.max(by_rollups).clamp(REPLICAS_MIN, REPLICAS_MAX);
    let why = format!(
        "{} millicores ÷ {ROLLUP_SERVER_CORES} cores a server = {by_cores}, {} rollups/s ÷ {ROLLUP_SERVER_ROLLUPS_PER_SECOND} a server = {by_rollups}, and {REPLICAS_MIN} at least",
        busy.number, rollups.number
    );
    // Not above 256.
    (number as i32, why)
}

fn num_queues(spec: &CounterNamespaceSpec, rollups: Option<&Derived>, notes: &mut Vec<String>) -> Choice<i32> {
    if let Some(queues) = spec.rollup.num_queues {
        return Choice::of_spec(queues, "rollup.numQueues");
    }
    let Some(rollups) = rollups else {
        let reason = "the default, as workload.writesPerSecond is not given";
        return Choice::new(DEFAULT_NUM_QUEUES, Origin::Default, reason);
    };
    let per_server = rollups.number.div_ceil(REPLICAS_MIN).min(ROLLUP_SERVER_ROLLUPS_PER_SECOND);
    let batch = u64::try_from(spec.rollup.batch_count).unwrap_or(1).max(1);
    let by_work = per_server.div_ceil(batch * BATCHES_PER_SECOND);
    // A queue works on one window while the next gathers.
    let waiting_bytes = 2 * per_server * spec.rollup.coalesce.as_millis() / 1_000 * ROLLUP_BYTES;
    let by_memory = waiting_bytes.div_ceil(spec.rollup.queue_capacity.as_bytes().max(1));
    let needed = by_work.max(by_memory);
    if needed > QUEUES_MAX {
        notes.push(format!(
            "rollup.numQueues: {QUEUES_MAX} is the most, and {needed} are needed; raise rollup.queueCapacity or rollup.batchCount"
        ));
    }
    let number = needed.next_power_of_two().clamp(QUEUES_MIN, QUEUES_MAX);
    let reason = format!(
        "{}, {per_server} of them on one server: ÷ (batches of {batch} × {BATCHES_PER_SECOND}/s) = {by_work}; 2 windows of {} × {ROLLUP_BYTES} B ÷ {} a queue = {by_memory}; to a power of two, {QUEUES_MIN} at least",
        rollups.why, spec.rollup.coalesce, spec.rollup.queue_capacity
    );
    // Not above 1,024.
    Choice::new(number as i32, Origin::Workload, reason)
}

fn resources(
    spec: &CounterNamespaceSpec,
    busy: Option<&Derived>,
    num_queues: i32,
) -> Choice<tallyman_crds::resources::Resources> {
    if let Some(resources) = &spec.rollup.resources {
        return Choice::of_spec(resources.clone(), "rollup.resources");
    }
    let queues_mib = sizes::mib(u64::try_from(num_queues).unwrap_or(1) * spec.rollup.queue_capacity.as_bytes());
    let memory = sizes::memory_step(queues_mib + ROLLUP_BASE_MIB);
    let memory_why = format!(
        "memory {num_queues} queues × {} + {ROLLUP_BASE_MIB} MiB = {} MiB, to a step",
        spec.rollup.queue_capacity,
        queues_mib + ROLLUP_BASE_MIB
    );
    let Some(busy) = busy else {
        let reason = format!("cpu by default; {memory_why}");
        return Choice::new(sizes::resources(DEFAULT_MILLICORES, memory), Origin::Default, reason);
    };
    let one = busy.number.div_ceil(REPLICAS_MIN).min(ROLLUP_SERVER_CORES * 1_000);
    let reason =
        format!("cpu {}, over {REPLICAS_MIN} servers at least = {one} for one, to a step; {memory_why}", busy.why);
    Choice::new(sizes::resources(sizes::cpu_step(one), memory), Origin::Workload, reason)
}
