//! The rollup store of a dataset in memory.

use std::ops::Bound;

use async_trait::async_trait;

use super::Dataset;
use crate::model::{Checkpoint, CounterKey, CounterName, NamespaceName};
use crate::store::{Cursor, Error, Result, RollupRow, RollupStore, RowPage, Share, Touch};

#[async_trait]
impl RollupStore for Dataset {
    async fn touch(&self, counter: &CounterKey, touch: Touch) -> Result<()> {
        let mut state = self.lock();
        let row = state.rows.entry(counter.clone()).or_default();
        row.last_write_ts = row.last_write_ts.max(touch.last_write_ts);
        row.first_write_ts = match (row.first_write_ts, touch.first_write_ts) {
            (Some(stored), Some(offered)) => Some(stored.min(offered)),
            (stored, offered) => stored.or(offered),
        };
        Ok(())
    }

    async fn read(&self, counter: &CounterKey) -> Result<Option<RollupRow>> {
        Ok(self.lock().rows.get(counter).copied())
    }

    async fn write_checkpoint(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        let mut state = self.lock();
        let row = state.rows.entry(counter.clone()).or_default();
        row.checkpoint = row.checkpoint.max(Some(checkpoint));
        state.boundary = state.boundary.max(Some(checkpoint.last_rollup_ts));
        Ok(())
    }

    async fn list(&self, share: Share, from: Option<Cursor>, limit: usize) -> Result<RowPage> {
        let after = from.as_ref().map(counter_of).transpose()?;
        let state = self.lock();
        let range = (after.as_ref().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut rows = state.rows.range::<CounterKey, _>(range).filter(|(counter, _)| is_in(share, counter));
        let page: Vec<(CounterKey, RollupRow)> =
            rows.by_ref().take(limit.max(1)).map(|(counter, row)| (counter.clone(), *row)).collect();
        let next = rows.next().and_then(|_| page.last()).map(|(counter, _)| cursor_at(counter));
        Ok(RowPage { rows: page, next })
    }
}

fn is_in(share: Share, counter: &CounterKey) -> bool {
    let hash = xxhash_rust::xxh3::xxh3_64(cursor_at(counter).0.as_slice());
    hash % u64::from(share.count.max(1)) == u64::from(share.index)
}

/// Namespaces hold no `/`, so the first one ends them.
fn cursor_at(counter: &CounterKey) -> Cursor {
    Cursor(counter.to_string().into_bytes())
}

fn counter_of(cursor: &Cursor) -> Result<CounterKey> {
    let foreign = || Error::Corrupt { reason: "a cursor that this store did not make".to_owned() };
    let text = std::str::from_utf8(&cursor.0).map_err(|_| foreign())?;
    let (namespace, name) = text.split_once('/').ok_or_else(foreign)?;
    Ok(CounterKey {
        namespace: NamespaceName::new(namespace).map_err(|_| foreign())?,
        name: CounterName::new(name).map_err(|_| foreign())?,
    })
}
