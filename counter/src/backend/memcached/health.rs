//! What is known of one server: whether it answers, and how far away it is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::connection::EXCHANGE_TIMEOUT;
use crate::clock::Clock;

/// The weight of the newest measurement in the running mean of round trips, as 1 / this.
const ROUND_TRIP_WEIGHT: u32 = 4;
/// The first measurements hold the connection's making, and noise.
const MEASUREMENTS_MIN: u32 = 3;
/// For so long after they were sent, or after it answers again, calls that a server has received may still be carried out.
pub(super) const ARRIVAL_MAX: Duration = EXCHANGE_TIMEOUT.saturating_mul(2);
/// How long a system goes on sending what was written to a connection that has been closed: eight times, each after twice the wait
/// of the time before, which begins at 200 ms (Linux, tcp(7): `tcp_orphan_retries`).
const SENT_AGAIN_MAX: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct State {
    round_trip: Duration,
    measurements: u32,
    arrivals_until: Duration,
    silent_since: Duration,
    is_gone: bool,
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

    /// Until when calls that were sent to it before it last fell silent may arrive, by monotonic time; while it is down, not known.
    pub(super) fn arrivals_until(&self) -> Option<Duration> {
        (!self.is_down()).then(|| self.state().arrivals_until)
    }

    /// How long ago it was first found not to answer: zero while it answers, without end where it is gone.
    pub(super) fn silent_for(&self) -> Duration {
        if !self.is_down() {
            return Duration::ZERO;
        }
        let state = self.state();
        if state.is_gone { Duration::MAX } else { self.clock.monotonic().saturating_sub(state.silent_since) }
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
            let mut state = self.state();
            let now = self.clock.monotonic();
            // What the network lost is sent again after waits that double: after another wait as long as the silence was, at the
            // latest. A process that has ended takes its connections with it.
            let silent_for = if state.is_gone { Duration::ZERO } else { now.saturating_sub(state.silent_since) };
            state.arrivals_until = state.arrivals_until.max(now + ARRIVAL_MAX + silent_for.min(SENT_AGAIN_MAX));
            self.is_down.store(false, Ordering::Relaxed);
        }
    }

    /// An exchange failed.
    pub(super) fn failed(&self) {
        self.down(false);
    }

    /// Nobody listens at its address: as far as can be told its process has ended, and what it knew is lost.
    pub(super) fn gone(&self) {
        self.down(true);
    }

    fn down(&self, is_gone: bool) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state();
        if self.is_down.swap(true, Ordering::Relaxed) {
            state.is_gone |= is_gone;
        } else {
            state.silent_since = self.clock.monotonic();
            state.is_gone = is_gone;
            self.went_down.notify_one();
        }
    }

    /// How far away it is: the running mean of its probes' round trips, once there are enough of them.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        let state = self.state();
        (state.measurements >= MEASUREMENTS_MIN).then_some(state.round_trip)
    }

    /// A probe took `round_trip`.
    pub(super) fn measured(&self, round_trip: Duration) {
        let mut state = self.state();
        state.measurements = state.measurements.saturating_add(1);
        state.round_trip = match state.measurements {
            // The second one is the first without the connection's making.
            0..=2 => round_trip,
            _ => (state.round_trip * (ROUND_TRIP_WEIGHT - 1) + round_trip) / ROUND_TRIP_WEIGHT,
        };
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::Timestamp;

    /// A clock that is set by hand, in milliseconds.
    pub(in super::super) struct Hand(pub AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::EPOCH
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn the_distance_is_a_running_mean_that_leaves_out_the_first_measurement() {
        let health = Health::new(Arc::new(Hand(AtomicU64::new(0))));
        for micros in [90_000, 400] {
            health.measured(Duration::from_micros(micros));
            assert_eq!(health.round_trip(), None);
        }
        health.measured(Duration::from_micros(800));
        assert_eq!(health.round_trip(), Some(Duration::from_micros(500)));
    }

    #[test]
    fn a_server_is_silent_from_its_first_failure_after_an_answer() {
        let clock = Arc::new(Hand(AtomicU64::new(1_000)));
        let health = Health::new(clock.clone());
        assert_eq!(health.silent_for(), Duration::ZERO);
        health.failed();
        clock.0.store(3_000, Ordering::Relaxed);
        health.failed();
        assert_eq!(health.silent_for(), Duration::from_secs(2));
        health.answered();
        assert_eq!(health.silent_for(), Duration::ZERO);
        health.failed();
        assert_eq!(health.silent_for(), Duration::ZERO);
        health.gone();
        assert_eq!(health.silent_for(), Duration::MAX);
        health.answered();
        health.failed();
        assert_eq!(health.silent_for(), Duration::ZERO);
    }

    #[test]
    fn calls_arrive_for_as_long_after_a_silence_as_it_was() {
        let clock = Arc::new(Hand(AtomicU64::new(1_000)));
        let health = Health::new(clock.clone());
        let arrivals_end = |answers_at: u64| {
            clock.0.store(answers_at * 1_000, Ordering::Relaxed);
            health.answered();
            health.arrivals_until().map(|until| until.saturating_sub(ARRIVAL_MAX).as_secs())
        };
        health.failed();
        assert_eq!((health.is_down(), health.arrivals_until(), health.failures()), (true, None, 1));
        assert_eq!(arrivals_end(31), Some(31 + 30));
        assert_eq!(arrivals_end(32), Some(31 + 30), "it had not been silent again");
        health.failed();
        assert_eq!(arrivals_end(33), Some(31 + 30), "and then but for a moment");
        health.gone();
        assert_eq!(arrivals_end(100), Some(100), "what was sent to a process that has ended is lost");
        health.failed();
        assert_eq!(arrivals_end(10_000), Some(10_120));
    }
}
