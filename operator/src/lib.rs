//! The control plane of Tallyman: from CounterNamespaces to Cassandra tables, memcached and rollup servers.
//!
//! - [`capacity`], [`build`], [`inject`], [`compare`]: pure.

pub mod build;
pub mod capacity;
pub mod compare;
pub mod inject;
pub mod names;
