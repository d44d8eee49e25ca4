//! Guests: counters that a server works on though another owns them, because their owner could not be reached, or because they
//! were this server's until its configuration changed.
//!
//! A guest stays until every event that was acknowledged when it was last seen here is in a checkpoint, whoever wrote that;
//! then it is left to its owner. So nothing is forgotten between two servers, and a counter that is written all the time does
//! not keep two of them busy for ever.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::FixedState;
use xxhash_rust::xxh3::xxh3_64;

use crate::configuration::Cardinality;
use crate::dataset::Dataset;
use crate::model::{CounterName, Slices, Timestamp};
use crate::store::RollupRow;

/// Guests remembered at once. One that is not stays a little longer than it would.
const GUESTS_MAX: usize = 65_536;

/// The guests of one namespace.
#[derive(Debug, Default)]
pub(super) struct Guests {
    /// By hash of the name: the time that a checkpoint must have reached. Two of one hash are let go of together, at worst
    /// early; a sweep finds what that leaves.
    until: Mutex<HashMap<u64, Timestamp, FixedState>>,
}

impl Guests {
    /// A guest was touched: it stays until `until` is rolled up.
    pub fn touched(&self, name: &CounterName, until: Timestamp) {
        let mut guests = self.guests();
        let full = guests.len() >= GUESTS_MAX;
        match guests.get_mut(&hash(name)) {
            Some(known) => *known = until.max(*known),
            None if full => {}
            None => drop(guests.insert(hash(name), until)),
        }
    }

    /// Until when a guest stays: `or_until` where that is not known yet.
    pub fn stays_until(&self, name: &CounterName, or_until: Timestamp) -> Timestamp {
        let mut guests = self.guests();
        let full = guests.len() >= GUESTS_MAX;
        match guests.get(&hash(name)) {
            Some(known) => *known,
            None => {
                if !full {
                    guests.insert(hash(name), or_until);
                }
                or_until
            }
        }
    }

    /// A guest has left.
    pub fn left(&self, name: &CounterName) {
        self.guests().remove(&hash(name));
    }

    fn known(&self, name: &CounterName) -> Option<Timestamp> {
        self.guests().get(&hash(name)).copied()
    }

    /// Whether there is nothing to do for a guest with this row: others have done it. `recent` is a time so late that a
    /// checkpoint past it shows that somebody keeps the counter rolled up.
    pub fn is_served(
        &self,
        name: &CounterName,
        row: Option<&RollupRow>,
        cardinality: Cardinality,
        recent: Timestamp,
    ) -> bool {
        let Some(row) = row else { return true };
        let rolled_up = row.checkpoint.map(|checkpoint| checkpoint.last_rollup_ts);
        if row.is_unrolled() {
            self.known(name).zip(rolled_up).is_some_and(|(until, rolled_up)| rolled_up >= until)
        } else {
            // The checkpoints of a low-cardinality namespace keep up with now.
            cardinality == Cardinality::High || rolled_up.is_some_and(|rolled_up| rolled_up >= recent)
        }
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<u64, Timestamp, FixedState>> {
        // Nothing panics while it is held half changed.
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(name: &CounterName) -> u64 {
    xxh3_64(name.as_str().as_bytes())
}

/// No event that is acknowledged by now has a later event time.
pub(super) fn acknowledged_until(dataset: &Dataset) -> Timestamp {
    dataset.clock.clock().now().plus(lag_max(&dataset.slices()))
}

/// The longest that the boundary lies behind now, which is longer than any accept limit.
pub(super) fn lag_max(slices: &Slices) -> Duration {
    slices.records().iter().map(|record| record.settings.lag()).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Checkpoint;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn row(last_write: i64, rolled_up: Option<i64>) -> RollupRow {
        let checkpoint = rolled_up.map(|seconds| Checkpoint { last_rollup_ts: at(seconds), last_rollup_count: 1 });
        RollupRow { checkpoint, last_write_ts: Some(at(last_write)), first_write_ts: Some(at(0)) }
    }

    #[test]
    fn a_guest_is_served_once_what_it_came_with_is_rolled_up_though_it_is_written_on() {
        let (guests, name) = (Guests::default(), CounterName::new("a").unwrap());
        let served = |last_write, rolled_up| {
            guests.is_served(&name, Some(&row(last_write, rolled_up)), Cardinality::High, at(1_000))
        };
        assert!(!served(5, None) && !served(5, Some(4)), "not seen before: it is to be rolled up");
        guests.touched(&name, at(10));
        assert!(!served(50, Some(9)));
        assert!(served(50, Some(10)));
        guests.touched(&name, at(20));
        guests.touched(&name, at(15));
        assert!(!served(50, Some(19)));
        assert_eq!(guests.stays_until(&name, at(99)), at(20));
        guests.left(&name);
        assert_eq!(guests.stays_until(&name, at(99)), at(99));
        assert_eq!(guests.stays_until(&name, at(199)), at(99));
    }

    #[test]
    fn a_guest_with_nothing_to_roll_up_is_served_and_in_a_low_cardinality_namespace_if_somebody_keeps_it_up() {
        let (guests, name) = (Guests::default(), CounterName::new("a").unwrap());
        let served = |row: Option<RollupRow>, cardinality| guests.is_served(&name, row.as_ref(), cardinality, at(100));
        assert!(served(None, Cardinality::Low) && served(None, Cardinality::High));
        assert!(served(Some(row(5, Some(6))), Cardinality::High));
        assert!(!served(Some(row(5, Some(6))), Cardinality::Low));
        assert!(served(Some(row(5, Some(100))), Cardinality::Low));
    }

    #[test]
    fn guests_beyond_what_is_remembered_stay_as_if_they_had_just_come() {
        let guests = Guests::default();
        let name = |i: usize| CounterName::new(&i.to_string()).unwrap();
        for i in 0..GUESTS_MAX + 1_000 {
            guests.touched(&name(i), at(1));
        }
        assert_eq!(guests.guests().len(), GUESTS_MAX);
        assert_eq!(guests.stays_until(&name(GUESTS_MAX), at(7)), at(7));
        assert_eq!(guests.stays_until(&name(GUESTS_MAX), at(8)), at(8));
    }
}
