//! How long it took until an acknowledged add was in a checkpoint. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::load::Acknowledged;
use crate::tables::checkpoints::Sight;

/// An add, and how long after its acknowledgement a checkpoint that covers it was first seen.
#[derive(Debug, Clone, Copy)]
pub struct Late<'a> {
    /// The add.
    pub add: &'a Acknowledged,
    /// How long; `None` where none was seen.
    pub by: Option<Duration>,
}

/// The add that waited longest.
pub fn worst<'a>(acknowledged: &'a [Acknowledged], sights: &[Sight]) -> Option<Late<'a>> {
    let mut by_counter: BTreeMap<&str, Vec<(i64, Instant)>> = BTreeMap::new();
    for sight in sights {
        by_counter.entry(&sight.counter).or_default().push((sight.last_rollup_ts, sight.at));
    }
    let late = acknowledged.iter().map(|add| {
        let sights = by_counter.get(add.counter.as_str()).map_or(&[][..], Vec::as_slice);
        // Checkpoints only move on.
        let covering = sights.partition_point(|(last_rollup_ts, _)| *last_rollup_ts < add.event_time);
        let by = sights.get(covering).map(|(_, seen)| seen.saturating_duration_since(add.at));
        Late { add, by }
    });
    late.max_by_key(|late| late.by.unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_worst_add_is_the_one_whose_checkpoint_came_latest_or_never() {
        let start = crate::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let add = |counter: &str, event_time, acknowledged| Acknowledged {
            counter: counter.to_owned(),
            event_time,
            at: at(acknowledged),
        };
        let sight = |counter: &str, last_rollup_ts, seen| Sight {
            counter: counter.to_owned(),
            last_rollup_ts,
            at: at(seen),
            at_wall_clock: SystemTime::UNIX_EPOCH,
        };
        let adds = [add("a", 10, 1), add("a", 20, 2), add("b", 10, 3)];
        let mut sights = vec![sight("a", 9, 1), sight("a", 10, 4), sight("b", 15, 5), sight("a", 30, 9)];
        let late = worst(&adds, &sights).unwrap();
        assert_eq!((late.add.event_time, late.by), (20, Some(Duration::from_secs(7))));
        sights.pop();
        assert_eq!(worst(&adds, &sights).unwrap().by, None, "a checkpoint at 10 covers nothing of 20");
    }
}
