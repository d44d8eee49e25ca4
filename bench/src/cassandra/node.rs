//! The node, and keyspaces of our own in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::{Consistency, SerialConsistency};
use tallyman_servers::{Place, Set, Shape};
use uuid::Uuid;

use crate::usage::{self, Process};

/// Far longer than the node's own limits, so that its answer is always heard.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Says where Cassandra is, where there is one to be used.
const VARIABLE: &str = "TALLYMAN_CASSANDRA";
/// The third byte of the address of a node that is started for the benchmark alone.
const PLACE: u8 = 94;

/// A node and our session with it.
pub struct Node {
    /// Ends the node, where it is ours, when this is dropped.
    _set: Option<Set>,
    address: SocketAddr,
    datacenter: String,
    process: Option<Process>,
    session: Arc<Session>,
}

impl Node {
    /// The first of the nodes that `TALLYMAN_CASSANDRA` names (`ip:port`, comma separated), or else one that is started, with
    /// its commit log synced before each acknowledgement.
    pub async fn find() -> Result<Self> {
        if let Ok(nodes) = std::env::var(VARIABLE) {
            let first = nodes.split(',').next().unwrap_or_default();
            let address = first.parse().with_context(|| format!("{VARIABLE}: {first:?} is no ip:port"))?;
            return Self::connect(address, None).await;
        }
        let start = || Set::start(&Place::named("bench", PLACE)?, &Shape::default());
        let set = tokio::task::spawn_blocking(start).await.context("starting Cassandra panicked")??;
        let address = set.nodes().first().context("no node was started")?.contact_point();
        Self::connect(address, Some(set)).await
    }

    async fn connect(address: SocketAddr, set: Option<Set>) -> Result<Self> {
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(REQUEST_TIMEOUT))
            .build();
        let session = SessionBuilder::new()
            .known_node_addr(address)
            .default_execution_profile_handle(profile.into_handle())
            .build()
            .await
            .with_context(|| format!("no Cassandra answers at {address}"))?;
        let reply = session.query_unpaged("SELECT data_center FROM system.local", ()).await?.into_rows_result()?;
        let (datacenter,) = reply.first_row::<(String,)>()?;
        let process = usage::listening_process(address).map(|pid| Process::java("cassandra", pid));
        Ok(Self { _set: set, address, datacenter, process, session: Arc::new(session) })
    }

    /// Where it serves clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its datacenter.
    pub fn datacenter(&self) -> &str {
        &self.datacenter
    }

    /// Its process, where that runs on this machine; none or one.
    pub fn processes(&self) -> Vec<Process> {
        self.process.iter().cloned().collect()
    }

    /// A name for a keyspace that nobody else has; it is made by whoever is to use it.
    pub fn reserve(&self) -> Keyspace {
        let random = Uuid::new_v4().simple().to_string();
        Keyspace { name: format!("bench_{}", &random[..12]), session: self.session.clone() }
    }

    /// A new keyspace with one replica.
    pub async fn create(&self) -> Result<Keyspace> {
        let keyspace = self.reserve();
        let statement = format!(
            "CREATE KEYSPACE {} WITH replication = {{'class': 'NetworkTopologyStrategy', '{}': 1}}",
            keyspace.name, self.datacenter
        );
        self.session.query_unpaged(statement, ()).await?;
        Ok(keyspace)
    }
}

/// A keyspace of one scenario.
pub struct Keyspace {
    name: String,
    session: Arc<Session>,
}

impl Keyspace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its node's session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Removes it with all it holds.
    pub async fn remove(self) -> Result<()> {
        self.session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {}", self.name), ()).await?;
        Ok(())
    }
}
