//! The Cassandra under test, and a keyspace of one's own in it.

#[path = "../cassandra/admin.rs"]
mod admin;

use std::sync::Arc;

use scylla::client::session::Session;
use tallyman_counter::backend::cassandra::schema::Error;
use tallyman_counter::backend::cassandra::schema::datasets::requested;
use tallyman_counter::backend::cassandra::schema::ddl::Ddl;
use tallyman_counter::backend::cassandra::schema::plan::{Replication, Wanted};
use tallyman_counter::backend::cassandra::schema::provision::Incomplete;
use tallyman_counter::backend::cassandra::schema::read;
use tallyman_counter::backend::cassandra::schema::tables::FoundTable;
use tallyman_counter::configuration::NamespaceConfiguration;
use tallyman_counter::retention::{self, Ahead};
use tallyman_counter::{aggregation, store};

pub use admin::{contact_points, session};

/// A keyspace that no other test has.
pub struct Keyspace {
    pub name: String,
    pub session: Arc<Session>,
    datacenter: String,
    factor: u32,
}

impl Keyspace {
    pub async fn new() -> Self {
        Self::named(format!("schema_{}", uuid::Uuid::now_v7().simple())).await
    }

    /// One that others may have by its name.
    pub async fn named(name: String) -> Self {
        let session = session().await;
        let (datacenter, nodes) = admin::datacenter(&session).await;
        Self { name, session: Arc::new(session), factor: u32::try_from(nodes.min(3)).unwrap(), datacenter }
    }

    pub fn ddl(&self) -> Ddl {
        Ddl::new(self.session.clone())
    }

    pub fn wanted(&self) -> Wanted {
        let storage = format!(
            r#""physical_storage": {{"type": "CASSANDRA", "cluster": "test", "dataset": "{}",
                "contact_points": ["127.0.0.1:9042"], "local_datacenter": "{}"}}"#,
            self.name, self.datacenter
        );
        let document = format!(
            r#"{{"namespace": "plays", "region": "dc1", "persistence_configuration": [
                {{"id": "COUNTER_ROLLUP", {storage}, "counter_cardinality": "LOW", "config": {{"counter_type": "EVENTUAL"}}}},
                {{"id": "EVENT_STORAGE", {storage}, "config": {{}}}}]}}"#
        );
        Wanted {
            must_exist: false,
            dataset: requested([&NamespaceConfiguration::from_json(&document).unwrap()]).datasets.remove(0),
            replication: Replication::from([(self.datacenter.clone(), self.factor)]),
            owner: Some("tests".to_owned()),
            role: None,
            ahead: Ahead::USUAL,
        }
    }

    pub fn replication(&self) -> String {
        format!("{{'class': 'NetworkTopologyStrategy', '{}': {}}}", self.datacenter, self.factor)
    }

    pub async fn run(&self, cql: &str) {
        self.session.query_unpaged(cql, ()).await.unwrap();
        self.session.await_schema_agreement().await.unwrap();
    }

    pub async fn table(&self, name: &str) -> FoundTable {
        read::table(&self.session, &self.name, name).await.unwrap().unwrap()
    }

    pub async fn tables(&self) -> Vec<String> {
        let text = format!("SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{}'", self.name);
        let rows = self.session.query_unpaged(text, ()).await.unwrap().into_rows_result().unwrap();
        rows.rows::<(String,)>().unwrap().map(|row| row.unwrap().0).collect()
    }

    pub async fn drop(self) {
        self.run(&format!("DROP KEYSPACE {}", self.name)).await;
    }
}

/// Whether the same may be done in a moment: nodes that share their machine with others answer late, or tell their time so late that no
/// clock can be held against it.
pub fn may_pass(incomplete: &Incomplete) -> bool {
    match incomplete {
        Incomplete::Schema(error) => error.is_retryable() && !matches!(error, Error::Refused(_)),
        Incomplete::Slices { source, .. } => match source {
            retention::Error::Aggregation(error) | retention::Error::SweepUnfinished { source: error, .. } => {
                is_stall(error)
            }
            _ => false,
        },
        Incomplete::Unfinished { .. } => false,
    }
}

/// The same of what reads and rolls up.
pub fn is_stall(error: &aggregation::Error) -> bool {
    match error {
        aggregation::Error::Store(error) => store::Error::is_retryable(error),
        aggregation::Error::Clock(_) => true,
        aggregation::Error::NoSlices | aggregation::Error::MarkMissing { .. } => false,
    }
}
