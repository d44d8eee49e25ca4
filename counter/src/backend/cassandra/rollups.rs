//! The rollup store of a dataset.

use std::ops::ControlFlow;

use async_trait::async_trait;
use scylla::response::{PagingState, PagingStateResponse};

use super::dataset::Dataset;
use super::{error, ring};
use crate::model::{Checkpoint, CounterKey, CounterName, NamespaceName, Timestamp};
use crate::store::{Cursor, Error, Result, RollupRow, RollupStore, RowPage, Share, Touch};

/// The columns `checkpoint`, `last_write_ts`, `first_write_ts`.
type Cells<'a> = (Option<&'a [u8]>, Option<i64>, Option<i64>);
type ListedRow<'a> = (&'a str, &'a str, &'a str, Option<&'a [u8]>, Option<i64>, Option<i64>);

/// `None` where nothing was written.
fn row_of(
    (namespace, name): (&str, &str),
    (checkpoint, last_write_ts, first_write_ts): Cells<'_>,
) -> Result<Option<RollupRow>> {
    // One such row stops whole sweeps: who is to mend it has to know which.
    let damaged = |error| Error::Corrupt { reason: format!("the checkpoint of {namespace}/{name}: {error}") };
    let row = RollupRow {
        checkpoint: checkpoint.map(Checkpoint::decode).transpose().map_err(damaged)?,
        last_write_ts: last_write_ts.map(Timestamp::from_micros),
        first_write_ts: first_write_ts.map(Timestamp::from_micros),
    };
    Ok((row != RollupRow::default()).then_some(row))
}

fn counter_of(namespace: &str, name: &str) -> Result<CounterKey> {
    let foreign = |error| Error::Corrupt { reason: format!("a rollup row of {namespace:?}, {name:?}: {error}") };
    Ok(CounterKey {
        namespace: NamespaceName::new(namespace).map_err(foreign)?,
        name: CounterName::new(name).map_err(foreign)?,
    })
}

#[async_trait]
impl RollupStore for Dataset {
    async fn touch(&self, counter: &CounterKey, touch: Touch) -> Result<()> {
        let session = self.cluster.session()?;
        self.writer.touch(&session, counter, touch).await
    }

    async fn read(&self, counter: &CounterKey) -> Result<Option<RollupRow>> {
        let session = self.cluster.session()?;
        self.floors.be_current(&session, &self.keyspace).await?;
        let statements = self.statements.rows(&session).await?;
        let key = (counter.namespace.as_str(), counter.name.as_str(), &*self.region);
        let answer = match session.execute_unpaged(&statements.read, key).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.statements.of_row_read(&session, &error).await),
        };
        let damaged = |error: &dyn std::fmt::Display| error::damaged("a rollup row", error);
        let rows = answer.into_rows_result().map_err(|error| damaged(&error))?;
        match rows.maybe_first_row::<Cells<'_>>().map_err(|error| damaged(&error))? {
            Some(cells) => Ok(row_of((key.0, key.1), cells)?.and_then(|row| self.floors.above(key.0, row))),
            None => Ok(None),
        }
    }

    async fn write_checkpoint(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        let session = self.cluster.session()?;
        self.writer.checkpoint(&session, counter, checkpoint).await
    }

    /// A share is a stretch of the ring, read in the ring's order. The cursor is Cassandra's own paging state: it says where
    /// within the stretch the page ended to the row, also where two partitions share a token, it needs no row read twice, and
    /// it holds for any coordinator and any later session.
    async fn list(&self, share: Share, from: Option<Cursor>, limit: usize) -> Result<RowPage> {
        let session = self.cluster.session()?;
        self.floors.be_current(&session, &self.keyspace).await?;
        let mut statement = self.statements.rows(&session).await?.list.clone();
        statement.set_page_size(i32::try_from(limit.max(1)).unwrap_or(i32::MAX));
        let state = from.map_or_else(PagingState::start, |cursor| PagingState::new_from_raw_bytes(cursor.0));
        let stretch = ring::stretch(share);
        let page = session.execute_single_page(&statement, (stretch.after, stretch.through), state).await;
        let (answer, next) = match page {
            Ok(page) => page,
            Err(error) => return Err(self.statements.of_row_read(&session, &error).await),
        };
        let damaged = |error: &dyn std::fmt::Display| error::damaged("a page of rollup rows", error);
        let listed = answer.into_rows_result().map_err(|error| damaged(&error))?;
        let mut rows = Vec::with_capacity(listed.rows_num());
        for row in listed.rows::<ListedRow<'_>>().map_err(|error| damaged(&error))? {
            let (namespace, name, region, checkpoint, last_write_ts, first_write_ts) =
                row.map_err(|error| damaged(&error))?;
            if region != &*self.region {
                continue;
            }
            let row = row_of((namespace, name), (checkpoint, last_write_ts, first_write_ts))?;
            if let Some(row) = row.and_then(|row| self.floors.above(namespace, row)) {
                rows.push((counter_of(namespace, name)?, row));
            }
        }
        Ok(RowPage { rows, next: cursor_of(next) })
    }

    fn removed_until(&self, namespace: &NamespaceName) -> Option<Timestamp> {
        self.floors.removed_until(namespace)
    }
}

fn cursor_of(next: PagingStateResponse) -> Option<Cursor> {
    match next.into_paging_control_flow() {
        ControlFlow::Continue(state) => state.as_bytes_slice().map(|bytes| Cursor(bytes.to_vec())),
        ControlFlow::Break(()) => None,
    }
}
