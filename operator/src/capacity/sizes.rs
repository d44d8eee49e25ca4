//! Sane steps of processors and memory, and how they are written.

use std::collections::BTreeMap;

use tallyman_crds::Quantity;
use tallyman_crds::resources::{Amount, Resources};

use super::figures::CACHE_BASE_MIB;

/// Processors that a container asks for, in thousandths: people know these from elsewhere.
const CPU_STEPS: [u64; 9] = [100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000];

/// The step that has at least so many thousandths of a core.
pub fn cpu_step(millicores: u64) -> u64 {
    CPU_STEPS.into_iter().find(|step| *step >= millicores).unwrap_or_else(|| millicores.next_multiple_of(1_000))
}

/// The step that has at least so many MiB: multiples of 64 below 1 GiB, of 256 below 8, of 1024 beyond.
pub fn memory_step(mib: u64) -> u64 {
    let step = match mib {
        0..1_024 => 64,
        1_024..8_192 => 256,
        _ => 1_024,
    };
    mib.max(1).next_multiple_of(step)
}

/// The same, for the sum of bytes.
pub fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// What a container gets: memory is what it may have, processors are what is set aside; it may use twice as many, one at least.
pub fn resources(millicores: u64, memory_mib: u64) -> Resources {
    let cpu = |millicores: u64| match millicores.is_multiple_of(1_000) {
        true => Amount((millicores / 1_000).to_string()),
        false => Amount(format!("{millicores}m")),
    };
    let memory = Amount(Quantity::from_mebibytes(memory_mib).to_string());
    let amounts = |cpu: Amount| BTreeMap::from([("cpu".to_owned(), cpu), ("memory".to_owned(), memory.clone())]);
    Resources { requests: amounts(cpu(millicores)), limits: amounts(cpu((2 * millicores).max(1_000))) }
}

/// `cpu 100m (at most 1), memory 384Mi`.
pub fn shown(resources: &Resources) -> String {
    let list = |amounts: &BTreeMap<String, Amount>| {
        amounts.iter().map(|(name, amount)| format!("{name} {}", amount.0)).collect::<Vec<_>>().join(", ")
    };
    match (resources.requests.is_empty(), resources.limits.is_empty()) {
        (true, true) => "none".to_owned(),
        (false, true) => list(&resources.requests),
        (true, false) => format!("at most {}", list(&resources.limits)),
        (false, false) => format!("{} (at most {})", list(&resources.requests), list(&resources.limits)),
    }
}

/// Memory that a container of memcached needs for so much memory for counters, in MiB.
pub fn memcached_container_mib(memory_mib: u64) -> u64 {
    memory_mib + memory_mib.div_ceil(4) + CACHE_BASE_MIB
}

/// Memory for counters that fits into a container of memcached that may have so much, in MiB; at least 1.
#[must_use]
pub fn memcached_memory_within(limit_bytes: u64) -> u64 {
    let limit_mib = limit_bytes >> 20;
    (limit_mib.saturating_sub(CACHE_BASE_MIB) * 4 / 5).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_enough_and_never_fall() {
        for steps in [cpu_step, memory_step] {
            let mut last = 0;
            for number in 0..20_000 {
                let step = steps(number);
                assert!(step >= number && step >= last && step > 0);
                last = step;
            }
        }
    }

    #[test]
    fn the_memory_that_fits_a_container_is_that_it_was_made_for() {
        for memory in 16..5_000 {
            let container = memcached_container_mib(memory);
            let within = memcached_memory_within(container << 20);
            assert!((memory..=memory + 1).contains(&within), "{memory} {container} {within}");
        }
        assert_eq!(memcached_memory_within(0), 1);
    }

    #[test]
    fn resources_are_written_as_the_api_server_writes_them() {
        assert_eq!(shown(&resources(100, 384)), "cpu 100m, memory 384Mi (at most cpu 1, memory 384Mi)");
        assert_eq!(shown(&resources(2_000, 2_048)), "cpu 2, memory 2Gi (at most cpu 4, memory 2Gi)");
    }
}
