//! Time slices: the settings that belong to a stretch of event time, fixed before the first event in it.

use std::num::NonZeroU16;
use std::time::Duration;

use super::Timestamp;

/// The settings of a slice. Every reader and writer of an event takes them from the slice that its event time falls in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SliceSettings {
    /// Event buckets per time bucket, over which a counter's events are spread.
    pub buckets_per_id: NonZeroU16,
    /// Width of a time bucket; at least a second.
    pub bucket_width: Duration,
    /// How far an event time may lie from the sidecar's now, either way.
    pub accept_limit: Duration,
    /// How long after `event_time + accept_limit` a write may still be acknowledged.
    pub write_timeout: Duration,
    /// How far apart the clocks of a sidecar and of a rollup server may be.
    pub max_clock_skew: Duration,
}

impl SliceSettings {
    /// How far the immutable boundary lies behind now.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.accept_limit + self.write_timeout + self.max_clock_skew
    }
}

/// What may still happen to a slice's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SliceState {
    /// It takes events, or has events that a checkpoint may not cover yet.
    Open,
    /// Every acknowledged event in it is covered by a checkpoint; its events may be dropped.
    Closed,
    /// Its events are gone.
    Dropped,
}

/// One stretch of event time, `start ≤ event_time < end`, with its settings. All but the state never changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SliceRecord {
    /// The first event time in it; whole seconds, and what names its table.
    pub start: Timestamp,
    /// The first event time after it.
    pub end: Timestamp,
    /// Its settings.
    pub settings: SliceSettings,
    /// How far it is in its life.
    pub state: SliceState,
}

/// A slice that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("slice {start} to {end}: {reason}")]
pub struct InvalidSlice {
    /// Its start.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl SliceRecord {
    /// A new open slice.
    ///
    /// # Errors
    /// When it is empty, does not begin and end at whole seconds, or its time buckets are under a second wide.
    pub fn new(start: Timestamp, end: Timestamp, settings: SliceSettings) -> Result<Self, InvalidSlice> {
        let second = Duration::from_secs(1);
        let invalid = |reason| Err(InvalidSlice { start, end, reason });
        if start >= end {
            return invalid("it has to end after it starts");
        }
        if start.rounded_down(second) != start || end.rounded_down(second) != end {
            return invalid("it has to start and end at whole seconds");
        }
        if settings.bucket_width < second {
            return invalid("its time buckets have to be at least a second wide");
        }
        Ok(Self { start, end, settings, state: SliceState::Open })
    }

    /// Whether `event_time` falls in it.
    #[must_use]
    pub fn contains(&self, event_time: Timestamp) -> bool {
        self.start <= event_time && event_time < self.end
    }

    /// The time bucket of an event time in this slice, counted from the slice's start.
    #[must_use]
    pub fn time_bucket(&self, event_time: Timestamp) -> u32 {
        let width = self.settings.bucket_width.as_micros().max(1);
        u32::try_from(event_time.since(self.start).as_micros() / width).unwrap_or(u32::MAX)
    }

    /// The event bucket of an event id in this slice. XXH3, so that every process agrees.
    #[must_use]
    pub fn event_bucket(&self, event_id: &str) -> u16 {
        let hash = xxhash_rust::xxh3::xxh3_64(event_id.as_bytes());
        u16::try_from(hash % u64::from(self.settings.buckets_per_id.get())).unwrap_or(0)
    }
}
