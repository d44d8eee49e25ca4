//! Schema provisioning against a real Cassandra.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "cassandra_schema/first_use.rs"]
mod first_use;
#[path = "cassandra_schema/node.rs"]
mod node;
#[path = "cassandra_schema/processes.rs"]
mod processes;
#[path = "cassandra_schema/removal.rs"]
mod removal;
#[path = "cassandra_schema/short_slices.rs"]
mod short_slices;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tallyman_counter::backend::cassandra::schema::ddl::{Ddl, Permit};
use tallyman_counter::backend::cassandra::schema::plan::{Plan, Refusal, Wanted, plan};
use tallyman_counter::backend::cassandra::schema::tables::{self, Table};
use tallyman_counter::backend::cassandra::schema::{Error, Result, nodes, provision, read, slices};
use tallyman_counter::model::{SliceRecord, SliceState, Timestamp};

use node::{Keyspace, contact_points, session};

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

async fn planned(ddl: &Ddl, wanted: &Wanted) -> Result<Plan> {
    let found = read::found(ddl.session(), wanted, async { Ok(true) }).await?;
    Ok(plan(wanted, &found, NOW)?)
}

/// What `tallyman schema apply` does up to the slices.
async fn provisioned(ddl: &Ddl, wanted: &Wanted) -> Result<usize> {
    let plan = planned(ddl, wanted).await?;
    for step in &plan.provisioning {
        provision::carry_out(ddl, wanted, step).await?;
    }
    Ok(plan.provisioning.len())
}

fn slice(wanted: &Wanted, index: u32) -> SliceRecord {
    let start = Timestamp::EPOCH.plus(HOUR * index);
    SliceRecord::new(start, start.plus(HOUR), wanted.dataset.time_partition.settings).unwrap()
}

/// Those that `TALLYMAN_CASSANDRA` names are all that there are.
#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn nodes_are_counted_as_they_list_each_other() {
    let counted = nodes::per_datacenter(&session().await).await.unwrap();
    assert_eq!(counted.values().sum::<usize>(), contact_points().len(), "{counted:?}");
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn provisioning_twice_changes_nothing_the_second_time() {
    let keyspace = Keyspace::new().await;
    let (ddl, wanted) = (keyspace.ddl(), keyspace.wanted());
    assert_eq!(provisioned(&ddl, &wanted).await.unwrap(), 6, "keyspace, owner's table, claim, rollup, slices, floors");
    let again = planned(&ddl, &wanted).await.unwrap();
    assert_eq!((again.provisioning.as_slice(), again.notes.as_slice()), (&[][..], &[][..]));
    let record = slice(&wanted, 0);
    slices::create(&ddl, &keyspace.name, "dc1", &record).await.unwrap();
    let names = keyspace.tables().await;
    assert_eq!(names, ["dataset_owner", "events_0", "removed_namespaces", "rollup", "slices"]);
    for name in names {
        let found = keyspace.table(&name).await;
        assert_eq!((found.id, found.is_marked()), (tables::id(&keyspace.name, &name), true), "{name}");
    }
    // Other tests change other keyspaces at the same time: what counts is that no statement is run.
    let counting = Arc::new(Counting::default());
    let ddl = ddl.with_permit(counting.clone());
    assert_eq!(provisioned(&ddl, &wanted).await.unwrap(), 0);
    slices::create(&ddl, &keyspace.name, "dc1", &record).await.unwrap();
    assert_eq!(counting.asked.load(Ordering::Relaxed), 0, "no change was tried");
    keyspace.drop().await;
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn appliers_that_race_make_one_schema_and_none_fails() {
    let keyspace = Keyspace::new().await;
    let wanted = keyspace.wanted();
    let mut appliers = Vec::new();
    for _ in 0..4 {
        // A session each, as processes have.
        let (ddl, wanted) = (Ddl::new(Arc::new(session().await)), wanted.clone());
        appliers.push(tokio::spawn(async move {
            provisioned(&ddl, &wanted).await.unwrap();
            for index in 0..3 {
                let record = slice(&wanted, index);
                slices::create(&ddl, &wanted.dataset.keyspace, "dc1", &record).await.unwrap();
            }
        }));
    }
    for applier in appliers {
        applier.await.unwrap();
    }
    let session = session().await;
    let ddl = keyspace.ddl();
    assert_eq!(planned(&ddl, &wanted).await.unwrap().provisioning, []);
    let recorded = slices::read(&session, &keyspace.name, "dc1").await.unwrap();
    assert_eq!(recorded, (0..3).map(|index| slice(&wanted, index)).collect::<Vec<_>>());
    keyspace.drop().await;
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn creates_of_one_table_sent_at_once_past_every_check_make_the_same_table() {
    let keyspace = Keyspace::new().await;
    let (ddl, wanted) = (keyspace.ddl(), keyspace.wanted());
    provisioned(&ddl, &wanted).await.unwrap();
    let table = Table::events(&keyspace.name, Timestamp::EPOCH, NOW);
    let create = table.create(tables::KnownOptions::CASSANDRA_5).to_string();
    let creates = (0..6).map(|_| async { session().await.query_unpaged(create.as_str(), ()).await.map(drop) });
    for created in futures::future::join_all(creates).await {
        created.unwrap();
    }
    ddl.session().await_schema_agreement().await.unwrap();
    assert_eq!(table.differs(&keyspace.table("events_0").await), None);
    keyspace.drop().await;
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn somebody_elses_keyspace_or_table_is_refused_and_left_as_it_is() {
    let keyspace = Keyspace::new().await;
    let (ddl, wanted) = (keyspace.ddl(), keyspace.wanted());
    let name = &keyspace.name;
    keyspace.run(&format!("CREATE KEYSPACE {name} WITH replication = {}", keyspace.replication())).await;
    keyspace.run(&format!("CREATE TABLE {name}.rollup (id uuid PRIMARY KEY)")).await;
    let refused = provisioned(&ddl, &wanted).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::ForeignKeyspace { .. })), "{refused}");
    assert_eq!(keyspace.tables().await, ["rollup"]);

    keyspace.run(&format!("DROP TABLE {name}.rollup")).await;
    provisioned(&ddl, &wanted).await.unwrap();
    keyspace.run(&format!("CREATE TABLE {name}.events_0 (id uuid PRIMARY KEY)")).await;
    let refused = slices::create(&ddl, name, "dc1", &slice(&wanted, 0)).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::ForeignTable { .. })), "{refused}");
    let refused = planned(&ddl, &wanted).await.unwrap_err();
    assert!(refused.to_string().starts_with(&format!("table {name}.events_0 is not touched")), "{refused}");
    let refused = slices::set_state(&ddl, name, "dc1", Timestamp::EPOCH, SliceState::Dropped).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::ForeignTable { .. })), "{refused}");
    assert!(keyspace.tables().await.contains(&"events_0".to_owned()), "not dropped either");
    keyspace.drop().await;
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_dataset_is_claimed_once() {
    let keyspace = Keyspace::new().await;
    let (ddl, mut wanted) = (keyspace.ddl(), keyspace.wanted());
    provisioned(&ddl, &wanted).await.unwrap();
    wanted.owner = Some("another".to_owned());
    let refused = planned(&ddl, &wanted).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(Refusal::OwnedByAnother { owner, .. }) if owner == "tests"), "{refused}");
    keyspace.drop().await;
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn of_claims_that_race_one_wins() {
    let keyspace = Keyspace::new().await;
    let (ddl, mut unowned) = (keyspace.ddl(), keyspace.wanted());
    unowned.owner = None;
    provisioned(&ddl, &unowned).await.unwrap();
    let claims = (0..5).map(|claimant| {
        let (ddl, mut wanted) = (&ddl, unowned.clone());
        wanted.owner = Some(format!("team-{claimant}"));
        async move { provisioned(ddl, &wanted).await }
    });
    let claims = futures::future::join_all(claims).await;
    assert_eq!(claims.iter().filter(|claim| claim.is_ok()).count(), 1, "{claims:?}");
    let refused = |claim: &Result<usize>| matches!(claim, Err(Error::Refused(Refusal::OwnedByAnother { .. })));
    assert_eq!(claims.iter().filter(|claim| refused(claim)).count(), 4, "{claims:?}");
    keyspace.drop().await;
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn the_first_record_of_a_slice_wins_and_its_state_never_goes_back() {
    let keyspace = Keyspace::new().await;
    let (ddl, wanted) = (keyspace.ddl(), keyspace.wanted());
    provisioned(&ddl, &wanted).await.unwrap();
    let (name, first) = (&keyspace.name, slice(&wanted, 0));
    slices::create(&ddl, name, "dc1", &first).await.unwrap();
    let other = SliceRecord { end: first.end.plus(HOUR), ..first.clone() };
    slices::create(&ddl, name, "dc1", &other).await.unwrap();
    assert_eq!(slices::read(ddl.session(), name, "dc1").await.unwrap(), std::slice::from_ref(&first));
    let states = [SliceState::Closed, SliceState::Open, SliceState::Dropped, SliceState::Closed];
    for (asked, expected) in
        states.into_iter().zip([SliceState::Closed, SliceState::Closed, SliceState::Dropped, SliceState::Dropped])
    {
        slices::set_state(&ddl, name, "dc1", first.start, asked).await.unwrap();
        let read = slices::read(ddl.session(), name, "dc1").await.unwrap();
        assert_eq!(read[0].state, expected, "after {asked:?}");
    }
    slices::create(&ddl, name, "dc1", &first).await.unwrap();
    assert!(!keyspace.tables().await.contains(&"events_0".to_owned()), "a dropped slice stays dropped");
    let missing = slices::set_state(&ddl, name, "dc1", NOW, SliceState::Closed).await.unwrap_err();
    assert!(matches!(missing, Error::MissingSlice { slice_start } if slice_start == NOW), "{missing}");
    assert_eq!(slices::read(ddl.session(), name, "dc2").await.unwrap(), []);
    keyspace.drop().await;
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_creation_and_a_drop_that_were_cut_short_are_finished_by_the_next_call() {
    let keyspace = Keyspace::new().await;
    let (ddl, wanted) = (keyspace.ddl(), keyspace.wanted());
    provisioned(&ddl, &wanted).await.unwrap();
    let (name, record) = (&keyspace.name, slice(&wanted, 0));
    keyspace.run(&slices::insert_text(name, "dc1", &record).to_string()).await;
    slices::create(&ddl, name, "dc1", &record).await.unwrap();
    assert!(keyspace.tables().await.contains(&"events_0".to_owned()));

    keyspace.run(&slices::update_text(name, "dc1", record.start, SliceState::Dropped).to_string()).await;
    let counting = Arc::new(Counting::default());
    let ddl = ddl.with_permit(counting.clone());
    for changes in [1, 1] {
        slices::set_state(&ddl, name, "dc1", record.start, SliceState::Dropped).await.unwrap();
        assert_eq!(counting.asked.load(Ordering::Relaxed), changes, "dropped once");
    }
    assert!(!keyspace.tables().await.contains(&"events_0".to_owned()));
    keyspace.drop().await;
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn nothing_is_changed_without_a_permit() {
    let keyspace = Keyspace::new().await;
    let (ddl, wanted) = (keyspace.ddl(), keyspace.wanted());
    let denied = ddl.clone().with_permit(Arc::new(Denied));
    let error = provisioned(&denied, &wanted).await.unwrap_err();
    assert_eq!(error.to_string(), "no schema change is made: another is the leader");
    assert_eq!(keyspace.tables().await, Vec::<String>::new());
    provisioned(&ddl, &wanted).await.unwrap();
    let error = slices::create(&denied, &keyspace.name, "dc1", &slice(&wanted, 0)).await.unwrap_err();
    assert!(matches!(error, Error::NotPermitted(_)), "{error}");
    keyspace.drop().await;
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn what_a_person_changed_is_told() {
    let keyspace = Keyspace::new().await;
    let (ddl, mut wanted) = (keyspace.ddl(), keyspace.wanted());
    provisioned(&ddl, &wanted).await.unwrap();
    let name = &keyspace.name;
    keyspace.run(&format!("ALTER TABLE {name}.rollup WITH default_time_to_live = 60 AND read_repair = 'NONE'")).await;
    wanted.replication.values_mut().for_each(|factor| *factor += 1);
    let plan = planned(&ddl, &wanted).await.unwrap();
    assert_eq!(plan.provisioning, []);
    for expected in ["default_time_to_live = 60", "read_repair = 'NONE'", "ALTER KEYSPACE"] {
        assert!(plan.notes.iter().any(|note| note.contains(expected)), "{expected}: {:?}", plan.notes);
    }
    keyspace.drop().await;
}

/// Lets everything happen, and counts it.
#[derive(Default)]
struct Counting {
    asked: AtomicUsize,
}

#[async_trait]
impl Permit for Counting {
    async fn may_change_schema(&self) -> std::result::Result<(), String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

struct Denied;

#[async_trait]
impl Permit for Denied {
    async fn may_change_schema(&self) -> std::result::Result<(), String> {
        Err("another is the leader".to_owned())
    }
}
