//! Which events are surely new, without asking the tables.
//!
//! A token is checked against what is stored before its event is taken, and nearly always it is new. The events of the last
//! moments are remembered here by the hashes of their keys, so that for nearly all events the check is one look into memory.
//!
//! The rule that makes "surely" true: **every stored or staged event later than `floor` is in one of the two generations.**
//! A hash that is in neither belongs to no such event; one that is in them may be another event's, and the tables decide.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use crate::model::Timestamp;

/// Events per generation. Two full generations take about a megabyte and hold the last two or three seconds of a busy store.
const GENERATION_SIZE: usize = 32 * 1024;

/// The hashes are spread already.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only 64-bit hashes are kept");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Default)]
struct Generation {
    hashes: HashSet<u64, BuildHasherDefault<Spread>>,
    /// The latest event time in it.
    latest: Option<Timestamp>,
}

/// The hashes of the latest events of one dataset.
pub(super) struct RecentEvents {
    floor: Timestamp,
    current: Generation,
    previous: Generation,
}

impl RecentEvents {
    /// Nothing is remembered, and nothing later than `horizon` is stored.
    pub fn after(horizon: Timestamp) -> Self {
        Self { floor: horizon, current: Generation::default(), previous: Generation::default() }
    }

    /// Whether no event with this hash is stored or staged. `false` says nothing.
    pub fn is_surely_new(&self, hash: u64, event_time: Timestamp) -> bool {
        event_time > self.floor && !self.current.hashes.contains(&hash) && !self.previous.hashes.contains(&hash)
    }

    /// An event was staged. All that are have to be remembered.
    pub fn remember(&mut self, hash: u64, event_time: Timestamp) {
        if event_time <= self.floor {
            return;
        }
        self.current.hashes.insert(hash);
        self.current.latest = self.current.latest.max(Some(event_time));
        if self.current.hashes.len() >= GENERATION_SIZE {
            let forgotten = std::mem::replace(&mut self.previous, std::mem::take(&mut self.current));
            self.floor = self.floor.max(forgotten.latest.unwrap_or(Timestamp::MIN));
            // Its memory serves again.
            self.current.hashes = forgotten.hashes;
            self.current.hashes.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn nothing_is_surely_new_up_to_the_horizon() {
        let recent = RecentEvents::after(at(100));
        assert!(!recent.is_surely_new(1, at(100)));
        assert!(recent.is_surely_new(1, at(101)));
    }

    #[test]
    fn most_events_in_rough_order_are_surely_new() {
        let mut recent = RecentEvents::after(Timestamp::MIN);
        let mut sure = 0;
        for nth in 0..200_000_i64 {
            let time = at(nth + (nth * 7919) % 100);
            let hash = xxhash_rust::xxh3::xxh3_64(&nth.to_le_bytes());
            sure += i64::from(recent.is_surely_new(hash, time));
            recent.remember(hash, time);
        }
        assert!(sure > 199_000, "{sure}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn what_was_remembered_is_never_surely_new(seed in any::<u64>(), spread in 1_i64..1_000_000) {
            let mut recent = RecentEvents::after(at(1000));
            let mut stored = HashSet::new();
            let mut state = seed;
            for nth in 0..(3 * GENERATION_SIZE as i64) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let time = at(1001 + nth + i64::try_from(state >> 33).unwrap() % spread);
                recent.remember(state, time);
                stored.insert((state, time));
            }
            for (hash, time) in stored {
                prop_assert!(!recent.is_surely_new(hash, time));
            }
        }
    }
}
