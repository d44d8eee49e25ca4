//! What is known of one server: whether it answers, how far away it is, and which life it is in.
//!
//! A memcached that restarted or was flushed has forgotten everything, and does not say so. The first to meet it leaves a mark
//! there, with a random identity; where the mark is missing or another one, everything before it is gone.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;

/// After a change of life, how long what another replica made before it may still look newly made.
const LIFE_SETTLES_AFTER: Duration = Duration::from_secs(4);
/// The weight of the newest measurement in the running mean of round trips, as 1 / this.
const ROUND_TRIP_WEIGHT: u32 = 4;

/// The identity of a server's memory, from its start or last flush to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life(pub u128);

#[derive(Debug, Clone, Copy)]
struct Met {
    life: Life,
    /// When this process saw it begin, by monotonic time; `None` where it is the first one that this process met.
    since: Option<Duration>,
}

#[derive(Debug, Default)]
struct State {
    round_trip: Option<Duration>,
    answers_since: Duration,
    met: Option<Met>,
}

/// The health of one server, as this process sees it.
pub(super) struct Health {
    clock: Arc<dyn Clock>,
    is_down: AtomicBool,
    failures: AtomicU64,
    state: Mutex<State>,
    went_down: Notify,
}

impl Health {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            is_down: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            state: Mutex::default(),
            went_down: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last exchange failed. Such a server is asked again by its probes, and by others only as a last resort.
    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// How long it has answered without a failure.
    pub(super) fn answering_for(&self) -> Duration {
        if self.is_down() {
            return Duration::ZERO;
        }
        self.clock.monotonic().saturating_sub(self.state().answers_since)
    }

    /// Exchanges that failed.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Waits until it has failed.
    pub(super) async fn went_down(&self) {
        self.went_down.notified().await;
    }

    /// An exchange was answered.
    pub(super) fn answered(&self) {
        // Most of the time nothing has changed.
        if self.is_down() {
            self.state().answers_since = self.clock.monotonic();
            self.is_down.store(false, Ordering::Relaxed);
        }
    }

    /// An exchange failed, or nobody was there.
    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if !self.is_down.swap(true, Ordering::Relaxed) {
            self.went_down.notify_one();
        }
    }

    /// How far away it is: the running mean of its probes' round trips, `None` before the first.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.state().round_trip
    }

    /// A probe took `round_trip`.
    pub(super) fn measured(&self, round_trip: Duration) {
        let mut state = self.state();
        state.round_trip = Some(match state.round_trip {
            None => round_trip,
            Some(mean) => (mean * (ROUND_TRIP_WEIGHT - 1) + round_trip) / ROUND_TRIP_WEIGHT,
        });
    }

    /// The life that the server is known to be in. Only where it is the first that this process met, or has lasted for long
    /// enough, does it say that what another replica made lately was made in it.
    pub(super) fn settled_life(&self) -> Option<Life> {
        let met = self.state().met?;
        let settled = met.since.is_none_or(|since| self.clock.monotonic() >= since + LIFE_SETTLES_AFTER);
        settled.then_some(met.life)
    }

    /// Whether no life was met yet.
    pub(super) fn is_unmet(&self) -> bool {
        self.state().met.is_none()
    }

    /// The server was seen in `life`. Whether it began another one since it was last seen.
    pub(super) fn met(&self, life: Life) -> bool {
        let now = self.clock.monotonic();
        let mut state = self.state();
        match state.met {
            Some(met) if met.life == life => false,
            Some(_) => {
                state.met = Some(Met { life, since: Some(now) });
                true
            }
            None => {
                state.met = Some(Met { life, since: None });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn the_first_life_counts_at_once_and_another_one_only_when_it_has_settled() {
        let clock = Arc::new(Hand(AtomicU64::new(1_000)));
        let health = Health::new(clock.clone());
        assert_eq!(health.settled_life(), None);
        assert!(!health.met(Life(1)));
        assert_eq!(health.settled_life(), Some(Life(1)));
        assert!(health.met(Life(2)), "it began another life");
        assert_eq!(health.settled_life(), None);
        assert!(!health.met(Life(2)));
        clock.0.store(5_001, Ordering::Relaxed);
        assert_eq!(health.settled_life(), Some(Life(2)));
    }

    #[test]
    fn a_server_answers_from_the_first_exchange_after_its_last_failure() {
        let clock = Arc::new(Hand(AtomicU64::new(1_000)));
        let health = Health::new(clock.clone());
        health.failed();
        assert!(health.is_down());
        clock.0.store(3_000, Ordering::Relaxed);
        assert_eq!(health.answering_for(), Duration::ZERO);
        health.answered();
        clock.0.store(3_500, Ordering::Relaxed);
        health.answered();
        assert_eq!(health.answering_for(), Duration::from_millis(500));
        assert_eq!(health.failures(), 1);
    }
}
