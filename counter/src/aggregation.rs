//! Aggregation: from events to counts. [`roll_up`] moves a counter's checkpoint on; [`count_accurately`] adds to it what is not
//! rolled up yet. Both read events through `window`, within one budget of events in memory.
//!
//! Order matters here, and is the same in both: first the slices, then the time, then the row, then the events.
//! * *slices before row*: a slice seen as closed had all its events in checkpoints before the row was read;
//! * *time before row*: an event before the boundary was acknowledged before the boundary was computed, and its
//!   `last_write_ts` was durable before that, so the row read afterwards shows it.

mod budget;
mod error;
mod read;
mod rollup;
mod window;

pub use budget::ScanBudget;
pub use error::{Error, Result};
pub use read::{Reading, count_accurately, last_rollup};
pub use rollup::{RolledUp, roll_up};
