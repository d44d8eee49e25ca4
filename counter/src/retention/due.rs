//! Which slices are to be closed and dropped. Pure.

use crate::configuration::Retention;
use crate::model::{SliceRecord, SliceState, Slices, Timestamp};

/// Whether an open slice may be closed, once every counter written in it is rolled up past its end.
pub(super) fn may_close(slice: &SliceRecord, now: Timestamp, boundary: Timestamp, retention: Retention) -> bool {
    slice.end.plus(retention.close_after) <= now && slice.end <= boundary
}

/// Whether a closed slice may be dropped.
pub(super) fn may_drop(slice: &SliceRecord, now: Timestamp, retention: Retention) -> bool {
    slice.end.plus(retention.delete_after) <= now
}

/// What [`close_and_drop`](super::close_and_drop) will do now if every counter can be rolled up: each slice with its new state,
/// in order.
#[must_use]
pub fn due(slices: &Slices, now: Timestamp, retention: Retention) -> Vec<(SliceRecord, SliceState)> {
    let boundary = slices.boundary(now);
    let mut due = Vec::new();
    for slice in slices.records() {
        let mut state = slice.state;
        if state == SliceState::Open {
            if !may_close(slice, now, boundary, retention) {
                break;
            }
            due.push((slice.clone(), SliceState::Closed));
            state = SliceState::Closed;
        }
        if state == SliceState::Closed && may_drop(slice, now, retention) {
            due.push((slice.clone(), SliceState::Dropped));
        }
    }
    due
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::time::Duration;

    use super::*;
    use crate::model::SliceSettings;

    #[test]
    fn slices_close_in_order_behind_the_boundary_and_are_dropped_once_closed() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let settings = SliceSettings {
            buckets_per_id: NonZeroU16::MIN,
            bucket_width: Duration::from_secs(1),
            accept_limit: Duration::from_secs(5),
            write_timeout: Duration::from_secs(2),
            max_clock_skew: Duration::from_secs(1),
        };
        let retention = Retention { close_after: Duration::from_secs(60), delete_after: Duration::from_secs(120) };
        let mut records: Vec<_> =
            (0..4).map(|nth| SliceRecord::new(at(nth * 100), at(nth * 100 + 100), settings).unwrap()).collect();
        records[0].state = SliceState::Dropped;
        records[1].state = SliceState::Closed;
        let due_at = |now| {
            let due = due(&Slices::new(records.clone()), at(now), retention);
            due.into_iter().map(|(slice, state)| (slice.start.as_micros() / 1_000_000, state)).collect::<Vec<_>>()
        };
        assert_eq!(due_at(319), []);
        assert_eq!(due_at(320), [(100, SliceState::Dropped)]);
        assert_eq!(due_at(360), [(100, SliceState::Dropped), (200, SliceState::Closed)]);
        let all = [(100, SliceState::Dropped), (200, SliceState::Closed), (200, SliceState::Dropped)];
        assert_eq!(due_at(420), all);
        assert_eq!(due_at(460), [&all[..], &[(300, SliceState::Closed)]].concat(), "the last one, too");
    }
}
