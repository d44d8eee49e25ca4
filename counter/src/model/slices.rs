//! All slices of a dataset in order: which one an event falls in, how far the immutable boundary has come, which partitions
//! a window touches.

use std::time::Duration;

use super::{CounterKey, Partition, SliceRecord, SliceState, Timestamp};

/// The slices of a dataset, in order and without gaps: the end of one is the start of the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slices {
    records: Vec<SliceRecord>,
}

impl Slices {
    /// Takes the records in any order. The first slice starts at the epoch and each next one where the last ends: as the first
    /// record of a start wins, there is one such chain, however creators raced or stalled, and all processes see the same. A
    /// record that does not follow on belongs to a creator that lost, and was never used. What lies behind a gap is left out,
    /// as if it were not created yet: a writer refuses its event times and no boundary passes the gap.
    #[must_use]
    pub fn new(mut records: Vec<SliceRecord>) -> Self {
        records.sort_by_key(|record| record.start);
        let mut chain: Vec<SliceRecord> = Vec::with_capacity(records.len());
        for record in records {
            if record.start == chain.last().map_or(Timestamp::EPOCH, |last| last.end) {
                chain.push(record);
            }
        }
        Self { records: chain }
    }

    /// The records, oldest first.
    #[must_use]
    pub fn records(&self) -> &[SliceRecord] {
        &self.records
    }

    /// The open slice that takes events of this time. A closed one takes none: what it holds is certified as counted.
    #[must_use]
    pub fn accepting(&self, event_time: Timestamp) -> Option<&SliceRecord> {
        let after = self.records.partition_point(|record| record.start <= event_time);
        let record = self.records.get(after.checked_sub(1)?)?;
        (record.contains(event_time) && record.state == SliceState::Open).then_some(record)
    }

    /// The end of the last slice: no event at or after it has been accepted anywhere.
    #[must_use]
    pub fn end(&self) -> Option<Timestamp> {
        self.records.last().map(|record| record.end)
    }

    /// The end of the last slice that is closed or dropped: every acknowledged event before it is covered by a checkpoint.
    /// [`Timestamp::MIN`] when none is.
    #[must_use]
    pub fn certified_until(&self) -> Timestamp {
        let certified = self.records.iter().take_while(|record| record.state != SliceState::Open);
        certified.last().map_or(Timestamp::MIN, |record| record.end)
    }

    /// Whether everything that `other` knows is known here, as far or further in its life.
    #[must_use]
    pub fn is_as_new_as(&self, other: &Self) -> bool {
        let pairs = self.records.iter().zip(&other.records);
        self.records.len() >= other.records.len() && pairs.into_iter().all(|(mine, theirs)| mine.state >= theirs.state)
    }

    /// Whether no slice is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The immutable boundary at `now`: no event before it can still be acknowledged. Each open slice holds it back by its
    /// own limits, down to the slice's start, and so does the end of what is known: a slice that another process created
    /// since may already take events.
    #[must_use]
    pub fn boundary(&self, now: Timestamp) -> Timestamp {
        let open = self.records.iter().filter(|record| record.state == SliceState::Open);
        open.map(|record| record.start.max(now.minus(record.settings.lag())))
            .chain([self.end().unwrap_or(Timestamp::MIN)])
            .min()
            .unwrap_or(Timestamp::MIN)
    }

    /// The smallest skew that any open slice allows: what a process's clock is held to.
    #[must_use]
    pub fn max_clock_skew(&self) -> Option<Duration> {
        let open = self.records.iter().filter(|record| record.state == SliceState::Open);
        open.map(|record| record.settings.max_clock_skew).min()
    }

    /// Every partition that can hold events of `counter` with `after < event_time ≤ through`, newest first. Whatever the
    /// slices' states: who may leave out what a checkpoint covers says so by `after`.
    pub fn partitions<'a>(
        &'a self,
        counter: &'a CounterKey,
        after: Timestamp,
        through: Timestamp,
    ) -> impl Iterator<Item = Partition> + 'a {
        let touched = self
            .records
            .iter()
            .rev()
            .filter(move |record| after < through && record.start <= through && record.end.previous() > after);
        touched.flat_map(move |record| {
            let first =
                record.time_bucket(record.start.max(Timestamp::from_micros(after.as_micros().saturating_add(1))));
            let last = record.time_bucket(record.end.previous().min(through));
            (first..=last).rev().flat_map(move |time_bucket| {
                (0..record.settings.buckets_per_id.get()).map(move |event_bucket| Partition {
                    counter: counter.clone(),
                    slice_start: record.start,
                    time_bucket,
                    event_bucket,
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{CounterName, Event, EventItem, NamespaceName, SliceSettings, Token};

    fn settings(accept_s: u64, width_s: u64, buckets: u16) -> SliceSettings {
        SliceSettings {
            buckets_per_id: NonZeroU16::new(buckets).unwrap(),
            bucket_width: Duration::from_secs(width_s),
            accept_limit: Duration::from_secs(accept_s),
            write_timeout: Duration::from_secs(2),
            max_clock_skew: Duration::from_secs(1),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn slice(start: i64, end: i64, settings: SliceSettings) -> SliceRecord {
        SliceRecord::new(at(start), at(end), settings).unwrap()
    }

    #[test]
    fn the_boundary_waits_for_the_slice_with_the_longer_limits_but_not_before_its_start() {
        let slices = Slices::new(vec![slice(0, 100, settings(5, 10, 1)), slice(100, 200, settings(60, 10, 1))]);
        assert_eq!(slices.boundary(at(50)), at(42));
        assert_eq!(slices.boundary(at(100)), at(92));
        assert_eq!(slices.boundary(at(108)), at(100), "the second slice holds it at its start");
        assert_eq!(slices.boundary(at(150)), at(100));
        assert_eq!(slices.boundary(at(170)), at(107));
        assert_eq!(slices.boundary(at(1000)), at(200), "never past what is known");
    }

    #[test]
    fn a_gap_hides_what_lies_behind_it() {
        let slices = Slices::new(vec![slice(0, 100, settings(5, 10, 1)), slice(200, 300, settings(5, 10, 1))]);
        assert_eq!(slices.end(), Some(at(100)));
        assert!(slices.accepting(at(250)).is_none());
    }

    #[test]
    fn a_chain_that_does_not_start_at_the_epoch_is_none() {
        assert!(Slices::new(vec![slice(100, 200, settings(5, 10, 1))]).is_empty());
    }

    #[test]
    fn a_slice_that_starts_inside_another_is_not_used_and_hides_nothing() {
        let raced = [
            slice(0, 100, settings(5, 10, 1)),
            slice(50, 150, settings(9, 10, 1)),
            slice(100, 200, settings(5, 10, 1)),
        ];
        assert_eq!(Slices::new(raced.to_vec()), Slices::new(vec![raced[0].clone(), raced[2].clone()]));
    }

    #[test]
    fn a_closed_slice_takes_no_events_and_holds_nothing_back() {
        let mut first = slice(0, 100, settings(500, 10, 1));
        first.state = SliceState::Closed;
        let slices = Slices::new(vec![first, slice(100, 200, settings(5, 10, 1))]);
        assert!(slices.accepting(at(99)).is_none());
        assert!(slices.accepting(at(100)).is_some());
        assert_eq!(slices.certified_until(), at(100));
        assert_eq!(slices.boundary(at(150)), at(142));
    }

    proptest! {
        #[test]
        fn every_event_of_a_window_lies_in_one_of_its_partitions(time in 0_i64..300_000_000, id in "[a-z]{1,8}", after in -1_i64..300_000_000, width in 1_u64..150, buckets in 1_u16..6) {
            let slices = Slices::new(vec![slice(0, 100, settings(5, width, buckets)), slice(100, 300, settings(5, 7, 3))]);
            let counter = CounterKey { namespace: NamespaceName::new("n").unwrap(), name: CounterName::new("c").unwrap() };
            let event = Event { event_time: Timestamp::from_micros(time), event_id: Token::new(&id).unwrap(), item: EventItem::Add(1) };
            let place = Partition::of(&counter, &event, slices.accepting(event.event_time).unwrap());
            let inside: Vec<_> = slices.partitions(&counter, Timestamp::from_micros(after), event.event_time).filter(|p| *p == place).collect();
            prop_assert_eq!(inside.len(), usize::from(after < time));
        }
    }
}
