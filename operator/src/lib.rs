//! The control plane of Tallyman: from CounterNamespaces to Cassandra tables, memcached and rollup servers.

pub mod build;
pub mod capacity;
pub mod compare;
pub mod names;
