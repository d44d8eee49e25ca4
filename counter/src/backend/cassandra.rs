//! Events and rollup rows in Apache Cassandra (or ScyllaDB), one keyspace per dataset.
//!
//! ```text
//! append, touch, checkpoint ─▶ lanes (bounded): by replica set, then by partition ─▶ unlogged batches ─▶ a replica
//! scan, read, list ───────────────────────────────────────────────────────────────▶ LOCAL_QUORUM reads, page by page
//! ```
//!
//! - Every cell is written with a timestamp that follows from its value (an event's with its event time, a checkpoint's with
//!   its `last_rollup_ts`, `first_write_ts` with its negative), so that two writes of one cell end the same on every replica,
//!   whatever their order, and repeating any write harms nothing.
//! - A driver's error becomes a [`store::Error`](crate::store::Error) here, where it is known whether anything may have been
//!   written. The driver repeats reads by itself and never a write: that is for the engine, which knows its deadline.
//! - [`Cluster`] connects in the background and never gives up; until it has, and while no node can be reached, every call
//!   answers at once that the store is unavailable, and why.

mod clocks;
mod cluster;
mod connecting;
mod credentials;
mod dataset;
mod error;
mod events;
mod lanes;
mod reach;
mod ring;
mod rollups;
pub mod schema;
mod statements;
mod tls;
mod trouble;
mod values;
mod writer;

pub use cluster::Cluster;
pub use dataset::Dataset;
pub use reach::Reach;
pub use writer::WriteStatistics;
