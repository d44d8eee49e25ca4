//! The role of a dataset on a Cassandra that asks for passwords: made by `tallyman schema apply`, it reads and writes its dataset,
//! and nothing else.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tallyman_e2e::binaries::{Binaries, command};
use tallyman_e2e::tables::Keyspace;
use tallyman_servers::{Place, SUPERUSER, Set, Shape};

const ADDRESSES: u8 = 25;
const DATASET: &str = "roles_plays";
const OTHER: &str = "roles_likes";
const ROLE: &str = "tallyman_roles_plays";

/// The folder of a test, and the cluster that its documents name.
struct Folder<'a> {
    folder: tempfile::TempDir,
    contact_point: &'a str,
}

impl Folder<'_> {
    fn credentials(&self, name: &str, username: &str, password: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, format!("username={username}\npassword={password}\n")).unwrap();
        file
    }

    fn document(&self, namespace: &str, dataset: &str, credentials_file: &Path) {
        let storage = json!({
            "type": "CASSANDRA", "cluster": "e2e", "dataset": dataset, "contact_points": [self.contact_point],
            "local_datacenter": "dc1", "credentials_file": credentials_file,
        });
        let document = json!({"namespace": namespace, "region": "dc1", "persistence_configuration": [
            {"id": "COUNTER_ROLLUP", "physical_storage": storage, "counter_cardinality": "HIGH",
             "config": {"counter_type": "EVENTUAL"}},
            {"id": "EVENT_STORAGE", "physical_storage": storage, "config": {}},
        ]});
        std::fs::write(self.folder.path().join(format!("{namespace}.json")), document.to_string()).unwrap();
    }

    /// Connects for as long as `patience`; a refusal is told when it is over.
    fn apply(&self, admin: Option<&Path>, patience: &str) -> Output {
        let mut apply = command(Binaries::built().tallyman());
        apply.args(["schema", "apply", "-o", "json", "--connect-timeout", patience, "--namespaces-dir"]);
        apply.arg(self.folder.path()).stdin(Stdio::null());
        if let Some(admin) = admin {
            apply.arg("--admin-credentials").arg(admin);
        }
        apply.output().unwrap()
    }

    /// The actions and statements of each dataset's steps, by dataset.
    fn applied(&self, admin: &Path) -> Vec<Value> {
        let applied = self.apply(Some(admin), "60s");
        assert!(applied.status.success(), "{applied:?}");
        String::from_utf8(applied.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn statements(line: &Value) -> Vec<&str> {
    line["steps"].as_array().unwrap().iter().map(|step| step["cql"].as_str().unwrap()).collect()
}

#[test]
#[ignore = "starts Cassandra: cargo xtask test"]
fn a_datasets_role_reads_and_writes_its_dataset_and_nothing_else() {
    let shape = Shape { auth: true, ..Shape::default() };
    let servers = Set::start(&Place::in_memory("roles", ADDRESSES).unwrap(), &shape).unwrap();
    let contact_point = servers.contact_points();
    let folder = Folder { folder: tempfile::tempdir().unwrap(), contact_point: &contact_point };
    let keyspace = Keyspace { contact_points: contact_point.clone(), name: DATASET.to_owned() };
    let admin = folder.credentials("admin", SUPERUSER.0, SUPERUSER.1);
    let plays = folder.credentials("plays", ROLE, "it's a secret");
    folder.document("plays", DATASET, &plays);
    folder.document("likes", OTHER, &admin);

    let refused = folder.apply(None, "10s");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("wrong credentials"), "{refused:?}");
    let wrong = folder.credentials("wrong", SUPERUSER.0, "not the password");
    let refused = folder.apply(Some(&wrong), "10s");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("wrong credentials"), "{refused:?}");

    let applied = folder.applied(&admin);
    let [likes, plays_line] = &applied[..] else { panic!("{applied:?}") };
    assert!(statements(plays_line).iter().any(|cql| cql.starts_with("CREATE ROLE")), "{plays_line}");
    assert!(statements(likes).iter().all(|cql| !cql.contains("ROLE")), "the superuser's role is not ours: {likes}");
    assert!(likes["notes"][0].as_str().unwrap().contains("role cassandra is left as it is"), "{likes}");
    assert!(folder.applied(&admin).iter().all(|line| statements(line).is_empty()), "nothing is left to do");

    let tried = keyspace.tried(
        (ROLE, "it's a secret"),
        &[
            &format!("SELECT * FROM {DATASET}.rollup"),
            &format!("INSERT INTO {DATASET}.rollup (namespace, counter_name, region) VALUES ('plays', 'a', 'dc1')"),
            &format!("SELECT * FROM {OTHER}.rollup"),
            &format!("INSERT INTO {OTHER}.rollup (namespace, counter_name, region) VALUES ('likes', 'a', 'dc1')"),
            &format!("CREATE TABLE {DATASET}.mine (id int PRIMARY KEY)"),
            &format!("DROP TABLE {DATASET}.events_0"),
            "CREATE ROLE another",
        ],
    );
    let expected = ["done", "done", "Unauthorized", "Unauthorized", "Unauthorized", "Unauthorized", "Unauthorized"];
    assert_eq!(tried, expected);
    let as_the_role = folder.apply(Some(&plays), "60s");
    assert_eq!(as_the_role.status.code(), Some(1), "{as_the_role:?}");

    folder.credentials("plays", ROLE, "another secret");
    let superuser = [
        format!("GRANT DROP ON KEYSPACE {OTHER} TO {ROLE}"),
        format!("REVOKE MODIFY ON KEYSPACE {DATASET} FROM {ROLE}"),
    ];
    assert_eq!(keyspace.tried(SUPERUSER, &[&superuser[0], &superuser[1]]), ["done", "done"]);
    let applied = folder.applied(&admin);
    assert_eq!(
        statements(&applied[1]),
        [
            format!("ALTER ROLE {ROLE} WITH PASSWORD = '********' AND LOGIN = true"),
            format!("GRANT MODIFY ON KEYSPACE {DATASET} TO {ROLE}"),
            format!("REVOKE DROP ON KEYSPACE \"{OTHER}\" FROM {ROLE}"),
        ]
    );
    assert!(folder.applied(&admin).iter().all(|line| statements(line).is_empty()), "nothing is left to do");
    let select = format!("SELECT * FROM {DATASET}.rollup");
    assert_eq!(keyspace.tried((ROLE, "another secret"), &[&select]), ["done"]);
}
