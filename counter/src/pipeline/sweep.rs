//! Sweeps: what was written and not rolled up, found in the rollup table, whatever became of its rollup event.

use std::time::Duration;

use crate::model::CounterKey;
use crate::store::{self, Cursor, RollupRow, RollupStore, RowPage, Share};

/// Rows read at a time.
const PAGE_ROWS: usize = 1_000;
/// How often a page is asked for: a table of many pages would never be read whole if each failure began it anew.
const PAGE_ATTEMPTS: u32 = 5;
/// The wait before a page is asked for again; it doubles.
const PAGE_WAIT_FIRST: Duration = Duration::from_millis(200);

/// What a sweep saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Rows read.
    pub rows: u64,
    /// Counters that may have acknowledged events not yet rolled up.
    pub unrolled: u64,
    /// Those among them whose last write could have been rolled up by now.
    pub overdue: u64,
}

/// A reading of a share of a dataset's rollup rows, page by page.
pub struct Sweep<'a> {
    rollups: &'a dyn RollupStore,
    share: Share,
    from: Option<Cursor>,
    ended: bool,
    /// What it has seen so far.
    pub report: SweepReport,
}

impl<'a> Sweep<'a> {
    /// A sweep that has read nothing yet.
    #[must_use]
    pub fn new(rollups: &'a dyn RollupStore, share: Share) -> Self {
        Self { rollups, share, from: None, ended: false, report: SweepReport::default() }
    }

    /// The counters of the next page that may have acknowledged events not yet rolled up, with their rows; `None` after the
    /// last page.
    ///
    /// # Errors
    /// When the page cannot be read, though it was tried several times.
    pub async fn next(&mut self) -> store::Result<Option<Vec<(CounterKey, RollupRow)>>> {
        if self.ended {
            return Ok(None);
        }
        let page = self.page().await?;
        self.report.rows += page.rows.len() as u64;
        let unrolled: Vec<_> = page.rows.into_iter().filter(|(_, row)| row.is_unrolled()).collect();
        self.report.unrolled += unrolled.len() as u64;
        self.ended = page.next.is_none();
        self.from = page.next;
        Ok(Some(unrolled))
    }

    async fn page(&self) -> store::Result<RowPage> {
        let mut wait = PAGE_WAIT_FIRST;
        for _ in 1..PAGE_ATTEMPTS {
            match self.rollups.list(self.share, self.from.clone(), PAGE_ROWS).await {
                Err(error) if error.is_retryable() => tokio::time::sleep(wait).await,
                page => return page,
            }
            wait *= 2;
        }
        self.rollups.list(self.share, self.from.clone(), PAGE_ROWS).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::model::{Checkpoint, CounterName, NamespaceName, Timestamp};
    use crate::store::{Error, Result, Touch};

    /// Pages of one row each. Of every page the first attempts fail.
    struct Failing {
        rows: u8,
        failures_of_a_page: u32,
        asked: AtomicU32,
    }

    #[async_trait]
    impl RollupStore for Failing {
        async fn touch(&self, _: &CounterKey, _: Touch) -> Result<()> {
            unreachable!("a sweep writes nothing")
        }

        async fn read(&self, _: &CounterKey) -> Result<Option<RollupRow>> {
            unreachable!("a sweep lists")
        }

        async fn write_checkpoint(&self, _: &CounterKey, _: Checkpoint) -> Result<()> {
            unreachable!("a sweep writes nothing")
        }

        async fn list(&self, _: Share, from: Option<Cursor>, _: usize) -> Result<RowPage> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            if asked % (self.failures_of_a_page + 1) < self.failures_of_a_page {
                return Err(Error::Timeout { reason: "a node is slow".to_owned() });
            }
            let nth = from.map_or(0, |cursor| cursor.0[0]);
            let counter = CounterKey {
                namespace: NamespaceName::new("n").unwrap(),
                name: CounterName::new(&nth.to_string()).unwrap(),
            };
            let written = Timestamp::from_micros(1);
            let row = RollupRow { checkpoint: None, last_write_ts: Some(written), first_write_ts: Some(written) };
            let next = (nth + 1 < self.rows).then(|| Cursor(vec![nth + 1]));
            Ok(RowPage { rows: vec![(counter, row)], next })
        }
    }

    async fn names(store: &Failing) -> Result<Vec<String>> {
        let mut sweep = Sweep::new(store, Share::ALL);
        let mut names = Vec::new();
        while let Some(unrolled) = sweep.next().await? {
            names.extend(unrolled.into_iter().map(|(counter, _)| counter.name.as_str().to_owned()));
        }
        Ok(names)
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_fails_is_asked_for_again_and_no_other_one_is() {
        let store = Failing { rows: 3, failures_of_a_page: 2, asked: AtomicU32::new(0) };
        assert_eq!(names(&store).await.unwrap(), ["0", "1", "2"]);
        assert_eq!(store.asked.load(Ordering::Relaxed), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_fails_for_good_ends_the_sweep() {
        let store = Failing { rows: 3, failures_of_a_page: PAGE_ATTEMPTS, asked: AtomicU32::new(0) };
        assert!(names(&store).await.is_err());
        assert_eq!(store.asked.load(Ordering::Relaxed), PAGE_ATTEMPTS);
    }
}
