//! What one run is made of, drawn from its seed.

use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use tallyman_counter::configuration::{
    Accuracy, CacheStorage, Cardinality, Counting, DatasetStorage, Durable, NamespaceConfiguration, Queue, Retention,
    TimePartition,
};
use tallyman_counter::model::{CounterKey, CounterName, NamespaceName, SliceSettings};

use crate::breaks::Break;
use crate::cache;
use crate::cassandra::faults::Faults;
use crate::random::Random;

/// The settings of a run's namespaces, as one generation of their configuration has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    pub number: usize,
    pub slices: SliceSettings,
    pub coalesce: Duration,
    pub num_queues: NonZeroU16,
    pub capacity_bytes: usize,
    pub rollup_batch_count: NonZeroUsize,
}

impl Generation {
    fn drawn(number: usize, random: &mut Random) -> Self {
        let slices = SliceSettings {
            buckets_per_id: nonzero(*random.pick(&[1, 1, 2, 4])),
            bucket_width: Duration::from_secs(*random.pick(&[1, 2, 5, 30])),
            accept_limit: random.millis(500, 3_000),
            write_timeout: random.millis(300, 1_500),
            max_clock_skew: random.millis(100, 600),
        };
        Self {
            number,
            slices,
            coalesce: random.millis(200, 2_000),
            num_queues: nonzero(*random.pick(&[1, 2, 3])),
            capacity_bytes: *random.pick(&[16 << 10, 64 << 10]),
            rollup_batch_count: NonZeroUsize::new(*random.pick(&[1, 4, 32])).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

fn nonzero(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap_or(NonZeroU16::MIN)
}

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub generations: Vec<Generation>,
    pub cardinality: Cardinality,
    pub slice_width: Duration,
    pub close_after: Duration,
    pub delete_after: Duration,
    pub sweep_every: Duration,
    pub sidecars: usize,
    pub rollup_servers: usize,
    pub clients: usize,
    pub client_pause_ms: u64,
    pub counters: Vec<CounterKey>,
    pub active: Duration,
    pub store_faults: Faults,
    pub cache_faults: cache::Faults,
    /// A rollup event is lost on its way.
    pub rollup_event_drop: f64,
    /// A rollup event goes to a second server as well.
    pub rollup_event_misrouted: f64,
    /// Rollup servers are told of more counters than their queues hold.
    pub floods: bool,
    /// Clocks without error, so that two servers may come to the same boundary.
    pub clocks_exact: bool,
    /// The mean pause between two disturbances; none in calm runs.
    pub disturbed_every: Option<Duration>,
    pub clocks_step: bool,
}

pub const NAMESPACES: [(&str, Accuracy); 2] = [("eventual", Accuracy::Eventual), ("accurate", Accuracy::Accurate)];

impl Plan {
    pub fn drawn(seed: u64, broken: Option<Break>) -> Self {
        let mut random = Random::stream(seed, "plan", 0);
        let changes = *random.pick(&[0, 1, 3]);
        // Where settings never change, a break of what depends on them shows as nothing else.
        let changes = if broken.is_some_and(|broken| broken != Break::SettingsFromConfiguration) { 0 } else { changes };
        let generations: Vec<Generation> = (0..=changes).map(|number| Generation::drawn(number, &mut random)).collect();
        let lag_max = generations.iter().map(|generation| generation.slices.lag()).max().unwrap_or_default();
        let close_after = lag_max + random.millis(1_000, 6_000);
        let counters_each = 2 + random.below(4);
        let counters = NAMESPACES.iter().flat_map(|(namespace, _)| {
            (0..counters_each).map(|index| CounterKey {
                namespace: NamespaceName::new(namespace).expect("a valid name"),
                name: CounterName::new(&format!("c{index}")).expect("a valid name"),
            })
        });
        Self {
            seed,
            cardinality: *random.pick(&[Cardinality::Low, Cardinality::High]),
            slice_width: Duration::from_secs(*random.pick(&[5, 10, 20])),
            close_after,
            delete_after: close_after + random.millis(1_000, 10_000),
            sweep_every: random.millis(2_000, 8_000),
            sidecars: 2 + random.below(2),
            rollup_servers: 1 + random.below(3),
            clients: 3 + random.below(4),
            client_pause_ms: *random.pick(&[50, 200, 600]),
            counters: counters.collect(),
            active: random.millis(15_000, 40_000),
            store_faults: Faults::drawn(&mut random),
            cache_faults: *random.pick(&[cache::Faults::NONE, cache::Faults::SOME]),
            rollup_event_drop: *random.pick(&[0.0, 0.1, 0.5, 1.0]),
            rollup_event_misrouted: *random.pick(&[0.0, 0.3, 1.0]),
            floods: random.chance(0.3),
            clocks_exact: random.chance(0.3),
            disturbed_every: random.chance(0.85).then(|| random.millis(400, 4_000)),
            clocks_step: random.chance(0.4) || broken == Some(Break::ClocksAlwaysAgree),
            generations,
        }
    }

    /// The longest that any generation's boundary lies behind now.
    pub fn lag_max(&self) -> Duration {
        self.generations.iter().map(|generation| generation.slices.lag()).max().unwrap_or_default()
    }

    /// How long after the last write every eventual count is exact, a sweep included.
    pub fn convergence_bound(&self) -> Duration {
        let accept_limit = self.generations.iter().map(|generation| generation.slices.accept_limit).max();
        let coalesce = self.generations.iter().map(|generation| generation.coalesce).max();
        let one_batch = Duration::from_secs(2);
        self.lag_max() + accept_limit.unwrap_or_default() + coalesce.unwrap_or_default() + one_batch + self.sweep_every
    }

    /// The documents of both namespaces in one generation.
    pub fn configurations(&self, generation: &Generation, rollup_endpoints: &[String]) -> Vec<NamespaceConfiguration> {
        let configuration = |(namespace, accuracy): &(&str, Accuracy)| NamespaceConfiguration {
            namespace: NamespaceName::new(namespace).expect("a valid name"),
            region: "dc1".into(),
            counting: Counting::Durable(Box::new(self.durable(*accuracy, generation, rollup_endpoints))),
        };
        NAMESPACES.iter().map(configuration).collect()
    }

    fn durable(&self, accuracy: Accuracy, generation: &Generation, rollup_endpoints: &[String]) -> Durable {
        let storage = DatasetStorage::Memory { dataset: "dataset".into() };
        Durable {
            accuracy,
            cardinality: self.cardinality,
            cache: Some(CacheStorage::Memory),
            events: storage.clone(),
            rollups: storage,
            rollup_endpoints: rollup_endpoints.to_vec(),
            rollup_tls: None,
            queue: Queue {
                num_queues: generation.num_queues,
                coalesce: generation.coalesce,
                capacity_bytes: generation.capacity_bytes,
            },
            rollup_batch_count: generation.rollup_batch_count,
            time_partition: TimePartition { settings: generation.slices, slice_width: self.slice_width },
            retention: Retention { close_after: self.close_after, delete_after: self.delete_after },
        }
    }
}
