//! What is left of a deleted namespace in a real Cassandra, and what comes of its name; and of a deleted dataset.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tallyman_counter::aggregation::{ScanBudget, last_rollup, roll_up};
use tallyman_counter::backend::cassandra::schema::plan::{Refusal, Wanted};
use tallyman_counter::backend::cassandra::schema::provision::Provisioner;
use tallyman_counter::backend::cassandra::schema::{Error, floors};
use tallyman_counter::backend::cassandra::{Cluster, Reach};
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::configuration::TimePartition;
use tallyman_counter::dataset::Dataset;
use tallyman_counter::model::{
    Checkpoint, CounterKey, CounterName, Event, EventItem, IdempotencyToken, NamespaceName, Partition, SliceSettings,
    Timestamp, Token,
};
use tallyman_counter::retention::Ahead;
use tallyman_counter::store::{Append, EventStore, RollupStore, Touch};
use tokio::time::Instant;

use crate::node::{Keyspace, contact_points, is_stall, may_pass};

const SETTINGS: SliceSettings = SliceSettings {
    buckets_per_id: NonZeroU16::MIN,
    bucket_width: Duration::from_secs(60),
    accept_limit: Duration::from_millis(500),
    write_timeout: Duration::from_millis(300),
    max_clock_skew: Duration::from_millis(900),
};

/// For how long what may pass is tried again.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Applies until nothing is in the way but what does not pass by itself.
async fn applied(provisioner: &Provisioner, wanted: &Wanted) {
    let until = Instant::now() + PATIENCE;
    loop {
        match provisioner.apply(wanted, &mut |_| {}).await {
            Err(incomplete) if may_pass(&incomplete) && Instant::now() < until => tokio::time::sleep(PAUSE).await,
            done => break drop(done.unwrap()),
        }
    }
}

/// The dataset as these namespaces ask for it.
fn wanted(keyspace: &Keyspace, namespaces: &[&str]) -> Wanted {
    let mut wanted = keyspace.wanted();
    wanted.dataset.namespaces = namespaces.iter().map(|name| NamespaceName::new(name).unwrap()).collect();
    wanted.dataset.time_partition = TimePartition { settings: SETTINGS, slice_width: Duration::from_secs(3600) };
    wanted.ahead = Ahead { span: Duration::from_secs(3600), slices_max: 2 };
    wanted
}

fn counter(namespace: &str, name: &str) -> CounterKey {
    CounterKey { namespace: NamespaceName::new(namespace).unwrap(), name: CounterName::new(name).unwrap() }
}

/// A process of the data plane and the operator.
struct World {
    cluster: Cluster,
    provisioner: Provisioner,
    dataset: Arc<Dataset>,
    stores: Arc<tallyman_counter::backend::cassandra::Dataset>,
}

impl World {
    async fn new(wanted: &Wanted) -> Self {
        let cluster = Cluster::new(Reach {
            contact_points: contact_points(),
            local_datacenter: wanted.dataset.local_datacenter.clone(),
            credentials_file: None,
            tls_ca_file: None,
        });
        cluster.connected().await;
        let clock = Arc::new(SystemClock::new());
        let provisioner = Provisioner::new(cluster.clone(), clock.clone(), None);
        applied(&provisioner, wanted).await;
        let stores = Arc::new(cluster.dataset(&wanted.dataset.keyspace, &wanted.dataset.region));
        let dataset = Dataset::new(wanted.dataset.keyspace.clone(), stores.clone(), stores.clone(), clock);
        let world = Self { cluster, provisioner, dataset, stores };
        world.refresh().await;
        world
    }

    /// What a process does every now and then.
    async fn refresh(&self) {
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.dataset.refresh().await {
            assert!(error.is_retryable() && Instant::now() < until, "{error}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What a sidecar does: an event at `time`, and its touch.
    async fn add(&self, counter: &CounterKey, time: Timestamp, delta: i64) {
        let token = Token::new(&format!("{counter}-{time}")).unwrap();
        let event = Event::new(IdempotencyToken { token, generation_time: time }, EventItem::Add(delta));
        let slices = self.dataset.slices();
        let partition = Partition::of(counter, &event, slices.accepting(time).unwrap());
        self.stores.append(vec![Append { partition, event }]).await.remove(0).unwrap();
        let touch = Touch { last_write_ts: Some(time), first_write_ts: Some(time) };
        self.stores.touch(counter, touch).await.unwrap();
    }

    /// Rolls the counter up until what was written before is in.
    async fn rolled_up(&self, counter: &CounterKey) -> Checkpoint {
        let until = Instant::now() + PATIENCE;
        loop {
            self.refresh().await;
            match roll_up(&self.dataset, None, &ScanBudget::new(1000), counter).await {
                Ok(rolled_up) if !rolled_up.is_unrolled() => return rolled_up.checkpoint().unwrap(),
                Err(error) if !is_stall(&error) || Instant::now() > until => panic!("{error}"),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn now(&self) -> Timestamp {
        SystemClock::new().now()
    }
}

async fn keys(keyspace: &Keyspace, table: &str) -> Vec<(String, String)> {
    let text = format!("SELECT namespace, counter_name FROM {}.{table}", keyspace.name);
    let rows = keyspace.session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
    rows.rows::<(String, String)>().unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_deleted_namespace_leaves_no_row_and_its_name_counts_anew_whatever_comes_late() {
    let keyspace = Keyspace::new().await;
    let (both, rest) = (wanted(&keyspace, &["plays", "likes"]), wanted(&keyspace, &["likes"]));
    let world = World::new(&both).await;
    let (old, kept, plays) = (counter("plays", "a"), counter("likes", "a"), NamespaceName::new("plays").unwrap());
    for counter in [&old, &counter("plays", "b"), &kept] {
        world.add(counter, world.now(), 100).await;
        assert_eq!(world.rolled_up(counter).await.last_rollup_count, 100);
    }
    let refused = world.provisioner.remove_namespace(&both, &plays).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::StillWanted { .. })), "{refused}");

    let begun = world.now();
    let removal = world.provisioner.remove_namespace(&rest, &plays).await.unwrap();
    assert_eq!((removal.counters, removal.event_partitions >= 2), (2, true), "{removal:?}");
    assert_eq!(keys(&keyspace, "rollup").await, [("likes".to_owned(), "a".to_owned())]);
    for table in keyspace.tables().await.iter().filter(|table| table.starts_with("events_")) {
        assert!(keys(&keyspace, table).await.iter().all(|(namespace, _)| namespace == "likes"), "{table}");
    }
    let until = Instant::now() + PATIENCE;
    let refused = loop {
        let refused = world.provisioner.plan(&both).await.unwrap_err();
        if matches!(refused, Error::Refused(_)) || Instant::now() > until {
            break refused;
        }
        tokio::time::sleep(PAUSE).await;
    };
    assert!(refused.is_retryable() && matches!(refused, Error::Refused(Refusal::RemovedJustNow { .. })), "{refused}");

    // What was under way all the time comes late: rows that no deletion has seen, and checkpoints made of them.
    let late = counter("plays", "late");
    world.add(&late, begun, 7).await;
    let made_late = Checkpoint { last_rollup_ts: begun.plus(floors::KNOWN_FOR_MAX), last_rollup_count: 1_000 };
    for counter in [&old, &late] {
        world.stores.write_checkpoint(counter, made_late).await.unwrap();
    }
    world.refresh().await;
    for counter in [&old, &late] {
        assert_eq!(world.stores.read(counter).await.unwrap(), None, "{counter}");
    }
    let cache =
        tallyman_counter::backend::memory::Cache::new(1 << 16, Duration::from_secs(600), Arc::new(SystemClock::new()));
    tallyman_counter::store::RollupCache::offer(&cache, &old, made_late).await.unwrap();
    assert!(!last_rollup(&world.dataset, Some(&cache), &old).await.unwrap().written, "not out of a cache either");

    // Again, as after a crash: it finds what came late, and the name is free later.
    let again = world.provisioner.remove_namespace(&rest, &plays).await.unwrap();
    assert!(again.usable_from >= removal.usable_from && again.counters == 1, "{again:?}");
    let usable_from = again.usable_from.unwrap();
    while world.now() < usable_from.plus(SETTINGS.max_clock_skew) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    applied(&world.provisioner, &both).await;
    // A process that has known nothing of all that.
    let new = World::new(&both).await;
    for counter in [&old, &late] {
        new.add(counter, new.now(), 1).await;
        new.add(counter, new.now(), 2).await;
        assert_eq!(new.rolled_up(counter).await.last_rollup_count, 3, "{counter}");
    }
    assert_eq!(last_rollup(&new.dataset, Some(&cache), &old).await.unwrap().count, 3);
    assert_eq!(new.rolled_up(&kept).await.last_rollup_count, 100, "the other namespace has lost nothing");
    keyspace.drop().await;
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_dataset_is_dropped_by_its_owner_alone_and_its_keyspace_where_it_came_with_it() {
    let keyspace = Keyspace::new().await;
    let wanted = wanted(&keyspace, &["plays"]);
    let world = World::new(&wanted).await;
    world.add(&counter("plays", "a"), world.now(), 1).await;
    let another = Wanted { owner: Some("another".to_owned()), ..wanted.clone() };
    let refused = world.provisioner.remove_dataset(&another, &mut |_| {}).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::OwnedByAnother { .. })), "{refused}");
    let plays = NamespaceName::new("gone").unwrap();
    let refused = world.provisioner.remove_namespace(&another, &plays).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::OwnedByAnother { .. })), "{refused}");

    let mut done = Vec::new();
    world.provisioner.remove_dataset(&wanted, &mut |step| done.push(step.action.name())).await.unwrap();
    assert_eq!(done, ["drop_keyspace"]);
    assert_eq!(keyspace.tables().await, Vec::<String>::new());
    let again = world.provisioner.remove_dataset(&wanted, &mut |_| {}).await.unwrap();
    assert_eq!(again.steps, []);

    // One that was there before stays, without anything of ours, and with what is somebody else's.
    let name = &keyspace.name;
    keyspace.run(&format!("CREATE KEYSPACE {name} WITH replication = {}", keyspace.replication())).await;
    applied(&world.provisioner, &wanted).await;
    keyspace.run(&format!("CREATE TABLE {name}.theirs (id uuid PRIMARY KEY)")).await;
    let mut done = Vec::new();
    let removal = world.provisioner.remove_dataset(&wanted, &mut |step| done.push(step.action.name())).await.unwrap();
    assert!(done.len() >= 4 && done.iter().all(|name| *name == "drop_table"), "{done:?}");
    assert!(removal.notes.iter().any(|note| note.contains("theirs")), "{:?}", removal.notes);
    assert_eq!(keyspace.tables().await, ["theirs"]);
    drop(world.cluster);
    keyspace.drop().await;
}
