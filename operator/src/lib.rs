//! The control plane of Tallyman: from CounterNamespaces to Cassandra tables, memcached and rollup servers.

pub mod inject;
pub mod names;
