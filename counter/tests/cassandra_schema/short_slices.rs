//! The life of slices in a real Cassandra, with slices of two seconds: created, closed behind the sweep, dropped.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::backend::cassandra::schema::ddl::Permit;
use tallyman_counter::backend::cassandra::schema::plan::Wanted;
use tallyman_counter::backend::cassandra::schema::provision::{Done, Incomplete, Provisioner};
use tallyman_counter::backend::cassandra::schema::tables;
use tallyman_counter::backend::cassandra::{Cluster, Reach};
use tallyman_counter::clock::{MEASUREMENT_AGE_MAX, SystemClock};
use tallyman_counter::configuration::{Retention, TimePartition};
use tallyman_counter::model::{
    CounterKey, CounterName, Event, EventItem, IdempotencyToken, NamespaceName, Partition, SliceSettings, SliceState,
    Slices, Timestamp, Token,
};
use tallyman_counter::retention::Ahead;
use tallyman_counter::store::{Append, EventStore, RollupStore, Touch};
use tokio::time::Instant;

use crate::node::{Keyspace, may_pass};

/// For how long applies are repeated until what is waited for has come: many times what slices of two seconds take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two applies.
const PAUSE: Duration = Duration::from_millis(20);

fn short(keyspace: &Keyspace) -> Wanted {
    let mut wanted = keyspace.wanted();
    wanted.dataset.time_partition = TimePartition {
        settings: SliceSettings {
            buckets_per_id: NonZeroU16::MIN,
            bucket_width: Duration::from_secs(1),
            accept_limit: Duration::from_millis(500),
            write_timeout: Duration::from_millis(300),
            max_clock_skew: Duration::from_millis(900),
        },
        slice_width: Duration::from_secs(2),
    };
    wanted.dataset.retention = Retention { close_after: Duration::from_secs(2), delete_after: Duration::from_secs(3) };
    wanted.ahead = Ahead { span: Duration::from_secs(60), slices_max: 3 };
    wanted
}

/// Lets everything happen, the first table of events only once a clock that was measured before is no longer trusted.
#[derive(Default)]
struct Slow {
    asked: AtomicUsize,
}

/// Keyspace, owner's table, claim, rollup, slices, floors.
const CHANGES_BEFORE_SLICES: usize = 6;
/// Its record and its table.
const CHANGES_PER_SLICE: usize = 2;

#[async_trait]
impl Permit for Slow {
    async fn may_change_schema(&self) -> Result<(), String> {
        if self.asked.fetch_add(1, Ordering::Relaxed) == CHANGES_BEFORE_SLICES + 1 {
            tokio::time::sleep(MEASUREMENT_AGE_MAX + Duration::from_secs(1)).await;
        }
        Ok(())
    }
}

struct Operator {
    provisioner: Provisioner,
    cluster: Cluster,
    wanted: Wanted,
}

impl Operator {
    async fn new(keyspace: &Keyspace) -> Self {
        Self::of(short(keyspace), None).await
    }

    async fn of(wanted: Wanted, permit: Option<Arc<dyn Permit>>) -> Self {
        let cluster = Cluster::new(Reach {
            contact_points: crate::node::contact_points(),
            local_datacenter: wanted.dataset.local_datacenter.clone(),
            credentials_file: None,
            tls_ca_file: None,
        });
        cluster.connected().await;
        let provisioner = Provisioner::new(cluster.clone(), Arc::new(SystemClock::new()), permit);
        Self { provisioner, cluster, wanted }
    }

    async fn apply(&self) -> Result<Done, Incomplete> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.provisioner.apply(&self.wanted, &mut |_| {}).await {
                // With slices of two seconds there is soon something else to do.
                Err(Incomplete::Unfinished { .. }) => return Ok(Done::default()),
                Err(incomplete) if may_pass(&incomplete) && Instant::now() < until => tokio::time::sleep(PAUSE).await,
                applied => return applied,
            }
        }
    }

    fn dataset(&self) -> tallyman_counter::backend::cassandra::Dataset {
        self.cluster.dataset(&self.wanted.dataset.keyspace, &self.wanted.dataset.region)
    }

    /// Counts 1, and answers the start of the slice that has it.
    async fn count(&self, counter: &CounterKey) -> Timestamp {
        let dataset = self.dataset();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            self.apply().await.unwrap();
            let slices = Slices::new(dataset.slices().await.unwrap());
            let now = dataset.node_clocks().await.unwrap()[0].time;
            let Some(slice) = slices.accepting(now) else { continue };
            let token = Token::new("t").unwrap();
            let event = Event::new(IdempotencyToken { token, generation_time: now }, EventItem::Add(1));
            let append = Append { partition: Partition::of(counter, &event, slice), event };
            dataset.append(vec![append]).await.remove(0).unwrap();
            let touch = Touch { last_write_ts: Some(now), first_write_ts: Some(now) };
            dataset.touch(counter, touch).await.unwrap();
            return slice.start;
        }
        panic!("no slice accepts events");
    }

    async fn state(&self, start: Timestamp) -> SliceState {
        let slices = self.dataset().slices().await.unwrap();
        slices.into_iter().find(|slice| slice.start == start).unwrap().state
    }
}

fn counter(name: &str) -> CounterKey {
    CounterKey { namespace: NamespaceName::new("plays").unwrap(), name: CounterName::new(name).unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_slice_is_dropped_once_its_counters_are_rolled_up_though_nobody_touched_them_again() {
    let keyspace = Keyspace::new().await;
    let operator = Operator::new(&keyspace).await;
    let counter = counter("once");
    let start = operator.count(&counter).await;
    let until = Instant::now() + PATIENCE;
    while operator.state(start).await != SliceState::Dropped && Instant::now() < until {
        operator.apply().await.unwrap();
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(operator.state(start).await, SliceState::Dropped);
    assert!(keyspace.tables().await.iter().all(|name| *name != tables::events_name(start)), "the table is gone");
    let row = operator.dataset().read(&counter).await.unwrap().unwrap();
    assert_eq!(row.checkpoint.unwrap().last_rollup_count, 1, "the count is not");
    keyspace.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_slice_whose_counters_cannot_be_rolled_up_is_kept_and_told() {
    let keyspace = Keyspace::new().await;
    let operator = Operator::new(&keyspace).await;
    let start = operator.count(&counter("broken")).await;
    // A checkpoint that no version can read.
    keyspace
        .run(&format!(
            "UPDATE {}.rollup SET checkpoint = 0xff WHERE namespace = 'plays' AND counter_name = 'broken' AND region = 'dc1'",
            keyspace.name
        ))
        .await;
    let mut told = None;
    let until = Instant::now() + PATIENCE;
    while told.is_none() && Instant::now() < until {
        told = operator.apply().await.err().map(|incomplete| incomplete.to_string());
        tokio::time::sleep(PAUSE).await;
    }
    let told = told.expect("the slice cannot be closed");
    assert!(told.starts_with(&format!("dataset {}: ", keyspace.name)) && told.contains("checkpoint"), "{told}");
    assert_eq!(operator.state(start).await, SliceState::Open);
    assert!(keyspace.tables().await.contains(&tables::events_name(start)), "the table is kept");
    keyspace.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn slices_that_are_created_slowly_leave_no_apply_with_a_clock_it_does_not_trust() {
    let keyspace = Keyspace::new().await;
    let slow = Arc::new(Slow::default());
    let operator = Operator::of(keyspace.wanted(), Some(slow.clone())).await;
    let done = operator.apply().await.unwrap();
    // Claims and records are repeated where Cassandra takes too long.
    assert!(slow.asked.load(Ordering::Relaxed) >= CHANGES_BEFORE_SLICES + done.slices.created * CHANGES_PER_SLICE);
    assert!(done.slices.created > 1, "{done:?}");
    keyspace.drop().await;
}
