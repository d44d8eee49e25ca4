//! Partitions: where in a slice a counter's events lie.

use super::{CounterKey, Event, SliceRecord, Timestamp};

/// One partition of one counter's events: the unit of a write batch and of a scan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// Whose events.
    pub counter: CounterKey,
    /// Which slice (its start names its table).
    pub slice_start: Timestamp,
    /// Which time bucket of the slice.
    pub time_bucket: u32,
    /// Which event bucket of the time bucket.
    pub event_bucket: u16,
}

impl Partition {
    /// Where `event` of `counter` lies in `slice`.
    #[must_use]
    pub fn of(counter: &CounterKey, event: &Event, slice: &SliceRecord) -> Self {
        Self {
            counter: counter.clone(),
            slice_start: slice.start,
            time_bucket: slice.time_bucket(event.event_time),
            event_bucket: slice.event_bucket(event.event_id.as_str()),
        }
    }
}
