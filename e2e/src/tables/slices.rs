//! Slices as their records and tables show them.

use serde::Deserialize;

pub(super) const SCRIPT: &str = include_str!("slices.py");

/// A slice's record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Slice {
    /// Its start, in seconds since the epoch.
    pub start: i64,
    /// Its end.
    pub end: i64,
    /// Partitions of a counter in a time bucket.
    pub buckets_per_id: u32,
    /// Width of a time bucket.
    pub seconds_per_bucket: u64,
    /// How far an event's time may lie from now.
    pub accept_limit_us: u64,
    /// How long a write may take.
    pub write_timeout_us: u64,
    /// 0 open, 1 closed, 2 dropped.
    pub state: u8,
    /// What is in its table, where it has one.
    pub contents: Option<Contents>,
}

/// What is in a slice's table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Contents {
    /// Events.
    pub events: u64,
    /// Those in a partition other than the record says.
    pub misplaced: u64,
    /// Partitions.
    pub partitions: u64,
    /// Bytes of the largest partition, by its rows.
    pub largest_partition_bytes: u64,
}

impl Slice {
    /// Its events.
    pub fn events(&self) -> u64 {
        self.contents.as_ref().map_or(0, |contents| contents.events)
    }
}
