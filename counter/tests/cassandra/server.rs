//! Keyspaces of a test's own on the Cassandra that `TALLYMAN_CASSANDRA` names, dropped at its end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tallyman_counter::backend::cassandra::schema::ddl::Ddl;
use tallyman_counter::backend::cassandra::schema::tables::Table;
use tallyman_counter::backend::cassandra::{Cluster, Reach};

/// Comma-separated `host:port` of the nodes to test on.
const NODES: &str = "TALLYMAN_CASSANDRA";
const NODES_DEFAULT: &str = "127.0.0.1:9042";

/// How long a cluster that is up may take to be connected to.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);

pub fn contact_points() -> Vec<String> {
    let nodes = std::env::var(NODES).unwrap_or_else(|_| NODES_DEFAULT.to_owned());
    nodes.split(',').map(str::to_owned).collect()
}

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
        let admin = SessionBuilder::new().known_nodes(contact_points()).build().await;
        let admin = Arc::new(admin.expect("Cassandra is up: cargo xtask servers up"));
        let local = admin.query_unpaged("SELECT data_center FROM system.local", ()).await.unwrap();
        let (datacenter,) = local.into_rows_result().unwrap().single_row::<(String,)>().unwrap();
        let nodes = admin.get_cluster_state();
        let local = nodes.get_nodes_info().iter().filter(|node| node.datacenter.as_deref() == Some(&*datacenter));
        let replication = local.count().min(3);
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
            ddl.create_table(&table).await.unwrap();
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
