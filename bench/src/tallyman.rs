//! Tallyman as a contender: adds and reads through its gRPC API on one channel.

mod adds;
mod batch;
mod reads;
mod verify;

pub use adds::{Adds, encoded_len as add_encoded_len};
pub use reads::{Reads, encoded_len as read_encoded_len};
