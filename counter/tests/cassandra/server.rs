//! Keyspaces of a test's own on the Cassandra under test, dropped at its end.

mod admin;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scylla::client::session::Session;
use tallyman_counter::backend::cassandra::schema::ddl::Ddl;
use tallyman_counter::backend::cassandra::schema::tables::Table;
use tallyman_counter::backend::cassandra::{Cluster, Reach};

pub use admin::contact_points;

/// How long a cluster that is up may take to be connected to.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(60);

const CREATIONS_MAX: u32 = 10;

/// Waits until the cluster can be used.
pub async fn connected(cluster: &Cluster) {
    let in_time = tokio::time::timeout(CONNECT_TIME_MAX, cluster.connected()).await;
    assert!(in_time.is_ok(), "{:?}", cluster.check());
}

/// Makes keyspaces, and drops them when it is dropped.
pub struct Keyspaces {
    pub admin: Arc<Session>,
    datacenter: String,
    replication: usize,
    prefix: String,
    made: AtomicU32,
    cluster: Mutex<Cluster>,
}

impl Keyspaces {
    pub async fn new() -> Self {
        let admin = Arc::new(admin::session().await);
        let (datacenter, nodes) = admin::datacenter(&admin).await;
        let replication = nodes.min(3);
        let cluster = Cluster::new(reach(&datacenter));
        connected(&cluster).await;
        let prefix = format!("t_{}", uuid::Uuid::now_v7().simple());
        let (made, cluster) = (AtomicU32::new(0), Mutex::new(cluster));
        Self { admin, datacenter, replication, prefix, made, cluster }
    }

    pub fn cluster(&self) -> Cluster {
        self.cluster.lock().unwrap().clone()
    }

    /// Datasets are read and written as the region that is their datacenter.
    pub fn region(&self) -> &str {
        &self.datacenter
    }

    /// Gives up the connection, and makes another one.
    pub async fn reconnect(&self) {
        let cluster = Cluster::new(reach(&self.datacenter));
        connected(&cluster).await;
        *self.cluster.lock().unwrap() = cluster;
    }

    /// A keyspace with the tables that every dataset has.
    pub async fn create(&self) -> String {
        let keyspace = self.named(self.made.fetch_add(1, Ordering::Relaxed));
        let (datacenter, replication) = (&self.datacenter, self.replication);
        let create = format!(
            "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', '{datacenter}': {replication}}}"
        );
        self.admin.query_unpaged(create, ()).await.unwrap();
        let ddl = Ddl::new(self.admin.clone());
        for table in [Table::rollup(&keyspace), Table::slices(&keyspace)] {
            // What a node did not get done in time is finished by the next call.
            let mut attempts = 0;
            while let Err(error) = ddl.create_table(&table).await {
                attempts += 1;
                assert!(error.is_retryable() && attempts < CREATIONS_MAX, "{error}");
            }
        }
        keyspace
    }

    pub fn last_created(&self) -> String {
        self.named(self.made.load(Ordering::Relaxed) - 1)
    }

    fn named(&self, nth: u32) -> String {
        format!("{}_{nth}", self.prefix)
    }
}

impl Drop for Keyspaces {
    fn drop(&mut self) {
        let drops: Vec<String> =
            (0..self.made.load(Ordering::Relaxed)).map(|nth| format!("DROP KEYSPACE {}", self.named(nth))).collect();
        let admin = self.admin.clone();
        // A panicking test drops its keyspaces, too.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                for drop in drops {
                    if let Err(error) = admin.query_unpaged(drop, ()).await {
                        eprintln!("a test's keyspace is left over: {error}");
                    }
                }
            });
        });
    }
}

pub fn reach(datacenter: &str) -> Reach {
    Reach {
        contact_points: contact_points(),
        local_datacenter: datacenter.to_owned(),
        credentials_file: None,
        tls_ca_file: None,
    }
}
