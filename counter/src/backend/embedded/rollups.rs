//! The rollup store of a dataset.

use async_trait::async_trait;

use super::dataset::Dataset;
use super::error::of_read;
use super::queue::Request;
use super::{keys, values};
use crate::model::{Checkpoint, CounterKey};
use crate::store::{Cursor, Error, Result, RollupRow, RollupStore, RowPage, Share, Touch};

#[async_trait]
impl RollupStore for Dataset {
    async fn touch(&self, counter: &CounterKey, touch: Touch) -> Result<()> {
        let key = keys::row(self.state.id, counter);
        self.ask(|reply| Request::Touch { key, touch, reply }).await
    }

    /// Reads on the caller's thread: at worst it waits for one block of a local disk.
    async fn read(&self, counter: &CounterKey) -> Result<Option<RollupRow>> {
        let rollups = self.database.shared.tables()?.rollups;
        let stored = rollups.get(keys::row(self.state.id, counter)).map_err(|error| of_read(&error))?;
        stored.map(|bytes| values::row_from(&bytes)).transpose()
    }

    async fn write_checkpoint(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        let (dataset, key) = (self.state.clone(), keys::row(self.state.id, counter));
        self.ask(|reply| Request::Checkpoint { dataset, key, checkpoint, reply }).await
    }

    /// Reads on a thread for blocking work: a sweep walks through all rows, most of them on disk.
    async fn list(&self, share: Share, from: Option<Cursor>, limit: usize) -> Result<RowPage> {
        let rollups = self.database.shared.tables()?.rollups;
        let (first, end) = keys::share(self.state.id, share);
        let read = move || {
            let lower = match from {
                // A cursor is the last key that was listed; what follows it begins one byte further.
                Some(Cursor(mut last)) => {
                    last.push(0);
                    last.max(first)
                }
                None => first,
            };
            if lower >= end {
                return Ok(RowPage::default());
            }
            let limit = limit.max(1);
            let mut rows = Vec::new();
            let mut last = None;
            for guard in rollups.range(lower..end) {
                if rows.len() == limit {
                    return Ok(RowPage { rows, next: last.map(Cursor) });
                }
                let (key, value) = guard.into_inner().map_err(|error| of_read(&error))?;
                rows.push((keys::row_counter(&key)?, values::row_from(&value)?));
                last = Some(key.to_vec());
            }
            Ok(RowPage { rows, next: None })
        };
        let listed = tokio::task::spawn_blocking(read).await;
        listed.unwrap_or_else(|error| Err(Error::Unavailable { reason: format!("the listing ended early: {error}") }))
    }
}
