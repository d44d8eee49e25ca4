//! What the end-to-end tests share: real servers below, the data plane's own binaries on them, load whose every add can be told
//! from every other one, and readings of what was counted, through the API and around it.
//!
//! Knows the product from outside only: its binaries, its API and its tables. Whatever goes wrong here is a test that fails, so
//! it panics, and says what it saw.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

pub mod binaries;
#[cfg(feature = "control-plane")]
pub mod control_plane;
pub mod convergence;
pub mod daemon;
pub mod faketime;
pub mod flights;
pub mod gitops;
pub mod lateness;
pub mod ledger;
pub mod load;
pub mod operator;
pub mod packaging;
pub mod plane;
#[cfg(feature = "control-plane")]
pub mod site;
pub mod tables;

use std::time::{Duration, Instant, SystemTime};

/// How long anything may take that is waited for. Long, for busy machines: it decides about failures only.
pub const PATIENCE: Duration = Duration::from_secs(180);

#[allow(clippy::disallowed_methods, reason = "how long a test has waited is no business of the engine's clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "the tests' clock is the one that no other is shifted against")]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// The time now, in microseconds since the epoch.
pub fn now_micros() -> i64 {
    micros(wall_clock())
}

/// A time in microseconds since the epoch.
pub fn micros(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros()).unwrap()
}
