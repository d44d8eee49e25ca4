//! The node, and keyspaces of our own in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::{Consistency, SerialConsistency};
use uuid::Uuid;

use crate::usage::{self, Process};

/// Far longer than the node's own limits, so that its answer is always heard.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A node and our session with it.
pub struct Node {
    address: SocketAddr,
    datacenter: String,
    process: Option<Process>,
    session: Arc<Session>,
}

impl Node {
    /// Connects to the node that serves clients at `address`.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
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
        Ok(Self { address, datacenter, process, session: Arc::new(session) })
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
