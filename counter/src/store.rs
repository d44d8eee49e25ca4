//! What the engine asks of its stores: one trait each, one error for all, and for each trait a conformance suite that every
//! backend passes unchanged (`conformance`, with the feature of that name).

mod best_effort;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod event_store;
mod rollup_cache;
mod rollup_store;

pub use best_effort::BestEffortStore;
pub use error::{Error, Result};
pub use event_store::{Append, Capabilities, EventPage, EventStore, NodeClock, Scan};
pub use rollup_cache::RollupCache;
pub use rollup_store::{Cursor, RollupRow, RollupStore, RowPage, Share, Touch};
