//! One memcached server: its connections, and the task that probes it.

use std::sync::Arc;
use std::time::Duration;

use memcache::exp::{Get, Op, OpResult};
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::connection::{self, Call};
use super::health::Health;
use crate::clock::Clock;
use crate::store::{Error, Result};

/// Two, so that one exchange is being prepared while another is in flight.
const CONNECTIONS: usize = 2;
/// The most calls that wait for a connection: more than a process admits, so that replicas take the same adds.
const CALLS_WAITING_MAX: usize = 128 * 1024;
/// What a probe asks for, and nobody stores.
const PROBE_KEY: &str = "tallyman-probe";
/// How often a server that answers is probed.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How soon a server that does not is probed, first and at most.
const PROBE_DOWN_FIRST: Duration = Duration::from_millis(50);
const PROBE_DOWN_MAX: Duration = Duration::from_secs(1);

/// A memcached, which need not be there yet: it is looked for whenever there is something to ask.
pub(super) struct Server {
    address: Arc<str>,
    seed: u64,
    connections: [mpsc::Sender<Call>; CONNECTIONS],
    health: Arc<Health>,
}

impl Server {
    /// Spawns the server's tasks, which end when it is dropped.
    pub(super) fn new(address: &str, clock: &Arc<dyn Clock>) -> Self {
        let address: Arc<str> = address.into();
        let health = Arc::new(Health::new(clock.clone()));
        let connections = std::array::from_fn(|_| {
            let (sender, calls) = mpsc::channel(CALLS_WAITING_MAX / CONNECTIONS);
            tokio::spawn(connection::serve(address.clone(), calls, health.clone()));
            sender
        });
        tokio::spawn(keep_probing(connections[0].downgrade(), health.clone(), clock.clone()));
        Self { seed: xxh3_64(address.as_bytes()), address, connections, health }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Rendezvous hashing: of several servers, the one with the greatest weight has the key.
    pub(super) fn weight(&self, key: &str) -> u64 {
        xxh3_64_with_seed(key.as_bytes(), self.seed)
    }

    /// Sends an operation over the connection of its key: operations on one key keep their order. The reply comes by itself
    /// within the time limits of the connection.
    pub(super) fn send(&self, key: &str, operation: impl Into<Op>) -> Reply {
        let nth = usize::from(xxh3_64(key.as_bytes()) % 2 == 1);
        send(&self.connections[nth], operation.into())
    }

    /// Asks whether it answers.
    pub(super) async fn probe(&self) -> Result<()> {
        probe(&self.connections[0]).await
    }
}

/// An answer on its way, or why nothing was sent.
pub(super) enum Reply {
    Coming(oneshot::Receiver<Result<OpResult>>),
    NotSent(Error),
}

impl Reply {
    pub(super) async fn get(self) -> Result<OpResult> {
        match self {
            Self::Coming(answer) => answer.await.unwrap_or_else(|_| {
                Err(Error::Timeout { reason: "the connection's task ended before it answered".to_owned() })
            }),
            Self::NotSent(error) => Err(error),
        }
    }
}

fn send(connection: &mpsc::Sender<Call>, operation: Op) -> Reply {
    let (reply, answer) = oneshot::channel();
    match connection.try_send(Call { operation, reply }) {
        Ok(()) => Reply::Coming(answer),
        Err(mpsc::error::TrySendError::Full(_)) => Reply::NotSent(Error::Overloaded),
        Err(mpsc::error::TrySendError::Closed(_)) => {
            Reply::NotSent(Error::Unavailable { reason: "the connection's task has ended".to_owned() })
        }
    }
}

async fn probe(connection: &mpsc::Sender<Call>) -> Result<()> {
    send(connection, Get::new(PROBE_KEY).into()).get().await.map(drop)
}

/// Measures the round trip to a server, and finds out when it answers again.
async fn keep_probing(connection: mpsc::WeakSender<Call>, health: Arc<Health>, clock: Arc<dyn Clock>) {
    let mut pause = PROBE_DOWN_FIRST;
    loop {
        let Some(connection) = connection.upgrade() else { return };
        let before = clock.monotonic();
        // The connection's task tells the server's health of an answer as well as of a failure.
        if probe(&connection).await.is_ok() {
            health.measured(clock.monotonic().saturating_sub(before));
        }
        drop(connection);
        if health.is_down() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PROBE_DOWN_MAX);
        } else {
            pause = PROBE_DOWN_FIRST;
            // Returns at once where it went down; the first probe then comes after the pause.
            if tokio::time::timeout(PROBE_EVERY, health.went_down()).await.is_ok() {
                tokio::time::sleep(pause).await;
            }
        }
    }
}
