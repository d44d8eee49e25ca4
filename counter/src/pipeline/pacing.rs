//! Adaptive back-pressure: how long a consumer waits between two batches.
//!
//! While batches take about as long as they use to, the next one starts at once. A batch that was slower says that the store
//! is busy; the consumer then waits for as long as the batch was slow, so that it asks for at most half of the store's time.

use std::time::Duration;

/// The longest wait between two batches.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Slower than usual by less than this is noise.
const TOLERANCE: u32 = 2;
/// A slower batch weighs one in this many against what is usual, so that a stall does not become usual at once…
const SLOWER_WEIGHT: u32 = 32;
/// …and a faster one so much.
const FASTER_WEIGHT: u32 = 4;

/// What one consumer knows of its store's pace.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// The time per unit of work that is usual; none before the first batch.
    usual: Option<Duration>,
}

impl Pacing {
    /// How long to wait after a batch that took `took` for so many units of work (requests made of the store).
    pub fn wait_after(&mut self, work: u64, took: Duration) -> Duration {
        let per_unit = took / u32::try_from(work.max(1)).unwrap_or(u32::MAX);
        let usual = *self.usual.get_or_insert(per_unit);
        self.usual = Some(if per_unit < usual {
            usual - (usual - per_unit) / FASTER_WEIGHT
        } else {
            // So that a store that stays slower, having got more to do, becomes the usual.
            usual + (per_unit - usual) / SLOWER_WEIGHT
        });
        if per_unit > usual * TOLERANCE { took.min(WAIT_MAX) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_even_pace_never_waits_and_a_slow_batch_waits_as_long_as_it_took() {
        let mut pacing = Pacing::default();
        for _ in 0..10 {
            assert_eq!(pacing.wait_after(10, 10 * MS), Duration::ZERO);
        }
        assert_eq!(pacing.wait_after(10, 100 * MS), 100 * MS);
        assert_eq!(pacing.wait_after(10, 10 * MS), Duration::ZERO, "and not longer");
        assert_eq!(pacing.wait_after(100, 100 * MS), Duration::ZERO, "a large batch is not a slow one");
        assert_eq!(pacing.wait_after(1, Duration::from_secs(60)), WAIT_MAX);
    }

    #[test]
    fn a_store_that_stays_slower_becomes_the_usual() {
        let mut pacing = Pacing::default();
        pacing.wait_after(1, MS);
        let waits = (0..200).take_while(|_| pacing.wait_after(1, 4 * MS) > Duration::ZERO).count();
        assert!((5..100).contains(&waits), "{waits}");
    }
}
