//! The words of the design as types: names, times, events, slices, partitions, checkpoints. Pure values: no I/O, no clock.

mod checkpoint;
mod event;
mod name;
mod partition;
mod slice;
mod slices;
mod time;

pub use checkpoint::{Checkpoint, DecodeError};
pub use event::{Event, EventItem, EventItemKey, EventKey, IdempotencyToken, Token};
pub use name::{CounterKey, CounterName, InvalidName, NamespaceName};
pub use partition::Partition;
pub use slice::{InvalidSlice, SliceRecord, SliceSettings, SliceState};
pub use slices::Slices;
pub use time::Timestamp;
