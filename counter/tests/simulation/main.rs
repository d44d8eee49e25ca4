//! The engine in a simulated world: many processes, a store that times out after applying, skewed clocks, duplicates, crashes,
//! configuration that arrives late. Everything is drawn from a seed and runs in virtual time, in one thread.

// All of this is a test, and where it panics it fails.
#![allow(clippy::unwrap_used)]

mod breaks;
mod cache;
mod cassandra;
mod checkers;
mod clock;
mod conformance;
mod coverage;
mod history;
mod invariants;
mod model;
mod process;
mod random;
mod scenario;
mod seeds;
mod world;
