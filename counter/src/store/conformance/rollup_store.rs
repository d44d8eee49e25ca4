//! What every [`RollupStore`](crate::store::RollupStore) does.

pub mod durability;
pub mod listing;
pub mod rows;
