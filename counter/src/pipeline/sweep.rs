//! Sweeps: what was written and not rolled up, found in the rollup table, whatever became of its rollup event.

use crate::model::CounterKey;
use crate::store::{self, RollupStore, Share};

/// Rows read at a time.
const PAGE_ROWS: usize = 1_000;

/// What a sweep saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweepReport {
    /// Rows read.
    pub rows: u64,
    /// Counters that may have acknowledged events not yet rolled up.
    pub unrolled: u64,
}

/// Reads a share of a dataset's rollup rows and hands over the counters that may have acknowledged events not yet rolled up.
///
/// # Errors
/// When a page cannot be read; what was found until then has been handed over.
pub async fn sweep(
    rollups: &dyn RollupStore,
    share: Share,
    mut found: impl AsyncFnMut(CounterKey),
) -> store::Result<SweepReport> {
    let mut report = SweepReport::default();
    let mut from = None;
    loop {
        let page = rollups.list(share, from.take(), PAGE_ROWS).await?;
        for (counter, row) in page.rows {
            report.rows += 1;
            if row.is_unrolled() {
                report.unrolled += 1;
                found(counter).await;
            }
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(report),
        }
    }
}
