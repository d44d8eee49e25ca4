//! Apache Cassandra: the node that everybody uses, and the statements that Tallyman's adds are measured beside.

mod node;
mod peer;
mod range_scan;
mod statements;

pub use node::{Keyspace, Node};
pub use peer::Peer;
pub use range_scan::RangeScan;
pub use statements::Kind;
