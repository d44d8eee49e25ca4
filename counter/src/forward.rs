//! Rollup events on their way: the set of counters touched in this process, sent every 100 ms or so to the rollup servers that
//! own them. Nothing waits for it, and what is lost here a sweep finds.

mod rendezvous;
mod touched;

pub use rendezvous::{owner, server_name};
pub use touched::{RollupEndpoint, Routes, TouchedCounters, Undelivered};
