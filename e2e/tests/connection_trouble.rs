//! What can be wrong between a sidecar and Cassandra: each is told apart on its readiness page and to its clients, and ends
//! without a restart when it is mended.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tallyman_api::client::{Client, Policy};
use tallyman_e2e::binaries::{Binaries, command};
use tallyman_e2e::daemon::Daemon;
use tallyman_servers::{Place, SUPERUSER, Set, Shape};

const ADDRESSES: u8 = 24;
const NAMESPACE: &str = "plays";
const DATASET: &str = "troubles";
/// Counted once the new connection is there, which is used a moment later.
const ADDS_AFTER_A_MOVE: usize = 300;
/// Nothing listens on port 1 of loopback.
const NOBODY: &str = "127.0.0.1:1";

/// What a document says of how Cassandra is reached.
#[derive(Clone)]
struct Reach<'a> {
    contact_point: &'a str,
    local_datacenter: &'a str,
    credentials_file: Option<&'a Path>,
}

fn document(reach: &Reach<'_>) -> Value {
    let mut storage = json!({
        "type": "CASSANDRA", "cluster": "e2e", "dataset": DATASET, "contact_points": [reach.contact_point],
        "local_datacenter": reach.local_datacenter,
    });
    if let Some(file) = reach.credentials_file {
        storage["credentials_file"] = json!(file);
    }
    json!({"namespace": NAMESPACE, "region": "dc1", "persistence_configuration": [
        {"id": "COUNTER_ROLLUP", "scope": "dal=counter", "physical_storage": storage, "counter_cardinality": "HIGH",
         "config": {"counter_type": "ACCURATE"}},
        {"id": "EVENT_STORAGE", "scope": "dal=ts", "physical_storage": storage, "config": {"accept_limit": "30s"}},
    ]})
}

/// Folders with a document each: the sidecar's, and the schema tool's.
struct Folders {
    folder: tempfile::TempDir,
}

impl Folders {
    fn new() -> Self {
        let folders = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["served", "provisioned"] {
            std::fs::create_dir(folders.path(name)).unwrap();
        }
        folders
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// In one step, as a reader may look at any time.
    fn write(&self, folder: &str, reach: &Reach<'_>) {
        let beside = self.path("beside");
        std::fs::write(&beside, document(reach).to_string()).unwrap();
        std::fs::rename(beside, self.path(folder).join("plays.json")).unwrap();
    }

    /// Creates keyspace, tables and slices, logged in with these credentials.
    fn provision(&self, reach: &Reach<'_>, admin_credentials: &Path) {
        // The role that the document would name is not to be made: it is the superuser here.
        self.write("provisioned", &Reach { credentials_file: None, ..reach.clone() });
        let applied = command(Binaries::built().tallyman())
            .args(["schema", "apply", "--connect-timeout", "60s", "--namespaces-dir"])
            .arg(self.path("provisioned"))
            .arg("--admin-credentials")
            .arg(admin_credentials)
            .stdin(Stdio::null())
            .status();
        assert!(applied.unwrap().success());
    }

    fn credentials(&self, name: &str, username: &str, password: &str) -> PathBuf {
        let file = self.path(name);
        std::fs::write(&file, format!("username={username}\npassword={password}\n")).unwrap();
        file
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra: cargo xtask test"]
async fn each_trouble_with_cassandra_is_told_apart_and_ends_without_a_restart() {
    Binaries::built();
    let shape = Shape { auth: true, ..Shape::default() };
    let servers = Set::start(&Place::in_memory("connection-trouble", ADDRESSES).unwrap(), &shape).unwrap();
    let contact_point = servers.contact_points();
    let folders = Folders::new();
    let (name, password) = SUPERUSER;
    let right = folders.credentials("right", name, password);
    let wrong = folders.credentials("wrong", name, "not-this-one");
    let missing = folders.path("missing");
    let sound = Reach { contact_point: &contact_point, local_datacenter: "dc1", credentials_file: Some(&right) };

    let mut sidecar = Daemon::new("sidecar", Binaries::built().sidecar(), &folders.path("served"), &folders.path(""));
    folders.write("served", &Reach { contact_point: NOBODY, ..sound.clone() });
    sidecar.start();
    let client = Client::builder(format!("http://{}", sidecar.listen())).deadline(Duration::from_secs(1));
    let client = client.connect().unwrap();

    let troubles = [
        (Reach { contact_point: NOBODY, ..sound.clone() }, vec!["unreachable contact points", NOBODY]),
        (Reach { credentials_file: None, ..sound.clone() }, vec!["wrong credentials", "no credentials_file"]),
        (
            Reach { credentials_file: Some(&missing), ..sound.clone() },
            vec!["cannot be read", missing.to_str().unwrap()],
        ),
        (Reach { credentials_file: Some(&wrong), ..sound.clone() }, vec!["wrong credentials", wrong.to_str().unwrap()]),
        (Reach { local_datacenter: "dc9", ..sound.clone() }, vec!["wrong datacenter", "dc9", "dc1"]),
        (sound.clone(), vec!["keyspace", DATASET, "does not exist"]),
    ];
    for (reach, words) in troubles {
        folders.write("served", &reach);
        let page = sidecar.wait_until_told(&words);
        assert!(page.contains(&format!("[-]namespace {NAMESPACE} failed: dataset {DATASET}: ")), "{page}");
        let told = client.add(NAMESPACE, "a", 1, None).await.unwrap_err().status().unwrap().message.clone();
        assert!(words.iter().all(|word| told.contains(word)), "{words:?}: {told}");
        assert!(!page.contains("not-this-one") && !told.contains("not-this-one"), "{page}{told}");
    }

    // The file is mended in its place, under a document that stays as it is.
    folders.write("served", &Reach { credentials_file: Some(&wrong), ..sound.clone() });
    sidecar.wait_until_told(&["wrong credentials", wrong.to_str().unwrap()]);
    folders.credentials("wrong", name, password);
    sidecar.wait_until_told(&["keyspace", DATASET, "does not exist"]);

    // The keyspace is created, and nothing else changes.
    folders.provision(&sound, &right);
    sidecar.wait_until_ready();
    client.with_deadline(Duration::from_secs(60)).add(NAMESPACE, "a", 1, None).await.unwrap();
    assert!(sidecar.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra: cargo xtask test"]
async fn a_namespace_that_moves_to_another_connection_drops_no_request() {
    Binaries::built();
    let shape = Shape { auth: true, ..Shape::default() };
    let servers = Set::start(&Place::in_memory("connection-moves", ADDRESSES + 1).unwrap(), &shape).unwrap();
    let contact_point = servers.contact_points();
    let folders = Folders::new();
    let (name, password) = SUPERUSER;
    let files = ["first", "second", "third"].map(|file| folders.credentials(file, name, password));
    let reach = |file| Reach { contact_point: &contact_point, local_datacenter: "dc1", credentials_file: file };
    folders.provision(&reach(None), &files[0]);
    let mut sidecar = Daemon::new("sidecar", Binaries::built().sidecar(), &folders.path("served"), &folders.path(""));
    folders.write("served", &reach(Some(&files[0])));
    sidecar.start();
    sidecar.wait_until_ready();

    let once = Policy { attempts_max: 1, ..Policy::default() };
    let client = Client::builder(format!("http://{}", sidecar.listen())).retries(once).connect().unwrap();
    let connections = || sidecar.log().matches("connected to Cassandra").count();
    let mut counted = 0;
    for file in &files[1..] {
        let before = connections();
        folders.write("served", &reach(Some(file)));
        let mut after = 0;
        while after < ADDS_AFTER_A_MOVE {
            client.add(NAMESPACE, "a", 1, None).await.unwrap();
            counted += 1;
            after += usize::from(connections() > before);
        }
    }
    assert_eq!(client.get(NAMESPACE, "a", None).await.unwrap().count, counted);
    assert!(sidecar.terminate().success());
}
