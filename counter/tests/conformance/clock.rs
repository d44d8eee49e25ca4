//! A clock that the tests set, so that expiry needs no waiting.

use std::sync::Mutex;
use std::time::Duration;

use tallyman_counter::clock::Clock;
use tallyman_counter::model::Timestamp;

#[derive(Debug, Default)]
pub struct SetClock(Mutex<Duration>);

impl SetClock {
    pub fn advance(&self, span: Duration) {
        *self.0.lock().unwrap() += span;
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH.plus(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}
