//! Sweeps: what was written and not rolled up, found in the rollup table, whatever became of its rollup event.

use crate::model::CounterKey;
use crate::store::{self, Cursor, RollupRow, RollupStore, Share};

/// Rows read at a time.
const PAGE_ROWS: usize = 1_000;

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
    /// When the page cannot be read; asking again tries it again.
    pub async fn next(&mut self) -> store::Result<Option<Vec<(CounterKey, RollupRow)>>> {
        if self.ended {
            return Ok(None);
        }
        let page = self.rollups.list(self.share, self.from.clone(), PAGE_ROWS).await?;
        self.report.rows += page.rows.len() as u64;
        let unrolled: Vec<_> = page.rows.into_iter().filter(|(_, row)| row.is_unrolled()).collect();
        self.report.unrolled += unrolled.len() as u64;
        self.ended = page.next.is_none();
        self.from = page.next;
        Ok(Some(unrolled))
    }
}
