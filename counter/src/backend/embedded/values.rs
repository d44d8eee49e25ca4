//! What the tables hold under their keys. Each value begins with what says how to read it. Pure functions.

use std::num::NonZeroU16;
use std::time::Duration;

use crate::model::{Checkpoint, EventItem, SliceRecord, SliceSettings, SliceState, Timestamp};
use crate::store::{Error, Result, RollupRow};

const ADD: u8 = 0;
const CLEAR: u8 = 1;

const ROW_VERSION: u8 = 1;
const HAS_LAST_WRITE: u8 = 1;
const HAS_FIRST_WRITE: u8 = 2;
const HAS_CHECKPOINT: u8 = 4;

const SLICE_VERSION: u8 = 1;
const PROGRESS_VERSION: u8 = 1;

/// An event's operation and delta, short enough to need no allocation.
pub(super) fn item(item: EventItem) -> fjall::Slice {
    match item {
        EventItem::Add(delta) => {
            let mut bytes = [ADD; 9];
            bytes[1..].copy_from_slice(&delta.to_le_bytes());
            bytes.as_slice().into()
        }
        EventItem::Clear => [CLEAR].as_slice().into(),
    }
}

/// Reads what [`item`] wrote.
pub(super) fn item_from(bytes: &[u8]) -> Result<EventItem> {
    match bytes.split_first() {
        Some((&ADD, delta)) if let Ok(delta) = delta.try_into() => Ok(EventItem::Add(i64::from_le_bytes(delta))),
        Some((&CLEAR, [])) => Ok(EventItem::Clear),
        _ => Err(damaged("an event", bytes)),
    }
}

fn damaged(what: &str, bytes: &[u8]) -> Error {
    Error::Corrupt { reason: format!("{what} of {} bytes cannot be read", bytes.len()) }
}

/// Takes values off the front of stored bytes.
struct Reader<'a> {
    what: &'static str,
    whole: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Expects `version` as the first byte.
    fn new(what: &'static str, version: u8, bytes: &'a [u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&found, rest)) if found == version => Ok(Self { what, whole: bytes, rest }),
            Some((found, _)) => {
                Err(Error::Corrupt { reason: format!("{what} has version {found}, and {version} is known here") })
            }
            None => Err(damaged(what, bytes)),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| damaged(self.what, self.whole))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn time(&mut self) -> Result<Timestamp> {
        self.take().map(|bytes| Timestamp::from_micros(i64::from_le_bytes(bytes)))
    }

    fn duration(&mut self) -> Result<Duration> {
        let seconds = u64::from_le_bytes(self.take()?);
        let nanos = u32::from_le_bytes(self.take()?);
        if nanos >= 1_000_000_000 {
            return Err(damaged(self.what, self.whole));
        }
        Ok(Duration::new(seconds, nanos))
    }
}

/// A rollup row as one value.
pub(super) fn row(row: &RollupRow) -> Vec<u8> {
    let mut bytes = vec![ROW_VERSION, 0];
    let mut present = 0;
    if let Some(time) = row.last_write_ts {
        present |= HAS_LAST_WRITE;
        bytes.extend_from_slice(&time.as_micros().to_le_bytes());
    }
    if let Some(time) = row.first_write_ts {
        present |= HAS_FIRST_WRITE;
        bytes.extend_from_slice(&time.as_micros().to_le_bytes());
    }
    if let Some(checkpoint) = row.checkpoint {
        present |= HAS_CHECKPOINT;
        bytes.extend_from_slice(&checkpoint.encode());
    }
    bytes[1] = present;
    bytes
}

/// Reads what [`row`] wrote.
pub(super) fn row_from(bytes: &[u8]) -> Result<RollupRow> {
    let mut reader = Reader::new("a rollup row", ROW_VERSION, bytes)?;
    let [present] = reader.take()?;
    let mut row = RollupRow::default();
    if present & HAS_LAST_WRITE != 0 {
        row.last_write_ts = Some(reader.time()?);
    }
    if present & HAS_FIRST_WRITE != 0 {
        row.first_write_ts = Some(reader.time()?);
    }
    if present & HAS_CHECKPOINT != 0 {
        row.checkpoint = Some(Checkpoint::decode(&reader.take::<{ Checkpoint::ENCODED_LENGTH }>()?)?);
    }
    Ok(row)
}

/// All of a slice's record but its start, which is its key.
pub(super) fn slice(record: &SliceRecord) -> Vec<u8> {
    let SliceSettings { buckets_per_id, bucket_width, accept_limit, write_timeout, max_clock_skew } = record.settings;
    let state = match record.state {
        SliceState::Open => 0,
        SliceState::Closed => 1,
        SliceState::Dropped => 2,
    };
    let mut bytes = vec![SLICE_VERSION, state];
    bytes.extend_from_slice(&record.end.as_micros().to_le_bytes());
    bytes.extend_from_slice(&buckets_per_id.get().to_le_bytes());
    for span in [bucket_width, accept_limit, write_timeout, max_clock_skew] {
        bytes.extend_from_slice(&span.as_secs().to_le_bytes());
        bytes.extend_from_slice(&span.subsec_nanos().to_le_bytes());
    }
    bytes
}

/// Reads what [`slice`] wrote.
pub(super) fn slice_from(start: Timestamp, bytes: &[u8]) -> Result<SliceRecord> {
    let mut reader = Reader::new("a slice record", SLICE_VERSION, bytes)?;
    let state = match reader.take()? {
        [0] => SliceState::Open,
        [1] => SliceState::Closed,
        [2] => SliceState::Dropped,
        _ => return Err(damaged("a slice record", bytes)),
    };
    let end = reader.time()?;
    let buckets =
        NonZeroU16::new(u16::from_le_bytes(reader.take()?)).ok_or_else(|| damaged("a slice record", bytes))?;
    let settings = SliceSettings {
        buckets_per_id: buckets,
        bucket_width: reader.duration()?,
        accept_limit: reader.duration()?,
        write_timeout: reader.duration()?,
        max_clock_skew: reader.duration()?,
    };
    Ok(SliceRecord { start, end, settings, state })
}

/// How far a dataset has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// The highest checkpoint written; no event at or before it is taken.
    pub boundary: Option<Timestamp>,
    /// No stored event has a later event time. Raised ahead of the events, so that it is seldom written.
    pub horizon: Timestamp,
}

impl Progress {
    /// Of a dataset without events and rollups.
    pub const NONE: Self = Self { boundary: None, horizon: Timestamp::MIN };
}

pub(super) fn progress(progress: &Progress) -> Vec<u8> {
    let mut bytes = vec![PROGRESS_VERSION];
    bytes.extend_from_slice(&progress.horizon.as_micros().to_le_bytes());
    if let Some(boundary) = progress.boundary {
        bytes.extend_from_slice(&boundary.as_micros().to_le_bytes());
    }
    bytes
}

/// Reads what [`progress`] wrote.
pub(super) fn progress_from(bytes: &[u8]) -> Result<Progress> {
    let mut reader = Reader::new("a dataset's progress", PROGRESS_VERSION, bytes)?;
    let horizon = reader.time()?;
    let boundary = if reader.rest.is_empty() { None } else { Some(reader.time()?) };
    Ok(Progress { boundary, horizon })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn items_come_back(delta in any::<i64>()) {
            for event_item in [EventItem::Add(delta), EventItem::Clear] {
                prop_assert_eq!(item_from(&item(event_item)).unwrap(), event_item);
            }
        }

        #[test]
        fn rows_come_back(last in any::<Option<i64>>(), first in any::<Option<i64>>(), checkpoint in any::<Option<(i64, i128)>>()) {
            let stored = RollupRow {
                checkpoint: checkpoint.map(|(ts, last_rollup_count)| Checkpoint { last_rollup_ts: Timestamp::from_micros(ts), last_rollup_count }),
                last_write_ts: last.map(Timestamp::from_micros),
                first_write_ts: first.map(Timestamp::from_micros),
            };
            prop_assert_eq!(row_from(&row(&stored)).unwrap(), stored);
        }

        #[test]
        fn progress_comes_back(boundary in any::<Option<i64>>(), horizon in any::<i64>()) {
            let stored = Progress { boundary: boundary.map(Timestamp::from_micros), horizon: Timestamp::from_micros(horizon) };
            prop_assert_eq!(progress_from(&progress(&stored)).unwrap(), stored);
        }

        #[test]
        fn slices_come_back(start in any::<i64>(), end in any::<i64>(), spans in any::<[Duration; 4]>(), buckets in 1_u16.., state in 0_usize..3) {
            let start = Timestamp::from_micros(start);
            let [bucket_width, accept_limit, write_timeout, max_clock_skew] = spans;
            let settings = SliceSettings { buckets_per_id: NonZeroU16::new(buckets).unwrap(), bucket_width, accept_limit, write_timeout, max_clock_skew };
            let state = [SliceState::Open, SliceState::Closed, SliceState::Dropped][state];
            let stored = SliceRecord { start, end: Timestamp::from_micros(end), settings, state };
            prop_assert_eq!(slice_from(start, &slice(&stored)).unwrap(), stored);
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (item_from(&bytes), row_from(&bytes), slice_from(Timestamp::EPOCH, &bytes), progress_from(&bytes));
        }
    }
}
