//! Scanning: newest first, page by page, one partition at a time.

use std::collections::BTreeSet;

use crate::model::{Event, EventItem, Partition, SliceRecord, Timestamp};
use crate::store::conformance::DatasetFactory;
use crate::store::conformance::fixtures::{
    SLICE_WIDTH, add, append, append_all, append_in, at, counter, event, odd_counters, scan_pages, settings, slice,
    whole,
};
use crate::store::{Append, Scan};

/// Events of one partition with times and tokens chosen to sort differently as text, as numbers and by length.
fn crowd(partition: &Partition) -> Vec<Append> {
    let times = [0, 1, 2, 9, 10, 255, 256, 65_535, 65_536, 1_000_000];
    let ids = ["a", "b", "ab", "A", "z", "é", "a b", "aa"];
    let events = times.into_iter().flat_map(|time| ids.map(|id| add(at(time), id, time as i64)));
    events.map(|event| Append { partition: partition.clone(), event }).collect()
}

/// The limit changes how many pages there are and nothing else.
pub async fn pages_of_any_size_hold_every_event_once_newest_first(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let partition = Partition { counter: counter("c"), slice_start: slice(0).start, time_bucket: 0, event_bucket: 0 };
    let appends = crowd(&partition);
    let mut expected: Vec<Event> = appends.iter().map(|append| append.event.clone()).collect();
    expected.sort_by_key(|event| std::cmp::Reverse(event.key()));
    append_all(&*store, appends).await;
    for limit in [1, 2, 3, 7, expected.len() - 1, expected.len(), expected.len() + 1, 10_000] {
        let events = scan_pages(&*store, whole(&partition, limit)).await.expect("readable");
        assert_eq!(events, expected, "in pages of {limit}");
    }
}

/// The window is `after < event_time ≤ through`, also when it is resumed.
pub async fn bounds_exclude_after_and_include_through(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let partition = Partition { counter: counter("c"), slice_start: slice(0).start, time_bucket: 0, event_bucket: 0 };
    let appends = crowd(&partition);
    let all: Vec<Event> = appends.iter().map(|append| append.event.clone()).collect();
    append_all(&*store, appends).await;
    let edges = [Timestamp::MIN, at(0), at(1), at(9), at(10), at(255), at(300), at(1_000_000), Timestamp::MAX];
    for (after, through) in edges.iter().flat_map(|after| edges.iter().map(move |through| (*after, *through))) {
        let mut expected: Vec<Event> =
            all.iter().filter(|event| after < event.event_time && event.event_time <= through).cloned().collect();
        expected.sort_by_key(|event| std::cmp::Reverse(event.key()));
        for limit in [3, 1000] {
            let scan = Scan { partition: partition.clone(), after, through, resume: None, limit };
            let events = scan_pages(&*store, scan).await.expect("readable");
            assert_eq!(events, expected, "after {after} through {through} in pages of {limit}");
        }
    }
}

/// The order of a partition is by time, then token, whatever the operation.
pub async fn an_add_comes_before_the_clear_of_a_later_token_at_the_same_time(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let partition = Partition { counter: counter("c"), slice_start: slice(0).start, time_bucket: 0, event_bucket: 0 };
    let ordered = [
        add(at(5), "a", 1),
        event(at(5), "b", EventItem::Clear),
        add(at(5), "ba", 2),
        event(at(5), "c", EventItem::Clear),
        add(at(6), "a", 3),
    ];
    let appends = ordered.iter().map(|event| Append { partition: partition.clone(), event: event.clone() }).collect();
    append_all(&*store, appends).await;
    for limit in [1, 2, 10] {
        let mut events = scan_pages(&*store, whole(&partition, limit)).await.expect("readable");
        events.reverse();
        assert_eq!(events, ordered, "in pages of {limit}");
    }
}

/// No encoding treats a time as unsigned.
pub async fn event_times_before_the_epoch_order_as_numbers(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    let start = Timestamp::EPOCH.minus(SLICE_WIDTH / 2);
    let slice = SliceRecord::new(start, start.plus(SLICE_WIDTH), settings()).expect("whole seconds");
    store.create_slice(slice.clone()).await.expect("created");
    let partition = Partition { counter: counter("c"), slice_start: start, time_bucket: 0, event_bucket: 0 };
    let times = [-1_800_000_000, -2, -1, 0, 1, 2];
    let events: Vec<Event> = times.iter().map(|micros| add(Timestamp::from_micros(*micros), "t", *micros)).collect();
    let appends = events.iter().map(|event| Append { partition: partition.clone(), event: event.clone() }).collect();
    append_all(&*store, appends).await;
    let mut scanned = scan_pages(&*store, whole(&partition, 2)).await.expect("readable");
    scanned.reverse();
    assert_eq!(scanned, events);
}

/// Counters, slices and both buckets part events; a partition without events is empty, not an error.
pub async fn partitions_are_apart(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    let slices = [slice(0), slice(1)];
    for slice in &slices {
        store.create_slice(slice.clone()).await.expect("created");
    }
    let counters = [counter("c"), counter("c"), counter("d")];
    let mut partitions = Vec::new();
    for slice in &slices {
        for counter in &counters {
            for (time_bucket, event_bucket) in [(0, 0), (0, 1), (1, 0), (1, 1), (59, 2), (256, 256)] {
                let slice_start = slice.start;
                partitions.push(Partition { counter: counter.clone(), slice_start, time_bucket, event_bucket });
            }
        }
    }
    let own = |nth: usize| add(at(nth as u64), &format!("t{nth}"), nth as i64);
    for (nth, partition) in partitions.iter().enumerate() {
        let before = scan_pages(&*store, whole(partition, 10)).await.expect("readable");
        assert_eq!(before, [], "{partition:?}");
        append_all(&*store, vec![Append { partition: partition.clone(), event: own(nth) }]).await;
    }
    for (nth, partition) in partitions.iter().enumerate() {
        assert_eq!(scan_pages(&*store, whole(partition, 10)).await.expect("readable"), [own(nth)], "{partition:?}");
    }
}

/// Names and tokens with separators, prefixes of one another, and of the greatest length.
pub async fn odd_names_and_tokens_never_meet(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let longest = "é".repeat(128);
    let ids = ["t", "tt", "t/t", ":", " ", "\u{10ffff}", longest.as_str()];
    let counters = odd_counters();
    let one_bucket = |counter: &crate::model::CounterKey| Partition {
        counter: counter.clone(),
        slice_start: slice(0).start,
        time_bucket: 0,
        event_bucket: 0,
    };
    let mut expected = Vec::new();
    for (nth, counter) in counters.iter().enumerate() {
        let events: BTreeSet<_> = ids.iter().map(|id| (at(1), *id, nth as i64)).collect();
        let events: Vec<Event> = events.into_iter().rev().map(|(time, id, delta)| add(time, id, delta)).collect();
        let appends = events.iter().map(|event| Append { partition: one_bucket(counter), event: event.clone() });
        append_all(&*store, appends.collect()).await;
        expected.push(events);
    }
    for (counter, expected) in counters.iter().zip(expected) {
        for limit in [2, 100] {
            let events = scan_pages(&*store, whole(&one_bucket(counter), limit)).await.expect("readable");
            assert_eq!(events, expected, "{counter}");
        }
    }
    let (placed, ordinary) = (counter("placed"), add(at(61_000_000), "by-its-settings", 1));
    append_all(&*store, vec![append(&placed, &ordinary), append_in(&placed, &slice(0), &ordinary)]).await;
    let partition = Partition::of(&placed, &ordinary, &slice(0));
    assert_eq!(scan_pages(&*store, whole(&partition, 10)).await.expect("readable"), [ordinary]);
}
