//! Which slices are missing. Pure.

use std::time::Duration;

use super::{AHEAD, AHEAD_SLICES_MAX};
use crate::configuration::TimePartition;
use crate::model::{InvalidSlice, SliceRecord, Timestamp};

/// The records to create so that slices reach [`AHEAD`] of `now`, following on from `end`, the end of the last one.
pub(super) fn missing(
    end: Option<Timestamp>,
    now: Timestamp,
    partition: TimePartition,
) -> Result<Vec<SliceRecord>, InvalidSlice> {
    let width = partition.slice_width.max(Duration::from_secs(1));
    let mut start = end.unwrap_or_else(|| now.minus(partition.settings.accept_limit).rounded_down(width));
    let mut records = Vec::new();
    while start < now.plus(AHEAD) && records.len() < slices_max(width) {
        // Where nobody created slices for a while, one slice spans the time that is gone: nothing was written in it.
        let aligned = if start < now { now.rounded_down(width) } else { start.rounded_down(width) };
        let next = aligned.max(start.rounded_down(width)).plus(width);
        records.push(SliceRecord::new(start, next, partition.settings)?);
        start = next;
    }
    // Those that lie ahead already count.
    let ahead =
        |record: &SliceRecord| record.start < now.plus(width * u32::try_from(AHEAD_SLICES_MAX).unwrap_or(u32::MAX));
    Ok(records.into_iter().filter(ahead).collect())
}

fn slices_max(width: Duration) -> usize {
    let whole = AHEAD.as_secs() / width.as_secs().max(1) + 2;
    usize::try_from(whole).unwrap_or(AHEAD_SLICES_MAX).min(AHEAD_SLICES_MAX)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{SliceSettings, Slices};

    fn partition(width_s: u64) -> TimePartition {
        let settings = SliceSettings {
            buckets_per_id: NonZeroU16::MIN,
            bucket_width: Duration::from_secs(1),
            accept_limit: Duration::from_secs(5),
            write_timeout: Duration::from_secs(2),
            max_clock_skew: Duration::from_secs(1),
        };
        TimePartition { settings, slice_width: Duration::from_secs(width_s) }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(seconds))
    }

    proptest! {
        #[test]
        fn slices_are_contiguous_and_cover_now_and_what_lies_ahead(now in 1_000_000_u64..2_000_000, width in 1_u64..200_000, changed_width in 1_u64..200_000, later in 0_u64..1_000_000) {
            let mut records = missing(None, at(now), partition(width)).unwrap();
            let slices = Slices::new(records.clone());
            prop_assert_eq!(slices.records().len(), records.len());
            prop_assert!(slices.accepting(at(now - 5)).is_some());
            let reach = at(now).plus(AHEAD.min(Duration::from_secs(width) * 90));
            prop_assert!(slices.end().unwrap() >= reach.minus(Duration::from_secs(width)));
            prop_assert!(records.len() <= AHEAD_SLICES_MAX);
            // Nothing more is missing now, and later the new width follows on.
            prop_assert!(missing(slices.end(), at(now), partition(width)).unwrap().len() <= 1);
            records.extend(missing(slices.end(), at(now + later), partition(changed_width)).unwrap());
            let slices = Slices::new(records.clone());
            prop_assert_eq!(slices.records().len(), records.len());
            prop_assert!(slices.accepting(at(now + later)).is_some());
        }
    }

    #[test]
    fn a_day_wide_slice_starts_at_midnight_and_reaches_three_days_ahead() {
        let noon = at(20_000 * 86_400 + 43_200);
        let records = missing(None, noon, partition(86_400)).unwrap();
        assert_eq!(records[0].start, at(20_000 * 86_400));
        assert_eq!(records.last().unwrap().end, at(20_004 * 86_400));
    }

    #[test]
    fn one_slice_spans_the_time_in_which_nobody_created_any() {
        let records = missing(Some(at(1_000)), at(1_000_500), partition(1_000)).unwrap();
        assert_eq!((records[0].start, records[0].end), (at(1_000), at(1_001_000)));
        assert_eq!(records[1].start, at(1_001_000));
    }
}
