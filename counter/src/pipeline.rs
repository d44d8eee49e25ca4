//! The rollup pipeline: rollup events in, checkpoints out.
//!
//! `touched` → `queue` by XXH3 → a `coalescing` set per window → batches → [`crate::aggregation::roll_up`] → back on
//! the queue or done. A [`Sweep`] finds what never arrived. The same code runs in `standalone` and in the rollup server.

mod coalescing;
mod consumer;
mod pacing;
mod queue;
mod server;
mod sweep;

pub use queue::{Ended, Queues, Refused};
pub use server::{Options, RollupServer, Statistics};
pub use sweep::{Sweep, SweepReport};
