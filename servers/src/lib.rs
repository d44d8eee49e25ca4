//! Installs, starts and stops the real servers that Tallyman counts on: Apache Cassandra and memcached, on this machine alone, for
//! development, tests and benchmarks. Knows nothing of Tallyman.
//!
//! A set of servers has a [`Place`]: a folder for its state and data, and the loopback address of its first node. Sets in places
//! with different folders and addresses do not touch each other. [`Set::up`] leaves servers running behind the caller's end;
//! [`Set::start`] ends them with its value, which is what tests want. Processes are known by their id *and* the time they
//! started, so that an id the system has given to somebody else is never signalled. [`cache`], [`debian`], [`process`], [`progress`]
//! and [`Lock`] are of use to whoever starts other servers.

pub mod cache;
mod cassandra;
pub mod debian;
mod error;
mod install;
mod memcached;
mod options;
pub mod process;
pub mod progress;
mod set;
mod state;
mod status;

pub use self::cassandra::{NATIVE_PORT, SUPERUSER};
pub use self::error::{Error, Result};
pub use self::install::{CassandraParts, cassandra_parts};
pub use self::memcached::FIRST_PORT as MEMCACHED_FIRST_PORT;
pub use self::options::{CommitlogSync, Place, Shape};
pub use self::process::Pid;
pub use self::set::{Set, Up};
pub use self::state::{Lock, Memcached, Node};
pub use self::status::{Status, status};
