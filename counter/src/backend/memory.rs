//! Stores inside this process, gone with it: for tests, simulation, and as the cache of a single process.
//!
//! They state the traits' contracts in the plainest form, so that the other backends can be read against them.

mod best_effort;
mod cache;
mod dataset;
mod events;
mod rollups;

pub use best_effort::BestEffort;
pub use cache::Cache;
pub use dataset::Dataset;
