//! What waits to be written, and which of it goes out together. Pure.
//!
//! Partitions of one replica set share a lane. A lane sends up to [`BATCHES_IN_FLIGHT_MAX`] batches at a time, and each
//! partition is in at most [`PARTITION_IN_FLIGHT_MAX`] of them: what comes meanwhile waits, and goes out together. An idle lane
//! holds nothing back.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

/// Batches of one replica set under way at once.
pub(super) const BATCHES_IN_FLIGHT_MAX: usize = 8;
/// Batches under way at once that hold rows of one partition. More than one, so that a single slow answer stops nothing.
pub(super) const PARTITION_IN_FLIGHT_MAX: usize = 2;
/// The most rows of a batch.
pub(super) const ROWS_MAX: usize = 200;
/// The most bytes of a batch of one partition, which Cassandra applies as one mutation.
pub(super) const BYTES_MAX: usize = 40 * 1024;
/// The most partitions of a batch: from the next one on, Cassandra warns, in its log and in every answer.
pub(super) const PARTITIONS_MAX: usize = 10;
/// The most bytes of a batch of several partitions: Cassandra warns from 5 KiB on and refuses from 50 KiB on.
pub(super) const MIXED_BYTES_MAX: usize = 4 * 1024;

/// Something that waits in a lane.
pub(super) trait Waiting: Sized {
    /// About what it adds to a batch, in bytes as Cassandra counts them.
    fn bytes(&self) -> usize;
    /// The statements that it becomes.
    fn rows(&self) -> usize;
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;
    /// Takes up a later one of the same partition, if one write can stand for both; else gives it back.
    fn absorb(&mut self, later: Self) -> Result<(), Self>;
}

/// A partition, told by its token: two that share one also share their replicas, and may as well share a batch.
pub(super) type PartitionToken = i64;

/// What waits for one partition.
struct Group<W> {
    waiting: VecDeque<W>,
    bytes: usize,
    in_flight: usize,
    is_ready: bool,
}

impl<W> Default for Group<W> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, in_flight: 0, is_ready: false }
    }
}

/// What goes out together.
#[derive(Debug)]
pub(super) struct Batch<W> {
    /// In the order of their partitions; of one partition in the order in which they came.
    pub writes: Vec<W>,
    /// The partitions that they are of.
    pub partitions: Vec<PartitionToken>,
}

/// The waiting and the flying writes of one replica set.
pub(super) struct Lane<W> {
    groups: HashMap<PartitionToken, Group<W>, foldhash::fast::RandomState>,
    /// The partitions that have something waiting and may go out, in the order in which they came to be so.
    ready: VecDeque<PartitionToken>,
    senders: usize,
}

impl<W> Default for Lane<W> {
    fn default() -> Self {
        Self { groups: HashMap::default(), ready: VecDeque::new(), senders: 0 }
    }
}

impl<W: Waiting> Lane<W> {
    /// Puts a write in its place.
    pub fn push(&mut self, partition: PartitionToken, write: W) {
        let group = self.groups.entry(partition).or_default();
        let mut write = write;
        if let Some(last) = group.waiting.back_mut() {
            match last.absorb(write) {
                Ok(()) => return,
                Err(back) => write = back,
            }
        }
        group.bytes += write.bytes();
        group.waiting.push_back(write);
        if !group.is_ready && group.in_flight < PARTITION_IN_FLIGHT_MAX {
            group.is_ready = true;
            self.ready.push_back(partition);
        }
    }

    /// Whether another sender should be started now; it is counted as started. One at a time: it asks again when it has taken
    /// its batch.
    pub fn start_sender(&mut self) -> bool {
        let wanted = !self.ready.is_empty() && self.senders < BATCHES_IN_FLIGHT_MAX;
        self.senders += usize::from(wanted);
        wanted
    }

    /// The next batch of a sender that has none, or `None`: that sender ends.
    pub fn take(&mut self) -> Option<Batch<W>> {
        let mut batch = Batch { writes: Vec::new(), partitions: Vec::new() };
        let (mut bytes, mut rows) = (0, 0);
        while let Some(partition) = self.ready.front().copied() {
            let Entry::Occupied(mut entry) = self.groups.entry(partition) else {
                self.ready.pop_front();
                continue;
            };
            let group = entry.get_mut();
            if !batch.partitions.is_empty() {
                let is_full = batch.partitions.len() == PARTITIONS_MAX || rows + group.waiting.len() > ROWS_MAX;
                if is_full || bytes + group.bytes > MIXED_BYTES_MAX {
                    break;
                }
            }
            self.ready.pop_front();
            group.is_ready = false;
            let before = batch.writes.len();
            while let Some(write) = group.waiting.pop_front() {
                if write.is_abandoned() {
                    group.bytes -= write.bytes();
                    continue;
                }
                let is_full = rows + write.rows() > ROWS_MAX || bytes + write.bytes() > BYTES_MAX;
                if is_full && !batch.writes.is_empty() {
                    group.waiting.push_front(write);
                    break;
                }
                group.bytes -= write.bytes();
                bytes += write.bytes();
                rows += write.rows();
                batch.writes.push(write);
            }
            if batch.writes.len() > before {
                batch.partitions.push(partition);
                group.in_flight += 1;
            } else if group.in_flight == 0 {
                entry.remove();
                continue;
            }
            if !group.waiting.is_empty() {
                if group.in_flight < PARTITION_IN_FLIGHT_MAX {
                    group.is_ready = true;
                    self.ready.push_back(partition);
                }
                break;
            }
        }
        if batch.writes.is_empty() {
            self.senders -= 1;
            return None;
        }
        Some(batch)
    }

    /// The batch of these partitions has been answered.
    pub fn landed(&mut self, partitions: &[PartitionToken]) {
        for partition in partitions {
            let Entry::Occupied(mut entry) = self.groups.entry(*partition) else { continue };
            let group = entry.get_mut();
            group.in_flight -= 1;
            if group.waiting.is_empty() {
                if group.in_flight == 0 {
                    entry.remove();
                }
            } else if !group.is_ready {
                group.is_ready = true;
                self.ready.push_back(*partition);
            }
        }
    }

    /// Whether it holds nothing and nobody sends for it.
    pub fn is_idle(&self) -> bool {
        self.groups.is_empty() && self.senders == 0
    }
}
