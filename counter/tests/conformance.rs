//! Every backend through the conformance suites of the store traits, one macro call each.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "conformance/clock.rs"]
mod clock;
#[path = "conformance/embedded.rs"]
mod embedded;
#[path = "conformance/memcached.rs"]
mod memcached;
#[path = "conformance/memory.rs"]
mod memory;
