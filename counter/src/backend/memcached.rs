//! Best-effort counters in one memcached, over its meta protocol.
//!
//! Calls wait in a queue for one of a few connections; whatever waits while an exchange is in flight goes out together as the
//! next one. A connection that is lost, and a server that has moved, are found again with the next exchange.
//!
//! What may have left this process is never sent twice: an add whose outcome is unknown says so and is not tried again.

mod best_effort;
mod connection;
mod encoding;

pub use best_effort::BestEffort;
