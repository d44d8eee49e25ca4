//! The rollup pipeline: rollup events in, checkpoints out.
//!
//! `touched` → `queue` by XXH3 → a `coalescing` set per window → batches → [`crate::aggregation::roll_up`] → back on
//! the queue or done. A [`Sweep`] finds what never arrived. The same code runs in `standalone` and in the rollup server.
//!
//! Several servers share a namespace by the list of its `rollup_endpoints`: `ownership` says whose a counter is, and `guests`
//! what becomes of one that is another's and came here all the same.

mod coalescing;
mod consumer;
mod guests;
mod ownership;
mod pacing;
mod queue;
mod server;
mod sweep;

pub use queue::{Ended, Queues, Refused};
pub use server::{Options, RollupServer, Statistics};
pub use sweep::{Sweep, SweepReport};
