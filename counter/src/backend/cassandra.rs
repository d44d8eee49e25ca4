//! Apache Cassandra.

pub mod schema;
