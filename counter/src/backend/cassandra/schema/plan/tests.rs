//! Plans for what is wanted and there, and their statements as golden files: `UPDATE_GOLDEN=1` writes them anew.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::backend::cassandra::schema::datasets::requested;
use crate::backend::cassandra::schema::tables::{Column, Part};
use crate::configuration::NamespaceConfiguration;

/// A namespace document on a dataset of its own or shared.
pub(in crate::backend::cassandra::schema) fn document(namespace: &str, dataset: &str) -> String {
    let storage = format!(
        r#""physical_storage": {{"type": "CASSANDRA", "cluster": "main", "dataset": "{dataset}",
            "contact_points": ["127.0.0.1:9042"], "local_datacenter": "dc1"}}"#
    );
    format!(
        r#"{{"namespace": "{namespace}", "region": "dc1", "persistence_configuration": [
            {{"id": "COUNTER_ROLLUP", {storage}, "counter_cardinality": "LOW", "config": {{"counter_type": "EVENTUAL"}}}},
            {{"id": "EVENT_STORAGE", {storage}, "config": {{
                "time_partition": {{"buckets_per_id": 4, "seconds_per_bucket": "600", "seconds_per_slice": "86400"}},
                "accept_limit": "5s", "write_timeout": "2s", "max_clock_skew": "1s"}},
             "lifecycleConfigs": {{"lifecycleConfig": [
                {{"type": "retention", "config": {{"close_after": "518400s", "delete_after": "604800s"}}}}]}}}}]}}"#
    )
}

pub(in crate::backend::cassandra::schema) fn configuration(namespace: &str, dataset: &str) -> NamespaceConfiguration {
    NamespaceConfiguration::from_json(&document(namespace, dataset)).unwrap()
}

const DAY: Duration = Duration::from_secs(86_400);

/// Noon of some day.
fn noon() -> Timestamp {
    Timestamp::EPOCH.plus(DAY * 20_000 + DAY / 2)
}

fn wanted() -> Wanted {
    Wanted {
        must_exist: false,
        dataset: requested([&configuration("video-plays", "plays")]).datasets.remove(0),
        replication: Replication::from([("dc1".to_owned(), 3)]),
        owner: Some("team-video".to_owned()),
        role: Some(Role { name: "tallyman_plays".to_owned(), password: "se'cret".to_owned() }),
        ahead: Ahead::USUAL,
    }
}

/// What is there once all steps of a plan were carried out.
fn carried_out(wanted: &Wanted, found: &Found, plan: &Plan) -> Found {
    let mut found = found.clone();
    for step in plan.steps() {
        match &step.action {
            Action::CreateKeyspace => {
                let class = ("class".to_owned(), "org.apache.cassandra.locator.NetworkTopologyStrategy".to_owned());
                let factors = wanted.replication.iter().map(|(name, factor)| (name.clone(), factor.to_string()));
                found.replication = Some([class].into_iter().chain(factors).collect());
            }
            Action::CreateTable(table) => drop(found.tables.insert(table.name.clone(), there(table))),
            Action::Claim { owner } => found.owner = Some(owner.clone()),
            Action::ChangeRole => found.role = right_role(&wanted.dataset.keyspace),
            Action::RecordSlice(record) => {
                found.slices.entry(wanted.dataset.region.clone()).or_default().push(record.clone());
            }
            Action::MoveSlice { start, state } => {
                let records = found.slices.get_mut(&wanted.dataset.region).unwrap();
                records.iter_mut().find(|record| record.start == *start).unwrap().state = *state;
            }
            Action::DropTable(table) => drop(found.tables.remove(&table.name).unwrap()),
            Action::DropRole => found.role = FoundRole::Absent,
            Action::DropKeyspace => (found.replication, found.tables, found.owner) = (None, BTreeMap::new(), None),
        }
    }
    found
}

fn there(table: &Table) -> FoundTable {
    let comment = table.create(KnownOptions::CASSANDRA_5).to_string();
    let comment = comment.split("comment = '").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    FoundTable {
        id: table.id(),
        comment,
        columns: table.columns().iter().cloned().collect(),
        default_time_to_live: 0,
        read_repair: Some("BLOCKING".to_owned()),
    }
}

fn right_role(keyspace: &str) -> FoundRole {
    let permission =
        |permission: &str| Permission { resource: format!("<keyspace {keyspace}>"), permission: permission.to_owned() };
    FoundRole::Present {
        login: true,
        superuser: false,
        password_is_right: true,
        permissions: Some([permission("SELECT"), permission("MODIFY")].into()),
    }
}

/// A dataset that is there as it is wanted, and its slices.
fn provisioned() -> (Wanted, Found) {
    let wanted = wanted();
    let found = Found::nothing();
    let found = carried_out(&wanted, &found, &plan(&wanted, &found, noon()).unwrap());
    (wanted, found)
}

fn shown(plan: &Plan) -> String {
    let mut text = String::new();
    for step in plan.steps() {
        let why = &step.why;
        writeln!(text, "-- {}: {why}\n{};\n", step.action.name(), step.cql).unwrap();
    }
    for note in &plan.notes {
        writeln!(text, "-- note: {note}\n").unwrap();
    }
    text
}

#[track_caller]
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/cassandra/schema/plan/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{} is out of date; it should read:\n{text}", path.display());
}

fn refusal(wanted: &Wanted, found: &Found) -> String {
    plan(wanted, found, noon()).unwrap_err().to_string()
}

#[test]
fn a_new_dataset_gets_everything_in_order() {
    let plan = plan(&wanted(), &Found::nothing(), noon()).unwrap();
    golden("new_dataset.cql", &shown(&plan));
    assert!(!shown(&plan).contains("cret'"), "the password is not shown");
}

/// A node that knows an old schema lists the table as little as any that was deleted in: it is not to be taken for one that knows.
#[test]
fn floors_that_may_be_unknown_are_looked_for_before_all_is_well() {
    let (wanted, mut found) = provisioned();
    found.tables.remove("removed_namespaces").unwrap();
    let plan = plan(&wanted, &found, noon()).unwrap();
    let steps: Vec<_> = plan.steps().map(|step| step.action.clone()).collect();
    assert_eq!(steps, [Action::CreateTable(Table::removed("plays"))]);
}

#[test]
fn what_is_carried_out_is_not_planned_again() {
    let (wanted, found) = provisioned();
    assert_eq!(plan(&wanted, &found, noon()).unwrap(), Plan::default());
}

#[test]
fn what_was_cut_short_anywhere_is_finished_by_the_next_run() {
    let (wanted, nothing) = (wanted(), Found::nothing());
    let whole = plan(&wanted, &nothing, noon()).unwrap();
    for cut in 0..whole.provisioning.len() {
        let first = Plan { provisioning: whole.provisioning[..cut].to_vec(), ..Plan::default() };
        let found = carried_out(&wanted, &nothing, &first);
        let found = carried_out(&wanted, &found, &plan(&wanted, &found, noon()).unwrap());
        assert!(plan(&wanted, &found, noon()).unwrap().is_empty(), "cut after {cut} steps");
    }
    for cut in 0..whole.slices.len() {
        let first = Plan { slices: whole.slices[..cut].to_vec(), ..whole.clone() };
        let found = carried_out(&wanted, &nothing, &first);
        let found = carried_out(&wanted, &found, &plan(&wanted, &found, noon()).unwrap());
        assert!(plan(&wanted, &found, noon()).unwrap().is_empty(), "cut after {cut} steps of slices");
    }
}

#[test]
fn days_later_slices_are_created_closed_and_dropped() {
    let (wanted, found) = provisioned();
    let later = noon().plus(DAY * 9);
    let later_plan = plan(&wanted, &found, later).unwrap();
    golden("nine_days_later.cql", &shown(&later_plan));
    let found = carried_out(&wanted, &found, &later_plan);
    assert!(plan(&wanted, &found, later).unwrap().is_empty());
}

#[test]
fn an_older_server_is_not_given_options_that_it_does_not_know() {
    let known = KnownOptions { read_repair: false, allow_auto_snapshot: false };
    let plan = plan(&wanted(), &Found { known, ..Found::nothing() }, noon()).unwrap();
    assert!(!shown(&plan).contains("read_repair") && !shown(&plan).contains("auto_snapshot"));
}

#[test]
fn replication_that_differs_is_told_and_never_altered() {
    let (wanted, mut found) = provisioned();
    found.replication.as_mut().unwrap().insert("dc1".to_owned(), "1".to_owned());
    let plan = plan(&wanted, &found, noon()).unwrap();
    assert!(plan.is_empty());
    golden("replication_differs.txt", &shown(&plan));
}

#[test]
fn a_keyspace_without_replicas_in_the_local_datacenter_is_refused() {
    let (wanted, mut found) = provisioned();
    for replication in [vec![("dc2", "3")], vec![("dc1", "0"), ("dc2", "3")]] {
        let class = [("class", "NetworkTopologyStrategy")].into_iter().chain(replication);
        found.replication = Some(class.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
        let refused = refusal(&wanted, &found);
        assert!(refused.contains("keyspace plays has no replica in datacenter \"dc1\""), "{refused}");
        assert!(refused.contains("ALTER KEYSPACE plays WITH replication"), "{refused}");
    }
}

fn foreign() -> FoundTable {
    let column = Column { part: Part::Partition(0), name: "id".to_owned(), cql_type: "uuid".to_owned() };
    FoundTable {
        id: Uuid::nil(),
        comment: String::new(),
        columns: [column].into(),
        default_time_to_live: 0,
        read_repair: None,
    }
}

#[test]
fn somebody_elses_keyspace_is_refused() {
    let (wanted, provisioned) = provisioned();
    let tables = [("users".to_owned(), foreign()), ("orders".to_owned(), foreign())].into();
    let found = Found { replication: provisioned.replication, tables, ..Found::nothing() };
    let refused = refusal(&wanted, &found);
    assert!(refused.contains("keyspace plays is not touched: it holds tables orders, users"), "{refused}");
}

#[test]
fn somebody_elses_table_beside_ours_is_told_and_left_alone() {
    let (wanted, mut found) = provisioned();
    found.tables.insert("users".to_owned(), foreign());
    let plan = plan(&wanted, &found, noon()).unwrap();
    assert!(plan.is_empty());
    assert!(plan.notes[0].contains("also holds table users"), "{:?}", plan.notes);
}

#[test]
fn somebody_elses_table_under_our_name_is_refused() {
    let (wanted, provisioned) = provisioned();
    for name in ["rollup", "slices", "dataset_owner", "events_0"] {
        let mut found = provisioned.clone();
        found.tables.insert(name.to_owned(), foreign());
        let refused = refusal(&wanted, &found);
        assert!(refused.starts_with(&format!("table plays.{name} is not touched")), "{refused}");
        assert!(refused.contains(&Uuid::nil().to_string()) && refused.contains("it has id uuid"), "{refused}");
    }
}

#[test]
fn anothers_dataset_is_refused() {
    let (mut wanted, found) = provisioned();
    wanted.owner = Some("team-music".to_owned());
    assert_eq!(
        refusal(&wanted, &found),
        "dataset plays is not touched: it belongs to \"team-video\", and \"team-music\" cannot have it, too"
    );
    wanted.owner = None;
    assert!(refusal(&wanted, &found).contains("nobody was named who asks for it"));
}

#[test]
fn a_second_region_is_refused() {
    let (mut wanted, found) = provisioned();
    wanted.dataset.region = "dc2".to_owned();
    assert!(refusal(&wanted, &found).contains("its region is \"dc1\", not \"dc2\""));
}

#[test]
fn a_table_that_a_dropped_slice_left_behind_is_dropped() {
    let (wanted, mut found) = provisioned();
    found.slices.get_mut("dc1").unwrap()[0].state = SliceState::Dropped;
    let plan = plan(&wanted, &found, noon()).unwrap();
    let steps: Vec<_> = plan.steps().map(|step| step.cql.to_string()).collect();
    assert_eq!(steps, ["DROP TABLE IF EXISTS plays.events_0"]);
}

#[test]
fn a_table_of_no_slice_and_a_lost_one_are_told() {
    let (wanted, mut found) = provisioned();
    found.tables.insert("events_5".to_owned(), there(&Table::events("plays", noon(), noon().plus(DAY))));
    found.tables.remove("events_0");
    found.slices.get_mut("dc1").unwrap()[0].state = SliceState::Closed;
    let notes = plan(&wanted, &found, noon()).unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("plays.events_5 belongs to no slice")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("plays.events_0 is missing")), "{notes:?}");
}

#[test]
fn a_role_is_brought_to_read_and_write_its_keyspace_and_nothing_else() {
    let (wanted, mut found) = provisioned();
    let permission = |resource: &str, permission: &str| Permission {
        resource: resource.to_owned(),
        permission: permission.to_owned(),
    };
    found.role = FoundRole::Present {
        login: true,
        superuser: false,
        password_is_right: false,
        permissions: Some(
            [
                permission("<keyspace plays>", "SELECT"),
                permission("<keyspace plays>", "DROP"),
                permission("<all keyspaces>", "SELECT"),
                permission("<table other.users>", "MODIFY"),
                permission("<all roles>", "ALTER"),
            ]
            .into(),
        ),
    };
    golden("role_changes.cql", &shown(&plan(&wanted, &found, noon()).unwrap()));
}

#[test]
fn a_role_is_left_alone_where_it_is_not_ours_or_nobody_asks_for_it() {
    let (mut wanted, mut found) = provisioned();
    found.role = FoundRole::NoAuthentication;
    let notes = plan(&wanted, &found, noon()).unwrap();
    assert!(notes.is_empty() && notes.notes[0].contains("AllowAllAuthenticator"), "{notes:?}");
    wanted.role = Some(Role { name: "cassandra".to_owned(), password: "cassandra".to_owned() });
    found.role = FoundRole::Absent;
    let notes = plan(&wanted, &found, noon()).unwrap();
    assert!(notes.is_empty() && notes.notes[0].contains("role cassandra is left as it is"), "{notes:?}");
}

#[test]
fn a_superuser_is_not_taken_for_a_datasets_role() {
    let (wanted, mut found) = provisioned();
    found.role =
        FoundRole::Present { login: true, superuser: true, password_is_right: true, permissions: Some([].into()) };
    assert!(refusal(&wanted, &found).contains("role tallyman_plays is not touched: it is a superuser"));
}

#[test]
fn nothing_about_roles_is_done_where_none_is_wanted() {
    let (mut wanted, mut found) = provisioned();
    wanted.role = None;
    found.role = FoundRole::Absent;
    assert_eq!(plan(&wanted, &found, noon()).unwrap(), Plan::default());
}

#[test]
fn a_name_that_was_deleted_waits_until_the_boundary_has_passed_its_floor_and_others_do_not() {
    let (wanted, mut found) = provisioned();
    let floor = noon().plus(Duration::from_secs(30));
    found.floors.insert("another".to_owned(), floor);
    assert!(plan(&wanted, &found, noon()).is_ok());
    found.floors.insert("video-plays".to_owned(), floor);
    // 5 s, 2 s and 1 s after it.
    let free = floor.plus(Duration::from_secs(8));
    let refused = plan(&wanted, &found, free).unwrap_err();
    assert!(refused.is_temporary() && refused.to_string().contains("video-plays"), "{refused}");
    let Refusal::RemovedJustNow { until, .. } = refused else { panic!("{refused}") };
    assert_eq!(until.previous(), free);
    assert!(plan(&wanted, &found, until).is_ok());
    // A slice that takes events for longer holds it back for longer.
    found.slices.get_mut("dc1").unwrap()[0].settings.accept_limit = Duration::from_secs(60);
    assert!(plan(&wanted, &found, until).is_err());
}

#[test]
fn a_dataset_that_was_there_is_missed_and_not_made_anew() {
    let wanted = Wanted { must_exist: true, ..wanted() };
    let gone = plan(&wanted, &Found::nothing(), noon());
    assert_eq!(gone, Err(Refusal::Gone { dataset: "plays".to_owned() }));
    let (_, found) = provisioned();
    assert!(plan(&wanted, &found, noon()).is_ok());
}

mod removal {
    use super::super::super::removal::{DatasetRemoval, plan_dataset};
    use super::*;

    fn listed(removal: &DatasetRemoval) -> String {
        let steps =
            removal.steps.iter().map(|step| format!("-- {}: {}\n{};\n", step.action.name(), step.why, step.cql));
        steps.chain(removal.notes.iter().map(|note| format!("-- note: {note}\n"))).collect()
    }

    #[test]
    fn a_keyspace_that_was_created_goes_whole_and_its_role_before_it() {
        let (wanted, found) = provisioned();
        golden("removed_dataset_and_keyspace.cql", &listed(&plan_dataset(&wanted, &found).unwrap()));
    }

    #[test]
    fn out_of_another_keyspace_go_our_tables_the_owners_last() {
        let (wanted, mut found) = provisioned();
        found.tables.insert(OWNER.to_owned(), there(&Table::owner("plays")));
        golden("removed_dataset.cql", &listed(&plan_dataset(&wanted, &found).unwrap()));

        let (wanted, mut found) = provisioned();
        let theirs = FoundTable { comment: "mine".to_owned(), ..there(&Table::rollup("plays")) };
        found.tables.insert("theirs".to_owned(), theirs);
        let removal = plan_dataset(&wanted, &found).unwrap();
        assert!(removal.steps.iter().all(|step| step.action != Action::DropKeyspace));
        assert!(removal.notes[0].contains("theirs"), "{:?}", removal.notes);
    }

    #[test]
    fn a_copy_of_our_table_keeps_its_keyspace_and_stays_though_it_has_our_mark() {
        let (wanted, mut found) = provisioned();
        found.tables.insert("rollup_backup".to_owned(), there(&Table::rollup("plays")));
        let removal = plan_dataset(&wanted, &found).unwrap();
        let dropped: Vec<_> = removal
            .steps
            .iter()
            .filter_map(|step| match &step.action {
                Action::DropTable(table) => Some(table.name.as_str()),
                action => {
                    assert_eq!(*action, Action::DropRole);
                    None
                }
            })
            .collect();
        assert!(dropped.contains(&"rollup") && !dropped.contains(&"rollup_backup"), "{dropped:?}");
        assert!(removal.notes[0].contains("rollup_backup"), "{:?}", removal.notes);
    }

    #[test]
    fn a_removal_that_is_cut_short_anywhere_goes_on_and_finishes_and_is_its_owners_all_the_time() {
        for created in [true, false] {
            let (wanted, mut whole) = provisioned();
            if !created {
                whole.tables.insert(OWNER.to_owned(), there(&Table::owner("plays")));
            }
            let all = plan_dataset(&wanted, &whole).unwrap().steps;
            for cut in 0..=all.len() {
                let steps = Plan { provisioning: all[..cut].to_vec(), ..Plan::default() };
                let mut found = carried_out(&wanted, &whole, &steps);
                if !found.tables.contains_key(OWNER) {
                    found.owner = None;
                }
                let rest = plan_dataset(&wanted, &found).unwrap().steps;
                assert_eq!(rest, all[cut..], "cut after {cut}");
            }
        }
    }

    #[test]
    fn what_is_anothers_or_nobodys_is_not_removed() {
        let (wanted, found) = provisioned();
        let another = Wanted { owner: Some("another".to_owned()), ..wanted.clone() };
        assert!(matches!(plan_dataset(&another, &found), Err(Refusal::OwnedByAnother { .. })));
        let unclaimed = Found { owner: None, ..found };
        assert!(matches!(plan_dataset(&wanted, &unclaimed), Err(Refusal::OwnedByNobody { .. })));
        assert_eq!(plan_dataset(&wanted, &Found::nothing()), Ok(DatasetRemoval::default()));
        let somebody_elses = Wanted { owner: None, ..wanted };
        assert!(matches!(plan_dataset(&somebody_elses, &unclaimed), Err(Refusal::OwnedByNobody { .. })));
    }
}
