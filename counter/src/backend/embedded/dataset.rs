//! A dataset's handle, and what its readers and the committer share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fjall::Keyspace;
use tokio::sync::oneshot;

use super::database::Inner;
use super::error::closed;
use super::keys::DatasetId;
use super::queue::{Refused, Request};
use crate::model::{SliceRecord, Timestamp};
use crate::store::{Error, Result};

/// A slice and its events' table, which is made with the first event.
pub(super) struct Slice {
    pub record: SliceRecord,
    pub events: Option<Keyspace>,
}

/// What is known of a dataset's slices. The committer writes it, after the change is synced.
pub(super) struct DatasetState {
    pub id: DatasetId,
    /// `None` when the database is closed.
    slices: RwLock<Option<BTreeMap<Timestamp, Slice>>>,
}

impl DatasetState {
    #[cfg(test)]
    pub fn empty(id: DatasetId) -> Self {
        Self::new(id, BTreeMap::new())
    }

    pub fn new(id: DatasetId, slices: BTreeMap<Timestamp, Slice>) -> Self {
        Self { id, slices: RwLock::new(Some(slices)) }
    }

    /// A panic of another holder left the map whole, so its poison is ignored.
    pub fn slices(&self) -> RwLockReadGuard<'_, Option<BTreeMap<Timestamp, Slice>>> {
        self.slices.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Self::slices`], to change them. The committer's.
    pub fn slices_mut(&self) -> RwLockWriteGuard<'_, Option<BTreeMap<Timestamp, Slice>>> {
        self.slices.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One dataset of a [`Database`](super::Database) in one region: an event store and a rollup store. The database stays open
/// as long as there is a handle.
#[derive(Clone)]
pub struct Dataset {
    pub(super) state: Arc<DatasetState>,
    pub(super) database: Arc<Inner>,
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset").field("id", &self.state.id).field("database", &self.database).finish()
    }
}

impl Dataset {
    /// Asks the committer and waits for its answer.
    pub(super) async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        self.database.ask(request).await
    }
}

/// The answer to a request that was not taken.
pub(super) fn of_refusal(refused: Refused) -> Error {
    match refused {
        Refused::Full => Error::Overloaded,
        Refused::Closed => closed(),
    }
}

/// The answer to a request that was taken and never answered: the committer ended.
pub(super) fn unanswered() -> Error {
    Error::Timeout { reason: "the database closed before it answered".to_owned() }
}
