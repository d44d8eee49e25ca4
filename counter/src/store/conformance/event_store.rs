//! What every [`EventStore`](crate::store::EventStore) does.

pub mod append;
pub mod durability;
pub mod refusals;
pub mod scan;
pub mod slices;
