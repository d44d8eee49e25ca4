//! What this process knows to be durable in rollup rows, so that a hot counter's row is written once a second and not once
//! an event.

use quick_cache::sync::Cache;

use crate::model::{CounterName, Timestamp};
use crate::store::Touch;

/// Counters remembered per namespace. One that is forgotten costs a write.
const COUNTERS_MAX: u64 = 100_000;
/// What the cache is made for at first; it grows.
const COUNTERS_AT_FIRST: usize = 256;
/// `last_write_ts` is rounded up to a multiple of this, and so good for all events up to then.
const LAST_WRITE_STEP: std::time::Duration = std::time::Duration::from_secs(1);

/// The bounds of a counter that this process has made durable.
#[derive(Debug, Clone, Copy)]
struct Durable {
    first_write_ts: Timestamp,
    last_write_ts: Timestamp,
}

/// Durable bounds by counter.
pub(super) struct TouchMemory {
    durable: Cache<CounterName, Durable>,
}

impl Default for TouchMemory {
    fn default() -> Self {
        Self { durable: Cache::with_weighter(COUNTERS_AT_FIRST, COUNTERS_MAX, quick_cache::UnitWeighter) }
    }
}

impl TouchMemory {
    /// What has to be durable in the counter's row before an event at `event_time` is acknowledged; `None` when it is
    /// already. No event that this process accepts from now on is older than `oldest_acceptable`: a mark that low is good for
    /// all of them. Each touch says both: should the row have been deleted meanwhile, with its namespace, what is remembered
    /// here misleads for no longer than `last_write_ts` reaches ahead.
    pub fn needed(&self, counter: &CounterName, event_time: Timestamp, oldest_acceptable: Timestamp) -> Option<Touch> {
        let durable = self.durable.get(counter);
        let known =
            durable.is_some_and(|known| known.first_write_ts <= event_time && event_time <= known.last_write_ts);
        if known {
            return None;
        }
        Some(Touch {
            last_write_ts: Some(event_time.rounded_up(LAST_WRITE_STEP)),
            first_write_ts: Some(event_time.min(oldest_acceptable)),
        })
    }

    /// The touch is durable.
    pub fn learn(&self, counter: &CounterName, touch: Touch) {
        let known = self.durable.get(counter);
        let first = known.map_or(Timestamp::MAX, |durable| durable.first_write_ts);
        let last = known.map_or(Timestamp::MIN, |durable| durable.last_write_ts);
        let durable = Durable {
            first_write_ts: touch.first_write_ts.unwrap_or(first).min(first),
            last_write_ts: touch.last_write_ts.unwrap_or(last).max(last),
        };
        self.durable.insert(counter.clone(), durable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn a_touch_covers_what_it_says_and_nothing_else() {
        let memory = TouchMemory::default();
        let counter = CounterName::new("c").unwrap();
        let touch = memory.needed(&counter, at(5_300_000), at(4_000_000)).unwrap();
        assert_eq!(touch, Touch { last_write_ts: Some(at(6_000_000)), first_write_ts: Some(at(4_000_000)) });
        assert!(memory.needed(&counter, at(5_300_000), at(4_000_000)).is_some(), "not durable yet");
        memory.learn(&counter, touch);
        assert_eq!(memory.needed(&counter, at(6_000_000), at(4_000_000)), None);
        assert_eq!(memory.needed(&counter, at(4_000_000), at(4_000_000)), None);
        let later = memory.needed(&counter, at(6_000_001), at(4_000_000)).unwrap();
        assert_eq!(later, Touch { last_write_ts: Some(at(7_000_000)), first_write_ts: Some(at(4_000_000)) });
        let earlier = memory.needed(&counter, at(3_999_999), at(3_999_990)).unwrap();
        assert_eq!(earlier, Touch { last_write_ts: Some(at(4_000_000)), first_write_ts: Some(at(3_999_990)) });
    }
}
