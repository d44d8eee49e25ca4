//! What a workload means for partitions, rollup servers and memcached. Whole numbers, rounded up: no float decides a setting but
//! through the hottest counter's share.

use tallyman_crds::counter_namespace::Cardinality;
use tallyman_crds::{CounterNamespaceSpec, CounterType};

use super::figures::{
    CASSANDRA_READ_CORE_MS, CASSANDRA_WRITE_CORE_MS, COUNTERS_ASSUMED, WRITES_PER_ROLLUP_HIGH, WRITES_PER_ROLLUP_LOW,
};

/// What a workload says, and what follows from it.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Writes a second; `None` where it is not said.
    pub writes: Option<u64>,
    /// Reads a second.
    pub reads: Option<u64>,
    /// How many counters there are.
    pub counters: Option<u64>,
    cardinality: Cardinality,
    coalesce_ms: u64,
}

/// A number and where it comes from.
pub struct Derived {
    pub number: u64,
    pub why: String,
}

impl Load {
    pub fn of(spec: &CounterNamespaceSpec) -> Self {
        let workload = spec.workload.clone().unwrap_or_default();
        // The schema lets nothing below 0 through.
        let number = |value: Option<i64>| value.map(|value| u64::try_from(value).unwrap_or(0));
        Self {
            writes: number(workload.writes_per_second),
            reads: number(workload.reads_per_second),
            counters: number(workload.counters),
            cardinality: spec.cardinality,
            coalesce_ms: spec.rollup.coalesce.as_millis().max(1),
        }
    }

    /// Writes a second of the hottest counter: of counters whose popularity falls as Zipf's law says, the first gets 1 of the
    /// harmonic number.
    pub fn hottest(&self) -> Option<Derived> {
        let writes = self.writes?;
        let counters = self.counters.unwrap_or(COUNTERS_ASSUMED).max(1);
        let harmonic = harmonic(counters);
        let number = (writes as f64 / harmonic).ceil() as u64;
        let assumed = if self.counters.is_none() { " (assumed)" } else { "" };
        let why = format!(
            "{writes} writes/s ÷ {harmonic:.1} (the hottest of {counters} counters{assumed}, by Zipf's law) = {number} writes/s to one counter"
        );
        Some(Derived { number, why })
    }

    /// Rollups a second of all servers at most.
    pub fn rollups(&self) -> Option<Derived> {
        let window = format!("coalesce of {} ms", self.coalesce_ms);
        let per_window = self.counters.map(|counters| whole_div(counters.saturating_mul(1_000), self.coalesce_ms));
        let derived = match (self.cardinality, per_window, self.writes) {
            (Cardinality::Low, Some(number), _) => {
                let counters = self.counters.unwrap_or_default();
                let why = format!("{counters} counters in circulation ÷ {window} = {number} rollups/s");
                Derived { number, why }
            }
            (Cardinality::High, Some(once), Some(writes)) => {
                let number = once.min(writes);
                let counters = self.counters.unwrap_or_default();
                let why = format!(
                    "the less of {writes} writes/s and {counters} counters ÷ {window} = {number} rollups/s at most"
                );
                Derived { number, why }
            }
            (cardinality, _, Some(writes)) => {
                let per_rollup = match cardinality {
                    Cardinality::Low => WRITES_PER_ROLLUP_LOW,
                    Cardinality::High => WRITES_PER_ROLLUP_HIGH,
                };
                let number = writes.div_ceil(per_rollup);
                let why = format!("{writes} writes/s ÷ {per_rollup} writes a rollup = {number} rollups/s");
                Derived { number, why }
            }
            _ => return None,
        };
        Some(derived)
    }

    /// What Cassandra is to bear. A rollup, and a read of an Accurate counter, reads the counter's row and its partitions: those of
    /// one time bucket, as windows are short.
    pub fn of_cassandra(&self, counter_type: CounterType, buckets_per_id: i32) -> Option<String> {
        let writes = self.writes?;
        let rollups = self.rollups().map_or(0, |rollups| rollups.number);
        let gets = if counter_type == CounterType::Accurate { self.reads.unwrap_or(0) } else { 0 };
        let per_scan = 1 + u64::try_from(buckets_per_id).unwrap_or(1);
        let changed = writes.saturating_add(rollups);
        let read = rollups.saturating_add(gets).saturating_mul(per_scan);
        let core_ms = changed * CASSANDRA_WRITE_CORE_MS + read.saturating_mul(CASSANDRA_READ_CORE_MS);
        let cores = core_ms.div_ceil(1_000);
        let scans =
            if gets > 0 { format!("({rollups} rollups/s + {gets} reads/s)") } else { format!("{rollups} rollups/s") };
        Some(format!(
            "Cassandra: ({writes} events/s + {rollups} checkpoints/s) × {CASSANDRA_WRITE_CORE_MS} core-ms + {scans} × {per_scan} partitions × {CASSANDRA_READ_CORE_MS} core-ms = {cores} cores, over all nodes, at most"
        ))
    }
}

/// Rounded up; nothing is divided by 0.
fn whole_div(number: u64, by: u64) -> u64 {
    number.div_ceil(by.max(1))
}

/// 1 + 1/2 + … + 1/n, exact for few and to six digits for many.
fn harmonic(n: u64) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    if n <= 100 {
        return (1..=n).map(|one| 1.0 / one as f64).sum();
    }
    (n as f64).ln() + EULER + 0.5 / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harmonic_number_has_no_step_where_its_formula_changes() {
        let difference = harmonic(101) - harmonic(100);
        assert!((difference - 1.0 / 101.0).abs() < 1e-4, "{difference}");
        assert_eq!(harmonic(1), 1.0);
    }
}
