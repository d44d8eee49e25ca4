//! The rollup server: takes touched counters from sidecars and rolls them up.
//!
//! - [`process`]: the process `tallyman-rollup`, its parts put together and taken apart again in order;
//! - [`arguments`]: its options;
//! - [`engine`]: the namespaces in force, opened, and rolled up by [`tallyman_counter::pipeline`];
//! - [`forwarding`]: the streams that sidecars send touched counters on;
//! - [`server`]: the listeners, and their end when the process stops;
//! - [`tls`]: their connections, where they are encrypted;
//! - [`readiness`]: why it is not ready.
//!
//! How counters are rolled up is the engine's business and not here; so is which server owns which.

pub mod arguments;
pub mod engine;
pub mod forwarding;
pub mod process;
pub mod readiness;
pub mod server;
pub mod tls;
