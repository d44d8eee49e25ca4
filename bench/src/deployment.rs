//! A running Tallyman, in one process or in several, and what else works for it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use tallyman_api::client::Client;

use crate::process::Server;
use crate::usage::Process;

/// One of the namespaces that every deployment serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    Eventual,
    Accurate,
    BestEffort,
}

impl Namespace {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Accurate => "accurate",
            Self::BestEffort => "best-effort",
        }
    }
}

/// Running servers; they end when it is dropped.
pub struct Deployment {
    /// What it is called in the results.
    pub name: &'static str,
    /// The processes of ours.
    pub servers: Vec<Server>,
    /// The stores behind them, which work for them and for others.
    pub stores: Vec<Process>,
    /// Where the counter API is served.
    pub api: SocketAddr,
    /// How long they may rest though they are not done.
    pub rest: Duration,
}

impl Deployment {
    /// The client that applications use, on a new connection.
    pub fn client(&self) -> Result<Client> {
        Client::connect(format!("http://{}", self.api)).context("no client can be made")
    }

    /// All that works when it is asked something.
    pub fn processes(&self) -> Vec<Process> {
        self.servers.iter().map(Server::process).chain(self.stores.iter().cloned()).collect()
    }

    /// Waits until what was asked of it is done, chores included; not for ever.
    pub async fn until_idle(&self) -> Result<()> {
        try_join_all(self.processes().iter().map(|process| process.until_idle(self.rest))).await?;
        Ok(())
    }

    /// Memory of our processes that is resident.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.servers.iter().map(|server| server.process().resident_bytes()).sum()
    }
}
