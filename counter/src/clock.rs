//! The one place the engine reads time from. Waiting is the runtime's (`tokio::time`); what time it is, is the clock's.

mod guard;

use std::time::Duration;

use crate::model::Timestamp;

pub use guard::{ClockGuard, MEASURE_EVERY, MEASUREMENT_AGE_MAX, Untrusted};

/// A process's clock. In production [`SystemClock`]; in simulations one that runs in virtual time, skewed and stepped.
pub trait Clock: Send + Sync + 'static {
    /// What the wall clock says. It may be wrong, and it may step either way.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process. It never goes back and does not follow steps of the wall clock.
    fn monotonic(&self) -> Duration;
}

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[allow(clippy::disallowed_methods, clippy::new_without_default)] // The one reader of the system's clocks.
    pub fn new() -> Self {
        Self { started: std::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // The one reader of the system's clocks.
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 is a broken clock; the epoch makes every event time look out of range, which it is.
        Timestamp::EPOCH.plus(since_epoch.unwrap_or_default())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}
