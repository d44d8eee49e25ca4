//! `tallyman schema`: what it shows without a cluster, and what it makes in a real one.

use std::fs;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, PATIENCE, run};

/// A contact point that nobody listens at.
const NOBODY: &str = "127.0.0.1:1";

/// A namespace document on a dataset.
fn document(namespace: &str, dataset: &str, contact_point: &str, datacenter: &str) -> String {
    let storage = format!(
        r#""physical_storage": {{"type": "CASSANDRA", "cluster": "main", "dataset": "{dataset}",
            "contact_points": ["{contact_point}"], "local_datacenter": "{datacenter}"}}"#
    );
    format!(
        r#"{{"namespace": "{namespace}", "region": "dc1", "persistence_configuration": [
            {{"id": "COUNTER_ROLLUP", {storage}, "counter_cardinality": "LOW", "config": {{"counter_type": "EVENTUAL"}}}},
            {{"id": "EVENT_STORAGE", {storage}, "config": {{
                "time_partition": {{"buckets_per_id": 4, "seconds_per_bucket": "600", "seconds_per_slice": "86400"}}}}}}]}}"#
    )
}

fn folder(documents: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in documents {
        fs::write(folder.path().join(file), text).unwrap();
    }
    folder
}

fn schema(folder: &TempDir, arguments: &[&str]) -> Ended {
    let path = folder.path().display().to_string();
    let (command, options) = arguments.split_first().unwrap();
    run(&[&["schema", command, "--namespaces-dir", &path], options].concat())
}

/// One JSON object a line.
fn lines(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn actions(line: &Value) -> Vec<&str> {
    line["steps"].as_array().unwrap().iter().map(|step| step["action"].as_str().unwrap()).collect()
}

#[test]
fn a_plan_offline_shows_all_that_an_empty_cluster_needs() {
    let folder = folder(&[("plays.json", &document("plays", "my_plays", NOBODY, "dc1"))]);
    let text = schema(&folder, &["plan", "--offline", "--owner", "team-video"]).succeeded().stdout;
    for expected in [
        "CREATE KEYSPACE IF NOT EXISTS my_plays\nWITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': '3'};",
        "CREATE TABLE IF NOT EXISTS my_plays.rollup (",
        "CREATE TABLE IF NOT EXISTS my_plays.slices (",
        "VALUES ('my_plays', 'team-video') IF NOT EXISTS;",
        "CREATE TABLE IF NOT EXISTS my_plays.events_0 (",
    ] {
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    let json = schema(&folder, &["plan", "--offline", "-o", "json", "--replication", "dc1=5,dc2=2"]).succeeded();
    let [line] = &lines(&json)[..] else { panic!("{json:?}") };
    assert_eq!((&line["dataset"], &line["cluster"]), (&"my_plays".into(), &"main".into()));
    assert_eq!(actions(line)[..4], ["create_keyspace", "create_table", "create_table", "create_table"]);
    let keyspace = line["steps"][0]["cql"].as_str().unwrap();
    assert!(keyspace.contains("'dc1': '5', 'dc2': '2'"), "{keyspace}");
}

#[test]
fn the_password_of_a_role_is_never_shown() {
    let secrets = folder(&[("credentials", "username=tallyman_my_plays\npassword=opensesame\n")]);
    let file = secrets.path().join("credentials").display().to_string();
    let document = document("plays", "my_plays", NOBODY, "dc1")
        .replace("\"contact_points\"", &format!("\"credentials_file\": \"{file}\", \"contact_points\""));
    let folder = folder(&[("plays.json", &document)]);
    for format in ["text", "json"] {
        let shown = schema(&folder, &["plan", "--offline", "-o", format]).succeeded().stdout;
        assert!(shown.contains("CREATE ROLE IF NOT EXISTS tallyman_my_plays WITH PASSWORD = '********'"), "{shown}");
        assert!(shown.contains("GRANT MODIFY ON KEYSPACE my_plays TO tallyman_my_plays"), "{shown}");
        assert!(!shown.contains("opensesame"), "{shown}");
    }
    fs::write(secrets.path().join("credentials"), "opensesame").unwrap();
    let wrong = schema(&folder, &["plan", "--offline"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("line 1 is neither username=") && !wrong.stderr.contains("opensesame"), "{wrong:?}");
    fs::remove_file(secrets.path().join("credentials")).unwrap();
    let absent = schema(&folder, &["plan", "--offline"]).succeeded().stdout;
    assert!(absent.contains("is not on this machine") && !absent.contains("CREATE ROLE"), "{absent}");
}

#[test]
fn what_is_wrong_holds_up_no_other_dataset() {
    let plays = document("plays", "my_plays", NOBODY, "dc1");
    let likes = document("likes", "my_likes", NOBODY, "dc1");
    let other = document("other", "my_likes", NOBODY, "dc1").replace("\"600\"", "\"300\"");
    let folder = folder(&[
        ("plays.json", &plays),
        ("likes.json", &likes),
        ("other.json", &other),
        (
            "wrong.json",
            &plays.replace("\"plays\"", "\"wrong\"").replace("\"buckets_per_id\": 4", "\"buckets_per_id\": 0"),
        ),
    ]);
    let ended = schema(&folder, &["plan", "--offline", "-o", "json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let datasets: Vec<_> = lines(&ended).iter().map(|line| line["dataset"].clone()).collect();
    assert_eq!(datasets, ["my_plays"]);
    assert!(ended.stderr.contains("wrong.json: ") && ended.stderr.contains("buckets_per_id: 0"), "{ended:?}");
    let disagreement =
        "likes and other share dataset my_likes and differ in time_partition.seconds_per_bucket: 600 and 300";
    assert!(ended.stderr.contains(disagreement), "{ended:?}");
}

#[test]
fn a_folder_without_what_is_kept_in_cassandra_has_nothing_to_do() {
    let best_effort = r#"{"namespace": "likes", "region": "dc1", "persistence_configuration": [
        {"id": "CACHE", "physical_storage": {"type": "MEMORY"},
         "config": {"counter_type": "BEST_EFFORT", "best_effort_counter_config": {"ttl": "60s"}}}]}"#;
    let ended = schema(&folder(&[("likes.json", best_effort)]), &["apply"]).succeeded();
    assert!(ended.stdout.contains("nothing to do"), "{ended:?}");
    let empty = schema(&folder(&[]), &["apply"]);
    assert_eq!(empty.code, Some(1));
    assert!(empty.stderr.contains("holds no namespace document"), "{empty:?}");
}

#[test]
fn a_replication_without_the_local_datacenter_is_refused() {
    let folder = folder(&[("plays.json", &document("plays", "my_plays", NOBODY, "dc1"))]);
    let ended = schema(&folder, &["plan", "--offline", "--replication", "dc2=3"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("names no replicas in dc1"), "{ended:?}");
    assert_eq!(schema(&folder, &["plan", "--offline", "--replication", "dc1"]).code, Some(2));
}

#[test]
fn a_cluster_that_is_not_there_is_said_to_be_unreachable() {
    let folder = folder(&[("plays.json", &document("plays", "my_plays", NOBODY, "dc1"))]);
    for command in ["plan", "apply"] {
        let ended = schema(&folder, &[command, "--connect-timeout", "1s"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("dataset my_plays, cluster main: unreachable contact points"), "{ended:?}");
    }
}

/// The Cassandra under test, and a dataset of one's own in it.
struct Cassandra {
    session: Session,
    contact_point: String,
    datacenter: String,
    dataset: String,
}

impl Cassandra {
    async fn new() -> Self {
        let nodes = std::env::var("TALLYMAN_CASSANDRA").unwrap_or_else(|_| "127.0.0.1:9042".to_owned());
        let profile = ExecutionProfile::builder().request_timeout(Some(PATIENCE)).build().into_handle();
        let builder = SessionBuilder::new().known_nodes(nodes.split(',')).connection_timeout(PATIENCE);
        let session = builder.default_execution_profile_handle(profile).build().await.unwrap();
        let rows = session.query_unpaged("SELECT data_center FROM system.local", ()).await.unwrap();
        let (datacenter,) = rows.into_rows_result().unwrap().single_row::<(String,)>().unwrap();
        let dataset = format!("cli_{:016x}", fastrand::u64(..));
        let contact_point = nodes.split(',').next().unwrap().to_owned();
        Self { session, contact_point, datacenter, dataset }
    }

    fn folder(&self) -> TempDir {
        folder(&[("plays.json", &document("plays", &self.dataset, &self.contact_point, &self.datacenter))])
    }

    async fn tables(&self) -> Vec<String> {
        let text = format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{}'", self.dataset);
        let rows = self.session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
        rows.rows::<(String,)>().unwrap().map(|row| row.unwrap().0).collect()
    }

    async fn drop_dataset(&self) {
        let text = format!("DROP KEYSPACE IF EXISTS {}", self.dataset);
        self.session.query_unpaged(text, ()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn what_is_planned_is_applied_once_and_then_nothing_is_to_do() {
    let cassandra = Cassandra::new().await;
    let folder = cassandra.folder();
    let planned = schema(&folder, &["plan", "-o", "json"]).succeeded().json();
    assert_eq!(cassandra.tables().await, Vec::<String>::new(), "a plan changes nothing");
    let tables = actions(&planned).iter().filter(|action| **action == "create_table").count();
    let applied = schema(&folder, &["apply", "-o", "json"]).succeeded().json();
    assert_eq!(cassandra.tables().await.len(), tables);
    assert_eq!(applied["slicesCreated"].as_u64().unwrap(), tables as u64 - 4, "a table each, beside the four others");
    for command in ["plan", "apply"] {
        let again = schema(&folder, &[command, "-o", "json"]).succeeded().json();
        assert_eq!((actions(&again), &again["notes"]), (vec![], &Value::Array(vec![])), "{command}");
        let text = schema(&folder, &[command]).succeeded().stdout;
        assert!(text.contains("nothing to do"), "{text}");
    }
    cassandra.drop_dataset().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn applies_at_the_same_time_do_no_harm() {
    let cassandra = Cassandra::new().await;
    let folder = cassandra.folder();
    std::thread::scope(|scope| {
        let applies: Vec<_> = (0..3).map(|_| scope.spawn(|| schema(&folder, &["apply"]))).collect();
        for apply in applies {
            apply.join().unwrap().succeeded();
        }
    });
    let text = schema(&folder, &["plan"]).succeeded().stdout;
    assert!(text.contains("nothing to do"), "{text}");
    cassandra.drop_dataset().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn anothers_dataset_and_anothers_keyspace_are_refused() {
    let cassandra = Cassandra::new().await;
    let folder = cassandra.folder();
    let keyspace = format!(
        "CREATE KEYSPACE {} WITH replication = {{'class': 'NetworkTopologyStrategy', '{}': 1}}",
        cassandra.dataset, cassandra.datacenter
    );
    cassandra.session.query_unpaged(keyspace, ()).await.unwrap();
    let table = format!("CREATE TABLE {}.users (id uuid PRIMARY KEY)", cassandra.dataset);
    cassandra.session.query_unpaged(table, ()).await.unwrap();
    let refused = schema(&folder, &["apply"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("is not touched: it holds table users"), "{refused:?}");
    assert_eq!(cassandra.tables().await, ["users"]);
    cassandra.drop_dataset().await;

    schema(&folder, &["apply", "--owner", "team-video"]).succeeded();
    for arguments in [&["apply", "--owner", "team-music"][..], &["apply"]] {
        let refused = schema(&folder, arguments);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("it belongs to \"team-video\""), "{refused:?}");
    }
    schema(&folder, &["apply", "--owner", "team-video"]).succeeded();
    cassandra.drop_dataset().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_wrong_datacenter_is_said_with_those_that_there_are() {
    let cassandra = Cassandra::new().await;
    let text = document("plays", &cassandra.dataset, &cassandra.contact_point, "atlantis");
    let ended = schema(&folder(&[("plays.json", &text)]), &["apply", "--connect-timeout", "15s"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("wrong datacenter") && ended.stderr.contains(&cassandra.datacenter), "{ended:?}");
}
