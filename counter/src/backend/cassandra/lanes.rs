//! What waits to be written, and which of it goes out together. Pure.
//!
//! Partitions of one replica set share a lane. A lane sends up to [`BATCHES_IN_FLIGHT_MAX`] batches at a time, and each
//! partition is in at most [`PARTITION_IN_FLIGHT_MAX`] of them: what comes meanwhile waits, and goes out together. An idle lane
//! holds nothing back.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

/// Batches of one replica set under way at once.
pub(super) const BATCHES_IN_FLIGHT_MAX: usize = 32;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Fake {
        number: u32,
        bytes: usize,
        abandoned: bool,
        /// Absorbs what is of the same kind, if any.
        kind: Option<u8>,
        stands_for: Vec<u32>,
    }

    impl Waiting for Fake {
        fn bytes(&self) -> usize {
            self.bytes
        }

        fn rows(&self) -> usize {
            1
        }

        fn is_abandoned(&self) -> bool {
            self.abandoned
        }

        fn absorb(&mut self, later: Self) -> Result<(), Self> {
            if self.kind.is_none() || self.kind != later.kind {
                return Err(later);
            }
            self.stands_for.extend(later.stands_for);
            Ok(())
        }
    }

    fn write(number: u32) -> Fake {
        Fake { number, bytes: 100, abandoned: false, kind: None, stands_for: vec![number] }
    }

    fn numbers(batch: &Batch<Fake>) -> Vec<u32> {
        batch.writes.iter().map(|write| write.number).collect()
    }

    #[test]
    fn an_idle_lane_sends_at_once() {
        let mut lane = Lane::default();
        lane.push(1, write(1));
        assert!(lane.start_sender());
        let batch = lane.take().unwrap();
        assert_eq!((numbers(&batch), batch.partitions.as_slice()), (vec![1], [1].as_slice()));
        lane.landed(&batch.partitions);
        assert!(lane.take().is_none());
        assert!(lane.is_idle());
    }

    #[test]
    fn what_comes_while_its_partition_is_in_flight_goes_out_together() {
        let mut lane = Lane::default();
        let mut flying = Vec::new();
        for number in 0..PARTITION_IN_FLIGHT_MAX as u32 {
            lane.push(1, write(number));
            assert!(lane.start_sender());
            flying.push(lane.take().unwrap());
        }
        for number in 10..15 {
            lane.push(1, write(number));
            assert!(!lane.start_sender(), "its partition is in flight as often as it may be");
        }
        lane.landed(&flying.pop().unwrap().partitions);
        assert_eq!(numbers(&lane.take().unwrap()), [10, 11, 12, 13, 14]);
    }

    #[test]
    fn a_lane_has_no_more_senders_than_it_may() {
        let mut lane = Lane::default();
        let mut started = 0;
        for partition in 0..1000 {
            lane.push(partition, write(0));
            started += usize::from(lane.start_sender());
        }
        assert_eq!(started, BATCHES_IN_FLIGHT_MAX);
    }

    #[test]
    fn several_partitions_share_a_batch_as_long_as_cassandra_does_not_warn() {
        let mut lane = Lane::default();
        for partition in 0..(PARTITIONS_MAX as i64 + 3) {
            lane.push(partition, write(u32::try_from(partition).unwrap()));
        }
        assert!(lane.start_sender());
        assert_eq!(lane.take().unwrap().partitions.len(), PARTITIONS_MAX);
        assert_eq!(lane.take().unwrap().partitions.len(), 3);
        let mut lane = Lane::default();
        for partition in 0..4 {
            lane.push(partition, Fake { bytes: MIXED_BYTES_MAX / 2, ..write(0) });
        }
        assert!(lane.start_sender());
        assert_eq!(lane.take().unwrap().partitions.len(), 2);
    }

    #[test]
    fn a_write_that_stands_for_several_is_sent_once() {
        let mut lane = Lane::default();
        for number in 0..3 {
            lane.push(1, Fake { kind: Some(7), ..write(number) });
        }
        lane.push(1, Fake { kind: Some(8), ..write(3) });
        assert!(lane.start_sender());
        let stands_for: Vec<Vec<u32>> = lane.take().unwrap().writes.into_iter().map(|write| write.stands_for).collect();
        assert_eq!(stands_for, [vec![0, 1, 2], vec![3]]);
    }

    #[test]
    fn what_nobody_waits_for_is_not_sent() {
        let mut lane = Lane::default();
        lane.push(1, Fake { abandoned: true, ..write(1) });
        lane.push(2, Fake { abandoned: true, ..write(2) });
        lane.push(2, write(3));
        assert!(lane.start_sender());
        let batch = lane.take().unwrap();
        assert_eq!((numbers(&batch), batch.partitions.as_slice()), (vec![3], [2].as_slice()));
        lane.landed(&batch.partitions);
        assert!(lane.take().is_none() && lane.is_idle());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push { partition: i64, bytes: usize, abandoned: bool },
        Take,
        Land(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let push = (0..30_i64, 1..3000_usize, prop::bool::weighted(0.1))
            .prop_map(|(partition, bytes, abandoned)| Step::Push { partition, bytes, abandoned });
        let land = any::<prop::sample::Index>().prop_map(Step::Land);
        prop::collection::vec(prop_oneof![6 => push, 2 => Just(Step::Take), 2 => land], 1..400)
    }

    /// The next batch of a sender, checked against all limits and against the order of what waits.
    fn checked_take(
        lane: &mut Lane<Fake>,
        waiting: &mut HashMap<PartitionToken, VecDeque<u32>>,
        senders: &mut usize,
    ) -> Result<Option<Batch<Fake>>, TestCaseError> {
        let Some(batch) = lane.take() else {
            *senders -= 1;
            return Ok(None);
        };
        let bytes: usize = batch.writes.iter().map(|write| write.bytes).sum();
        prop_assert!(batch.writes.len() <= ROWS_MAX && batch.partitions.len() <= PARTITIONS_MAX);
        prop_assert!(bytes <= BYTES_MAX);
        prop_assert!(batch.partitions.len() == 1 || bytes <= MIXED_BYTES_MAX);
        for write in &batch.writes {
            let partition = i64::from(write.number >> 24);
            prop_assert!(batch.partitions.contains(&partition));
            prop_assert_eq!(waiting.get_mut(&partition).and_then(VecDeque::pop_front), Some(write.number));
        }
        Ok(Some(batch))
    }

    proptest! {
        #[test]
        fn every_write_goes_out_once_in_its_partitions_order_within_all_limits(steps in steps()) {
            let mut lane = Lane::default();
            let mut waiting: HashMap<i64, VecDeque<u32>> = HashMap::new();
            let mut flying: Vec<Batch<Fake>> = Vec::new();
            let mut senders = 0;
            for (nth, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push { partition, bytes, abandoned } => {
                        let number = u32::try_from(partition).unwrap() << 24 | u32::try_from(nth).unwrap();
                        lane.push(partition, Fake { bytes, abandoned, ..write(number) });
                        if !abandoned {
                            waiting.entry(partition).or_default().push_back(number);
                        }
                        senders += usize::from(lane.start_sender());
                    }
                    // Of the senders, those whose batch is in flight wait for it.
                    Step::Take if senders > flying.len() => {
                        flying.extend(checked_take(&mut lane, &mut waiting, &mut senders)?);
                        senders += usize::from(lane.start_sender());
                    }
                    Step::Land(index) if !flying.is_empty() => {
                        let landed = flying.swap_remove(index.index(flying.len()));
                        lane.landed(&landed.partitions);
                        flying.extend(checked_take(&mut lane, &mut waiting, &mut senders)?);
                    }
                    Step::Take | Step::Land(_) => {}
                }
                prop_assert!(senders <= BATCHES_IN_FLIGHT_MAX);
                for partition in 0..30 {
                    let in_flight = flying.iter().filter(|batch| batch.partitions.contains(&partition)).count();
                    prop_assert!(in_flight <= PARTITION_IN_FLIGHT_MAX);
                }
            }
            while senders > 0 {
                if senders == flying.len() {
                    let landed = flying.swap_remove(0);
                    lane.landed(&landed.partitions);
                }
                flying.extend(checked_take(&mut lane, &mut waiting, &mut senders)?);
            }
            prop_assert!(waiting.values().all(VecDeque::is_empty), "left behind: {:?}", waiting);
            prop_assert!(lane.is_idle());
        }
    }
}
