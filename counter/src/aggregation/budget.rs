//! A bound on the events that scans hold in memory, shared by all that runs in parallel.
//!
//! Each page takes permits for as many events as it asks for, and asks for as many as recent pages brought. So where windows
//! are sparse many partitions are scanned in parallel, and where they are dense, few.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The fewest events that a page asks for.
const PAGE_EVENTS_MIN: u32 = 32;
/// The most events that a page asks for.
const PAGE_EVENTS_MAX: u32 = 2_048;

/// Permits for events in memory.
pub struct ScanBudget {
    permits: Semaphore,
    /// What a page is likely to bring, from what the last ones brought.
    expected: AtomicU32,
    page_max: u32,
}

/// Leave to read one page.
pub(super) struct PagePermit<'a> {
    /// The most events that the page may bring.
    pub limit: usize,
    _permits: SemaphorePermit<'a>,
}

impl ScanBudget {
    /// A budget of `events` in memory at once; at least one small page's.
    #[must_use]
    pub fn new(events: u32) -> Self {
        let events = events.clamp(PAGE_EVENTS_MIN, u32::MAX / 8);
        Self {
            permits: Semaphore::new(events as usize),
            expected: AtomicU32::new(PAGE_EVENTS_MIN),
            page_max: PAGE_EVENTS_MAX.min(events),
        }
    }

    /// Waits until a page of about the expected size fits.
    pub(super) async fn page(&self, size: PageSize) -> PagePermit<'_> {
        // The semaphore is never closed; without a permit the page would still be bounded by its limit.
        let permits = self.permits.acquire_many(size.0).await.expect("the semaphore is never closed");
        PagePermit { limit: size.0 as usize, _permits: permits }
    }

    /// The size to start a partition with.
    pub(super) fn first_page(&self) -> PageSize {
        PageSize(self.expected.load(Ordering::Relaxed).clamp(PAGE_EVENTS_MIN, self.page_max))
    }

    /// The size of the page after one that asked for `asked` and brought `brought` events.
    pub(super) fn next_page(&self, asked: PageSize, brought: usize) -> PageSize {
        let brought = u32::try_from(brought).unwrap_or(u32::MAX);
        let next = if brought >= asked.0 { asked.0.saturating_mul(2) } else { brought };
        // A moving average over eight pages; what races it loses one sample.
        let expected = self.expected.load(Ordering::Relaxed);
        let sample = next.min(self.page_max);
        self.expected.store((expected * 7 + sample).div_ceil(8), Ordering::Relaxed);
        PageSize(next.clamp(PAGE_EVENTS_MIN, self.page_max))
    }
}

/// How many events a page asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageSize(u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_pages_grow_to_the_largest_and_empty_ones_shrink_to_the_smallest() {
        let budget = ScanBudget::new(100_000);
        let mut size = budget.first_page();
        for _ in 0..10 {
            size = budget.next_page(size, size.0 as usize);
        }
        assert_eq!(size, PageSize(PAGE_EVENTS_MAX));
        assert!(budget.first_page().0 > PAGE_EVENTS_MIN, "what one scan saw, the next starts with");
        for _ in 0..100 {
            size = budget.next_page(size, 0);
        }
        assert_eq!(size, PageSize(PAGE_EVENTS_MIN));
        assert_eq!(budget.first_page(), PageSize(PAGE_EVENTS_MIN));
    }

    #[tokio::test]
    async fn no_more_events_are_let_in_than_the_budget_holds() {
        let budget = ScanBudget::new(PAGE_EVENTS_MIN * 2);
        let first = budget.page(budget.first_page()).await;
        let second = budget.page(budget.first_page()).await;
        assert_eq!(first.limit + second.limit, budget.page_max as usize);
        let third = futures::FutureExt::now_or_never(budget.page(budget.first_page()));
        assert!(third.is_none());
        drop(first);
        assert!(futures::FutureExt::now_or_never(budget.page(budget.first_page())).is_some());
    }
}
