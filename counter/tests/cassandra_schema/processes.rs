//! Processes that provision the same dataset at once: a process makes one change at a time, and several know nothing of each other.

use std::process::{Command, Stdio};

use tallyman_counter::backend::cassandra::schema::slices;

use crate::node::Keyspace;
use crate::{planned, provisioned, slice};

/// What a process is told to provision.
const KEYSPACE: &str = "TALLYMAN_TEST_KEYSPACE";
const PROCESSES: usize = 4;
const SLICES: u32 = 3;

/// What each process of the next test does; by itself, with a dataset of its own.
#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_process_makes_a_dataset() {
    let told = std::env::var(KEYSPACE).ok();
    let keyspace = match &told {
        Some(name) => Keyspace::named(name.clone()).await,
        None => Keyspace::new().await,
    };
    let (ddl, wanted) = (keyspace.ddl(), keyspace.wanted());
    provisioned(&ddl, &wanted).await.unwrap();
    for index in 0..SLICES {
        slices::create(&ddl, &keyspace.name, "dc1", &slice(&wanted, index)).await.unwrap();
    }
    if told.is_none() {
        keyspace.drop().await;
    }
}

#[tokio::test]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn processes_that_race_make_one_schema_and_none_fails() {
    let keyspace = Keyspace::new().await;
    let process = || {
        let mut this_test = Command::new(std::env::current_exe().unwrap());
        this_test.args(["--include-ignored", "--exact", "processes::a_process_makes_a_dataset"]);
        this_test.env(KEYSPACE, &keyspace.name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let processes: Vec<_> = (0..PROCESSES).map(|_| process()).collect();
    for process in processes {
        let ended = process.wait_with_output().unwrap();
        let output = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && output.contains("1 passed"), "{output}");
    }
    let (ddl, wanted) = (keyspace.ddl(), keyspace.wanted());
    assert_eq!(planned(&ddl, &wanted).await.unwrap().provisioning, []);
    let recorded = slices::read(&keyspace.session, &keyspace.name, "dc1").await.unwrap();
    assert_eq!(recorded, (0..SLICES).map(|index| slice(&wanted, index)).collect::<Vec<_>>());
    keyspace.drop().await;
}
