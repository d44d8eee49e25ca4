//! The stores behind the traits of [`crate::store`], one folder each. A backend turns its own errors into
//! [`crate::store::Error`] at its edge and knows nothing of the engine above it.

pub mod cassandra;
pub mod embedded;
pub mod memcached;
pub mod memory;
