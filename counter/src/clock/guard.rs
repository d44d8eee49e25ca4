//! Whether this process's clock may be trusted: measured against the store's nodes, not assumed.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::Clock;
use crate::model::Timestamp;
use crate::store::{self, EventStore, NodeClock};

/// How often the offset to the store's nodes is measured.
pub const MEASURE_EVERY: Duration = Duration::from_secs(2);
/// How old the last measurement may be. Three in a row may fail before mutations are refused.
pub const MEASUREMENT_AGE_MAX: Duration = Duration::from_secs(8);

/// Why the clock is not trusted now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// No measurement has succeeded yet.
    #[error("the clock has not been compared with the store's yet")]
    NotMeasured,
    /// The last measurement is too old to go by.
    #[error("the clock was last compared with the store's {age:?} ago (allowed: {allowed:?})", allowed = MEASUREMENT_AGE_MAX)]
    Stale {
        /// Time since the last measurement.
        age: Duration,
    },
    /// The clock was set back, and has not caught up with the times it gave before.
    #[error("the clock was set back by {by:?}")]
    SetBack {
        /// How far it lies behind the latest time given.
        by: Duration,
    },
    /// The clock may be further from a node's than half of `max_clock_skew`.
    #[error("the clock may be {offset:?} away from the store's (allowed: {allowed:?}, half of max_clock_skew)")]
    Skewed {
        /// The largest offset that the measurement leaves possible.
        offset: Duration,
        /// The largest offset allowed.
        allowed: Duration,
    },
}

/// Further back than this, a clock without another to compare with has been set back rather than corrected.
fn is_set_back(by: Duration, max_clock_skew: Duration) -> bool {
    by > max_clock_skew / 2
}

/// One comparison of this process's clock with those of the store's nodes.
#[derive(Debug, Clone, Copy)]
struct Measurement {
    wall: Timestamp,
    monotonic: Duration,
    /// The furthest that any node's clock can be from ours, the round trip's error included.
    offset_max: Duration,
}

#[derive(Debug)]
enum State {
    /// The store is inside this process: there is no second clock, and the store itself refuses what lies behind its
    /// highest boundary.
    NoOtherClock,
    Measured(Measurement),
}

/// A clock that answers only while its measured offset to the store's nodes is small enough.
pub struct ClockGuard {
    clock: Arc<dyn Clock>,
    state: ArcSwapOption<State>,
    /// The latest time given, in microseconds.
    latest: AtomicI64,
}

impl ClockGuard {
    /// A guard that trusts nothing until [`ClockGuard::measure`] succeeded.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: ArcSwapOption::empty(), latest: AtomicI64::new(i64::MIN) }
    }

    /// The clock itself, for what does not depend on its being right.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Compares the clock with those of the store's nodes.
    ///
    /// # Errors
    /// When no node answered; the last measurement stays.
    pub async fn measure(&self, events: &dyn EventStore) -> store::Result<()> {
        if events.capabilities().in_process {
            self.state.store(Some(Arc::new(State::NoOtherClock)));
            return Ok(());
        }
        let (wall, monotonic) = (self.clock.now(), self.clock.monotonic());
        let nodes = events.node_clocks().await?;
        let wall_after = wall.plus(self.clock.monotonic().saturating_sub(monotonic));
        let Some(offset_max) = offset_max(&nodes, wall, wall_after) else {
            return Err(store::Error::Unavailable { reason: "no node told its time".to_owned() });
        };
        self.state.store(Some(Arc::new(State::Measured(Measurement { wall, monotonic, offset_max }))));
        Ok(())
    }

    /// The time, if it is known to lie within half of `max_clock_skew` of every node's.
    ///
    /// # Errors
    /// When it is not. The wall clock is held against the monotonic one as well, so that a step between two measurements is
    /// noticed at once.
    pub fn now(&self, max_clock_skew: Duration) -> Result<Timestamp, Untrusted> {
        let wall = self.clock.now();
        let state = self.state.load();
        let measurement = match state.as_deref() {
            None => return Err(Untrusted::NotMeasured),
            Some(State::NoOtherClock) => return self.never_back(wall, max_clock_skew),
            Some(State::Measured(measurement)) => measurement,
        };
        let age = self.clock.monotonic().saturating_sub(measurement.monotonic);
        if age > MEASUREMENT_AGE_MAX {
            return Err(Untrusted::Stale { age });
        }
        let stepped = wall.distance(measurement.wall.plus(age));
        let (offset, allowed) = (measurement.offset_max.saturating_add(stepped), max_clock_skew / 2);
        if offset > allowed {
            return Err(Untrusted::Skewed { offset, allowed });
        }
        Ok(wall)
    }

    /// Time by a clock that no other bounds never goes back: an event that is accepted after a rollup computed its boundary
    /// has to lie after that boundary, by the clock of then, not by one that was set back meanwhile. (Across restarts the store
    /// itself refuses what lies before its highest boundary.)
    fn never_back(&self, wall: Timestamp, max_clock_skew: Duration) -> Result<Timestamp, Untrusted> {
        let latest = Timestamp::from_micros(self.latest.fetch_max(wall.as_micros(), Ordering::Relaxed));
        let by = latest.since(wall);
        if is_set_back(by, max_clock_skew) { Err(Untrusted::SetBack { by }) } else { Ok(wall.max(latest)) }
    }

    /// It is `time` or later: somebody computed a boundary from such a clock. Where there is no other clock to compare with, a
    /// clock that was set back while the process was away shows by this.
    pub fn at_least(&self, time: Timestamp) {
        self.latest.fetch_max(time.as_micros(), Ordering::Relaxed);
    }

    /// The largest offset that the last measurement leaves possible; `None` before the first, zero where there is no other clock.
    #[must_use]
    pub fn offset_max(&self) -> Option<Duration> {
        match self.state.load().as_deref()? {
            State::NoOtherClock => Some(Duration::ZERO),
            State::Measured(measurement) => Some(measurement.offset_max),
        }
    }
}

/// A node read its clock at some moment between the two readings of ours: its offset lies between the two differences.
fn offset_max(nodes: &[NodeClock], wall_before: Timestamp, wall_after: Timestamp) -> Option<Duration> {
    nodes.iter().map(|node| node.time.distance(wall_before).max(node.time.distance(wall_after))).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn node(millis: i64) -> NodeClock {
        NodeClock { node: millis.to_string(), time: at(millis) }
    }

    /// A clock that says what it is told.
    struct Told(AtomicI64);

    impl Clock for Told {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0.load(Ordering::Relaxed))
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[tokio::test]
    async fn without_another_clock_time_never_goes_back() {
        let skew = Duration::from_secs(1);
        let told = Arc::new(Told(AtomicI64::new(10_000_000)));
        let guard = ClockGuard::new(told.clone());
        assert_eq!(guard.now(skew), Err(Untrusted::NotMeasured));
        guard.measure(&crate::backend::memory::Dataset::new()).await.unwrap();
        let say = |millis: i64| {
            told.0.store(millis * 1000, Ordering::Relaxed);
            guard.now(skew)
        };
        assert_eq!(say(10_000), Ok(at(10_000)));
        assert_eq!(say(9_600), Ok(at(10_000)), "a correction holds it");
        assert_eq!(say(9_400), Err(Untrusted::SetBack { by: Duration::from_millis(600) }));
        assert_eq!(say(10_001), Ok(at(10_001)));
        guard.at_least(at(20_000));
        assert_eq!(say(10_002), Err(Untrusted::SetBack { by: Duration::from_millis(9_998) }));
    }

    #[test]
    fn the_offset_includes_the_error_of_the_round_trip_and_the_worst_node() {
        let ms = Duration::from_millis;
        assert_eq!(offset_max(&[node(100)], at(100), at(100)), Some(ms(0)));
        assert_eq!(offset_max(&[node(105)], at(100), at(110)), Some(ms(5)));
        assert_eq!(offset_max(&[node(100)], at(100), at(110)), Some(ms(10)));
        assert_eq!(offset_max(&[node(105), node(160), node(90)], at(100), at(110)), Some(ms(60)));
        assert_eq!(offset_max(&[], at(100), at(110)), None);
    }
}
