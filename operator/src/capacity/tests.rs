//! Properties of plans, over all workloads.

use std::sync::LazyLock;

use proptest::prelude::*;
use tallyman_crds::counter_namespace::{
    Cardinality, DEFAULT_BUCKET_WIDTH, DEFAULT_BUCKETS_PER_ID, DEFAULT_NUM_QUEUES, DEFAULT_SLICE_WIDTH, Workload,
};
use tallyman_crds::manifest::read_counter_namespaces;
use tallyman_crds::resources::Amount;
use tallyman_crds::{CounterNamespace, Quantity};

use super::*;

fn spec(text: &str) -> CounterNamespaceSpec {
    let head = "apiVersion: tallyman.dev/v1alpha1\nkind: CounterNamespace\nmetadata: {name: video-plays}\n";
    read_counter_namespaces(&format!("{head}spec: {text}\n"), "test").unwrap().remove(0).spec
}

fn line(spec: &CounterNamespaceSpec, setting: &str) -> String {
    plan(spec).lines().into_iter().find(|line| line.setting == setting).unwrap().to_string()
}

#[test]
fn without_a_workload_the_defaults_stand() {
    let plan = plan(&spec("{counterType: Eventual}"));
    let expected = PlanStatus {
        buckets_per_id: Some(DEFAULT_BUCKETS_PER_ID),
        bucket_width: Some(DEFAULT_BUCKET_WIDTH),
        slice_width: Some(DEFAULT_SLICE_WIDTH),
        num_queues: Some(DEFAULT_NUM_QUEUES),
        cache_replicas: Some(2),
        cache_shards: Some(1),
        cache_memory: Some(Quantity::from_mebibytes(256)),
    };
    assert_eq!(plan.status(), expected);
    assert!(plan.lines().iter().all(|line| line.setting == "rollup.replicas" || line.origin == Origin::Default));
    assert_eq!(plan.notes, [] as [String; 0]);
}

#[test]
fn best_effort_has_a_cache_and_nothing_else() {
    let plan = plan(&spec("{counterType: BestEffort, workload: {writesPerSecond: 1000, counters: 10}}"));
    assert_eq!((&plan.events, &plan.rollup), (&None, &None));
    assert_eq!(plan.status().buckets_per_id, None);
    assert_eq!(plan.notes, [] as [String; 0]);
}

#[test]
fn the_arithmetic_is_shown() {
    let one = spec("{counterType: Eventual, workload: {writesPerSecond: 2000, counters: 1}}");
    assert_eq!(
        line(&one, "eventStore.bucketsPerId"),
        "eventStore.bucketsPerId 4: 2000 writes/s ÷ 1.0 (the hottest of 1 counters, by Zipf's law) = 2000 writes/s to one counter ÷ 500 writes/s a partition = 4, to a power of two"
    );
    let many =
        spec("{counterType: Eventual, workload: {writesPerSecond: 2000, counters: 100000, readsPerSecond: 500}}");
    assert_eq!(plan(&many).events.unwrap().buckets_per_id.value, 1);
    assert!(
        line(&many, "cache.memory").contains("100000 counters × 256 B = 25 MiB"),
        "{}",
        line(&many, "cache.memory")
    );
}

#[test]
fn what_the_spec_sets_wins() {
    let spec = spec(
        "{counterType: Accurate, workload: {writesPerSecond: 90000, counters: 3}, \
         eventStore: {bucketsPerId: 7, bucketWidth: 9m, sliceWidth: 18h}, rollup: {replicas: 3, numQueues: 5, resources: {requests: {cpu: 3}}}, \
         cache: {replicas: 1, shards: 3, memory: 77Mi, resources: {limits: {memory: 64Mi}}}}",
    );
    let plan = plan(&spec);
    assert!(plan.lines().iter().all(|line| line.origin == Origin::Spec), "{:?}", plan.lines());
    let status = plan.status();
    assert_eq!((status.buckets_per_id, status.num_queues, status.cache_shards), (Some(7), Some(5), Some(3)));
    assert_eq!(status.cache_memory, Some(Quantity::from_mebibytes(77)));
    assert_eq!(plan.rollup.unwrap().resources.value.requests["cpu"], Amount("3".to_owned()));
    assert!(plan.notes.iter().any(|note| note.contains("cache.resources.limits.memory: 64Mi: is too little")));
}

#[test]
fn too_few_rollup_servers_are_told_of() {
    let busy = spec(
        "{counterType: Eventual, workload: {writesPerSecond: 200000, counters: 100000000}, rollup: {replicas: 2}}",
    );
    let plan = plan(&busy);
    assert!(plan.rollup.as_ref().unwrap().replicas_recommended.unwrap() > 2);
    assert_eq!(plan.rollup.as_ref().unwrap().replicas.value, 2);
    assert!(plan.notes[0].starts_with("spec.rollup.replicas: 2: is less than"), "{:?}", plan.notes);
}

#[test]
fn more_rollup_servers_change_no_server() {
    let with = |replicas: i32| {
        let text = format!(
            "{{counterType: Eventual, workload: {{writesPerSecond: 90000, counters: 1000000}}, rollup: {{replicas: {replicas}}}}}"
        );
        let rollup = plan(&spec(&text)).rollup.unwrap();
        (rollup.num_queues.value, rollup.resources.value)
    };
    assert_eq!(with(2), with(200));
}

#[test]
fn the_shards_of_best_effort_follow_from_no_workload() {
    let plan = plan(&spec("{counterType: BestEffort, workload: {writesPerSecond: 5000000, counters: 100}}"));
    assert_eq!(plan.cache.shards.value, 1);
    assert!(plan.notes[0].contains("can never change"), "{:?}", plan.notes);
}

#[test]
fn namespaces_of_a_dataset_lay_out_their_events_by_the_oldest() {
    let oldest = spec("{counterType: Eventual, dataset: shared, workload: {writesPerSecond: 40000, counters: 1}}");
    let younger = spec("{counterType: Eventual, dataset: shared, workload: {writesPerSecond: 1, counters: 1}}");
    let events = plan_in_dataset(&younger, Some(&oldest)).events.unwrap();
    let theirs = plan(&oldest).events.unwrap();
    assert_eq!(events.buckets_per_id.value, theirs.buckets_per_id.value);
    assert_eq!(events.bucket_width.value, theirs.bucket_width.value);
    assert_eq!(events.slice_width.value, theirs.slice_width.value);
    assert_eq!(events.buckets_per_id.origin, Origin::Dataset);
    assert!(events.buckets_per_id.reason.starts_with("of the dataset's oldest namespace"));
}

fn workloads() -> impl Strategy<Value = Workload> {
    let number = |most: i64| prop::option::of(prop_oneof![0..1_000.min(most), 0..most]);
    (number(100_000_000), number(100_000_000), number(1_000_000_000_000)).prop_map(
        |(writes_per_second, reads_per_second, counters)| Workload { writes_per_second, reads_per_second, counters },
    )
}

/// Read once, for reading generates the schema.
static BASES: LazyLock<Vec<CounterNamespaceSpec>> = LazyLock::new(|| {
    [
        "{counterType: Eventual}",
        "{counterType: Eventual, cardinality: Low}",
        "{counterType: Accurate, rollup: {coalesce: 10ms, queueCapacity: 64Ki, batchCount: 1}}",
        "{counterType: Accurate, rollup: {coalesce: 10m, queueCapacity: 16Gi, batchCount: 1000}}",
        "{counterType: Eventual, eventStore: {bucketWidth: 8h}}",
        "{counterType: Eventual, eventStore: {sliceWidth: 70m, bucketsPerId: 3}}",
        "{counterType: Eventual, cardinality: Low, eventStore: {sliceWidth: 61m, bucketWidth: 61s, retention: {closeAfter: 2h, deleteAfter: 3h}}}",
        "{counterType: BestEffort}",
        "{counterType: BestEffort, cache: {shards: 4}}",
    ]
    .map(spec)
    .into()
});

fn bases() -> impl Strategy<Value = CounterNamespaceSpec> {
    prop::sample::select(BASES.as_slice())
}

/// The numbers that must not fall when the load grows.
fn sizes(plan: &Plan) -> Vec<(&'static str, u128)> {
    let amount = |resources: &Resources, name: &str| {
        let Amount(text) = &resources.requests[name];
        match text.strip_suffix('m') {
            Some(millicores) => millicores.parse().unwrap(),
            None if name == "cpu" => text.parse::<u128>().unwrap() * 1_000,
            None => u128::from(text.parse::<Quantity>().unwrap().as_bytes()),
        }
    };
    let mut sizes = vec![
        ("cache.shards", plan.cache.shards.value as u128),
        ("cache.memory", u128::from(plan.cache.memory.value.as_bytes())),
        ("cache cpu", amount(&plan.cache.resources.value, "cpu")),
        ("cache memory", amount(&plan.cache.resources.value, "memory")),
    ];
    if let Some(rollup) = &plan.rollup {
        sizes.push(("rollup.replicas", rollup.replicas_recommended.unwrap_or(0) as u128));
        sizes.push(("rollup.numQueues", rollup.num_queues.value as u128));
        sizes.push(("rollup cpu", amount(&rollup.resources.value, "cpu")));
        sizes.push(("rollup memory", amount(&rollup.resources.value, "memory")));
    }
    sizes
}

/// How finely events are split; of a growing number of counters each gets fewer of the same writes.
fn split(plan: &Plan) -> Vec<(&'static str, u128)> {
    let Some(events) = &plan.events else { return Vec::new() };
    let per_day = |width: Duration| u128::from(86_400_000_000 / width.as_secs());
    vec![
        ("bucketsPerId", events.buckets_per_id.value as u128),
        ("buckets a day", per_day(events.bucket_width.value)),
        ("slices a day", per_day(events.slice_width.value)),
    ]
}

#[track_caller]
fn grew(less: Vec<(&'static str, u128)>, more: Vec<(&'static str, u128)>) {
    for (less, more) in less.into_iter().zip(more) {
        assert!(less.1 <= more.1, "{} fell from {} to {}", less.0, less.1, more.1);
    }
}

/// Adds where a number is given.
fn plus(number: Option<i64>, more: i64, most: i64) -> Option<i64> {
    number.map(|number| (number + more).min(most))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_set_in_the_spec_passes_the_schema_and_its_rules(base in bases(), workload in workloads()) {
        let mut spec = CounterNamespaceSpec { workload: Some(workload), ..base };
        let planned = plan(&spec);
        if let (Some(events), Some(rollup)) = (&planned.events, &planned.rollup) {
            let mut store = spec.event_store_or_default();
            store.buckets_per_id = Some(events.buckets_per_id.value);
            store.bucket_width = Some(events.bucket_width.value);
            store.slice_width = Some(events.slice_width.value);
            spec.event_store = Some(store);
            spec.rollup.num_queues = Some(rollup.num_queues.value);
            spec.rollup.resources = Some(rollup.resources.value.clone());
            spec.rollup.replicas = rollup.replicas_recommended.unwrap_or(spec.rollup.replicas);
        }
        let cache = &planned.cache;
        spec.cache = Some(tallyman_crds::counter_namespace::Cache {
            replicas: Some(cache.replicas.value),
            shards: Some(cache.shards.value),
            memory: Some(cache.memory.value),
            resources: Some(cache.resources.value.clone()),
        });
        let namespace = CounterNamespace::new("video-plays", spec);
        let json = serde_json::to_string(&namespace).unwrap();
        let read = read_counter_namespaces(&json, "plan").map_err(|error| TestCaseError::fail(error.to_string()))?;
        // And a plan that is set is the plan.
        prop_assert_eq!(plan(&read[0].spec).status(), planned.status());
    }

    #[test]
    fn the_same_spec_has_the_same_plan(base in bases(), workload in workloads()) {
        let spec = CounterNamespaceSpec { workload: Some(workload), ..base };
        prop_assert_eq!(plan(&spec), plan(&spec));
    }

    #[test]
    fn more_load_never_gets_less(
        base in bases(), cardinality in prop::sample::select(vec![Cardinality::Low, Cardinality::High]),
        workload in workloads(), more in (0_i64..100_000, 0_i64..100_000, 0_i64..10_000_000)
    ) {
        let base = CounterNamespaceSpec { cardinality, ..base };
        let with = |workload: &Workload| plan(&CounterNamespaceSpec { workload: Some(workload.clone()), ..base.clone() });
        let mut busier = workload.clone();
        busier.writes_per_second = plus(workload.writes_per_second, more.0, 100_000_000);
        busier.reads_per_second = plus(workload.reads_per_second, more.1, 100_000_000);
        grew(sizes(&with(&workload)), sizes(&with(&busier)));
        grew(split(&with(&workload)), split(&with(&busier)));
        busier.counters = plus(workload.counters, more.2, 1_000_000_000_000);
        grew(sizes(&with(&workload)), sizes(&with(&busier)));
    }

    #[test]
    fn memcached_fits_its_container_with_room_to_spare(base in bases(), workload in workloads()) {
        let plan = plan(&CounterNamespaceSpec { workload: Some(workload), ..base });
        let Amount(limit) = &plan.cache.resources.value.limits["memory"];
        let (limit, memory) = (limit.parse::<Quantity>().unwrap().as_bytes(), plan.cache.memory.value.as_bytes());
        prop_assert!(limit >= memory + memory / 4 + (64 << 20));
        prop_assert!(memcached_memory_within(limit) >= memory >> 20);
    }

    #[test]
    fn queues_fit_the_memory_of_their_server(base in bases(), workload in workloads()) {
        let spec = CounterNamespaceSpec { workload: Some(workload), ..base };
        if let Some(rollup) = plan(&spec).rollup {
            let Amount(limit) = &rollup.resources.value.limits["memory"];
            let queues = rollup.num_queues.value as u64 * spec.rollup.queue_capacity.as_bytes();
            prop_assert!(limit.parse::<Quantity>().unwrap().as_bytes() >= queues + (128 << 20));
        }
    }

    #[test]
    fn siblings_plan_the_same_slices_whatever_their_load(a in workloads(), b in workloads()) {
        let with = |workload| CounterNamespaceSpec { workload: Some(workload), ..BASES[0].clone() };
        let (oldest, younger) = (with(a), with(b));
        let values = |events: Events| (events.buckets_per_id.value, events.bucket_width.value, events.slice_width.value);
        prop_assert_eq!(
            values(plan_in_dataset(&younger, Some(&oldest)).events.unwrap()),
            values(plan(&oldest).events.unwrap())
        );
    }
}

/// The figures by their names, as the module's source has them.
fn figures() -> Vec<(&'static str, f64)> {
    macro_rules! figures {
        ($($name:ident),*) => { vec![$((stringify!($name), figures::$name as f64)),*] };
    }
    figures![
        EVENT_BYTES,
        ROLLUP_BYTES,
        CASSANDRA_WRITE_CORE_MS,
        CASSANDRA_READ_CORE_MS,
        MEMCACHED_CORE_US,
        WRITES_PER_ROLLUP_LOW,
        WRITES_PER_ROLLUP_HIGH,
        PARTITION_WRITES_PER_SECOND,
        PARTITION_BYTES,
        SLICE_BYTES,
        COUNTERS_ASSUMED,
        ROLLUP_CORE_US,
        ROLLUP_WRITE_CORE_US,
        ROLLUP_SERVER_CORES,
        ROLLUP_SERVER_ROLLUPS_PER_SECOND,
        BATCHES_PER_SECOND,
        ROLLUP_BASE_MIB,
        CACHE_ITEM_BYTES,
        CACHE_SERVER_MIB,
        CACHE_SERVER_OPERATIONS_PER_SECOND,
        CACHE_BASE_MIB,
        BUSY
    ]
}

#[test]
fn the_capacity_page_has_every_figure_with_its_value_and_source() {
    let page = include_str!("../../../docs/capacity.md");
    let figures = figures();
    assert_eq!(include_str!("figures.rs").matches("pub const ").count(), figures.len());
    for (name, value) in figures {
        let row =
            page.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap_or_else(|| panic!("{name}"));
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[2].parse::<f64>(), Ok(value), "{name}");
        assert!(!cells[3].is_empty(), "{name}");
    }
}
