//! The best-effort store of one memcached.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::connection::{self, Call};
use super::encoding;
use crate::clock::Clock;
use crate::model::CounterKey;
use crate::store::{BestEffortStore, Error, Result};

/// Two, so that one exchange is being prepared while another is in flight.
const CONNECTIONS: usize = 2;
/// The most calls that wait for a connection.
const CALLS_WAITING_MAX: usize = 8 * 1024;

/// Best-effort counters in one memcached. Clones share its connections, which end with the last of them.
#[derive(Clone)]
pub struct BestEffort {
    address: Arc<str>,
    connections: [mpsc::Sender<Call>; CONNECTIONS],
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for BestEffort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BestEffort").field("address", &self.address).finish_non_exhaustive()
    }
}

impl BestEffort {
    /// The memcached at `address` (host:port), which need not be there yet: it is looked for whenever there is something to
    /// ask. Spawns its tasks on the current runtime.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn new(address: &str, clock: Arc<dyn Clock>) -> Self {
        let connections = std::array::from_fn(|_| {
            let (sender, calls) = mpsc::channel(CALLS_WAITING_MAX / CONNECTIONS);
            tokio::spawn(connection::serve(address.to_owned(), calls));
            sender
        });
        Self { address: address.into(), connections, clock }
    }

    /// Sends a call over the connection of its key: calls for one counter keep their order.
    async fn ask<T>(&self, key: String, call: impl FnOnce(String, oneshot::Sender<Result<T>>) -> Call) -> Result<T> {
        let nth = usize::from(xxhash_rust::xxh3::xxh3_64(key.as_bytes()) % 2 == 1);
        let (reply, answer) = oneshot::channel();
        self.connections[nth].try_send(call(key, reply)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => {
                Error::Unavailable { reason: "the connection's task has ended".to_owned() }
            }
        })?;
        let unanswered = || Error::Timeout { reason: "the connection's task ended before it answered".to_owned() };
        answer.await.unwrap_or_else(|_| Err(unanswered()))
    }
}

#[async_trait]
impl BestEffortStore for BestEffort {
    async fn add(&self, counter: &CounterKey, delta: i64, ttl: Duration) -> Result<i64> {
        let ttl_seconds = encoding::ttl_seconds(ttl, self.clock.now());
        self.ask(encoding::key(counter), |key, reply| Call::Add { key, delta, ttl_seconds, reply }).await
    }

    async fn get(&self, counter: &CounterKey) -> Result<Option<i64>> {
        self.ask(encoding::key(counter), |key, reply| Call::Get { key, reply }).await
    }

    async fn clear(&self, counter: &CounterKey) -> Result<()> {
        self.ask(encoding::key(counter), |key, reply| Call::Clear { key, reply }).await
    }
}
