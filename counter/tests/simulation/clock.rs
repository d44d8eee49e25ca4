//! A process's clock in virtual time: wrong by an offset, drifting, and stepping when told to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tallyman_counter::clock::Clock;
use tallyman_counter::model::Timestamp;

use crate::world::{SimTime, World};

#[derive(Debug, Clone, Copy)]
struct Error {
    offset_us: i64,
    drift_ppm: i64,
    since: SimTime,
}

/// One simulated process's clock.
pub struct SimClock {
    world: Arc<World>,
    error: Mutex<Error>,
}

impl SimClock {
    pub fn new(world: &Arc<World>, offset_us: i64, drift_ppm: i64) -> Arc<Self> {
        let error = Error { offset_us, drift_ppm, since: world.now() };
        Arc::new(Self { world: world.clone(), error: Mutex::new(error) })
    }

    /// How far the clock is from true time, in microseconds.
    pub fn offset_us(&self) -> i64 {
        let error = *self.error.lock().unwrap();
        let drifted = (self.world.now().0 - error.since.0) as i64 * error.drift_ppm / 1_000_000;
        error.offset_us + drifted
    }

    /// Moves the wall clock to `offset_us` from true time, at once.
    pub fn step_to(&self, offset_us: i64) {
        let mut error = self.error.lock().unwrap();
        error.offset_us = offset_us;
        error.since = self.world.now();
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.world.now().timestamp().as_micros() + self.offset_us())
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.world.now().0)
    }
}
