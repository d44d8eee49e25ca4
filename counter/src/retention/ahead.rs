//! Which slices are missing. Pure.

use std::time::Duration;

use super::Ahead;
use crate::configuration::TimePartition;
use crate::model::{InvalidSlice, SliceRecord, Timestamp};

/// The records to create so that slices reach `ahead` of `now`, following on from `end`, the end of the last one. The first
/// one starts at the epoch, whoever creates it: see [`Slices::new`](crate::model::Slices::new).
///
/// # Errors
/// When the settings make no slice.
pub fn missing(
    end: Option<Timestamp>,
    now: Timestamp,
    partition: TimePartition,
    ahead: Ahead,
) -> Result<Vec<SliceRecord>, InvalidSlice> {
    let width = partition.slice_width.max(Duration::from_secs(1));
    let widths = u32::try_from(ahead.slices_max).unwrap_or(u32::MAX);
    let reach = now.plus(ahead.span.min(width.saturating_mul(widths)));
    let mut start = end.unwrap_or(Timestamp::EPOCH);
    let mut records = Vec::new();
    while start < reach {
        // Where nobody created slices for a while, one slice spans the time that is gone: nothing was written in it.
        let next = start.max(now).rounded_down(width).plus(width);
        records.push(SliceRecord::new(start, next, partition.settings)?);
        start = next;
    }
    Ok(records)
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
            let mut records = missing(None, at(now), partition(width), Ahead::USUAL).unwrap();
            let slices = Slices::new(records.clone());
            prop_assert_eq!(slices.records().len(), records.len());
            prop_assert!(slices.accepting(at(now - 5)).is_some());
            prop_assert!(slices.end().unwrap() >= at(now).plus(Ahead::USUAL.span.min(Duration::from_secs(width) * 100)));
            prop_assert!(records.len() <= Ahead::USUAL.slices_max + 1);
            // Nothing more is missing now, and later the new width follows on.
            prop_assert_eq!(missing(slices.end(), at(now), partition(width), Ahead::USUAL).unwrap(), []);
            records.extend(missing(slices.end(), at(now + later), partition(changed_width), Ahead::USUAL).unwrap());
            let slices = Slices::new(records.clone());
            prop_assert_eq!(slices.records().len(), records.len());
            prop_assert!(slices.accepting(at(now + later)).is_some());
        }
    }

    #[test]
    fn the_first_slice_starts_at_the_epoch_and_days_reach_three_days_ahead() {
        let noon = at(20_000 * 86_400 + 43_200);
        let records = missing(None, noon, partition(86_400), Ahead::USUAL).unwrap();
        assert_eq!((records[0].start, records[0].end), (Timestamp::EPOCH, at(20_001 * 86_400)));
        assert_eq!(records[1].start, at(20_001 * 86_400));
        assert_eq!(records.last().unwrap().end, at(20_004 * 86_400));
    }

    #[test]
    fn one_slice_spans_the_time_in_which_nobody_created_any() {
        let records = missing(Some(at(1_000)), at(1_000_500), partition(1_000), Ahead::USUAL).unwrap();
        assert_eq!((records[0].start, records[0].end), (at(1_000), at(1_001_000)));
        assert_eq!(records[1].start, at(1_001_000));
    }
}
