//! Redis, in a process of its own: the counter people would otherwise use.
//!
//! Its client here is the least that speaks its protocol, one task and one connection a caller, so that none of the
//! machine's time that Redis could have is lost in a client.

mod contender;
mod resp;

pub use contender::{Command, Durability, Redis};
