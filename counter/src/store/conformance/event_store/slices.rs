//! Slices: created once, moved on, dropped whole.

use std::num::NonZeroU16;

use crate::model::{Partition, SliceRecord, SliceState};
use crate::store::conformance::DatasetFactory;
use crate::store::conformance::fixtures::{
    SLICE_WIDTH, add, append, append_all, append_in, at, counter, events_beside, scan_pages, slice, whole,
};
use crate::store::{Error, EventStore};

async fn records(store: &dyn EventStore) -> Vec<SliceRecord> {
    let mut records = store.slices().await.expect("readable");
    records.sort_by_key(|record| record.start);
    records
}

fn is_missing<T>(result: &Result<T, Error>, slice: &SliceRecord) -> bool {
    matches!(result, Err(Error::MissingSlice { slice_start }) if *slice_start == slice.start)
}

/// A repeated or late create changes neither settings nor state nor events.
pub async fn the_first_record_of_a_start_wins(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    assert_eq!(records(&*store).await, []);
    store.create_slice(slice(0)).await.expect("created");
    store.create_slice(slice(1)).await.expect("created");
    let (counter, event) = (counter("c"), add(at(1), "t", 1));
    append_all(&*store, vec![append(&counter, &event)]).await;
    store.set_slice_state(slice(1).start, SliceState::Closed).await.expect("closed");
    for other in [slice(0), slice(1)] {
        let mut other = other;
        other.settings.buckets_per_id = NonZeroU16::new(64).expect("64 is not 0");
        other.end = other.end.plus(SLICE_WIDTH);
        store.create_slice(other).await.expect("a late create harms nothing");
    }
    let mut second = slice(1);
    second.state = SliceState::Closed;
    assert_eq!(records(&*store).await, [slice(0), second]);
    assert_eq!(events_beside(&*store, &counter, &event).await, [event]);
}

/// Setting an earlier state is acknowledged and without effect.
pub async fn a_state_never_goes_back(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let steps = [
        (SliceState::Open, SliceState::Open),
        (SliceState::Closed, SliceState::Closed),
        (SliceState::Open, SliceState::Closed),
        (SliceState::Dropped, SliceState::Dropped),
        (SliceState::Closed, SliceState::Dropped),
        (SliceState::Open, SliceState::Dropped),
        (SliceState::Dropped, SliceState::Dropped),
    ];
    for (asked, expected) in steps {
        store.set_slice_state(slice(0).start, asked).await.expect("a state that is behind harms nothing");
        let states: Vec<_> = records(&*store).await.iter().map(|record| record.state).collect();
        assert_eq!(states, [expected], "after asking for {asked:?}");
    }
}

/// Nothing is ever read as empty that was never there.
pub async fn a_slice_that_was_never_created_is_missing_not_empty(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let (counter, event) = (counter("c"), add(slice(1).start, "t", 1));
    let partition = Partition::of(&counter, &event, &slice(1));
    let appended = store.append(vec![append_in(&counter, &slice(1), &event)]).await;
    assert!(appended.iter().all(|result| is_missing(result, &slice(1))), "{appended:?}");
    let scanned = store.scan(whole(&partition, 10)).await;
    assert!(is_missing(&scanned, &slice(1)), "{scanned:?}");
    let moved = store.set_slice_state(slice(1).start, SliceState::Closed).await;
    assert!(is_missing(&moved, &slice(1)), "{moved:?}");
    assert_eq!(records(&*store).await, [slice(0)]);
}

/// Dropping removes the slice's events and no others.
pub async fn a_dropped_slice_is_missing_and_its_neighbours_are_not(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    let counter = counter("c");
    let mut kept = Vec::new();
    for index in 0..3 {
        let slice = slice(index);
        store.create_slice(slice.clone()).await.expect("created");
        let event = add(slice.start, "t", i64::from(index));
        append_all(&*store, vec![append_in(&counter, &slice, &event)]).await;
        kept.push((slice, event));
    }
    let (dropped, gone) = kept.remove(1);
    store.set_slice_state(dropped.start, SliceState::Dropped).await.expect("dropped");
    store.set_slice_state(dropped.start, SliceState::Dropped).await.expect("dropping again finishes it");
    let scanned = store.scan(whole(&Partition::of(&counter, &gone, &dropped), 10)).await;
    assert!(is_missing(&scanned, &dropped), "{scanned:?}");
    let appended = store.append(vec![append_in(&counter, &dropped, &gone)]).await;
    assert!(appended.iter().all(|result| is_missing(result, &dropped)), "{appended:?}");
    for (slice, event) in kept {
        let partition = Partition::of(&counter, &event, &slice);
        assert_eq!(scan_pages(&*store, whole(&partition, 10)).await.expect("readable"), [event]);
    }
}

/// A late create does not bring a dropped slice back as an empty one.
pub async fn a_dropped_slice_stays_dropped_when_it_is_created_again(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let (counter, event) = (counter("c"), add(at(1), "t", 1));
    append_all(&*store, vec![append(&counter, &event)]).await;
    store.set_slice_state(slice(0).start, SliceState::Dropped).await.expect("dropped");
    store.create_slice(slice(0)).await.expect("a late create harms nothing");
    let states: Vec<_> = records(&*store).await.iter().map(|record| record.state).collect();
    assert_eq!(states, [SliceState::Dropped]);
    let scanned = store.scan(whole(&Partition::of(&counter, &event, &slice(0)), 10)).await;
    assert!(is_missing(&scanned, &slice(0)), "{scanned:?}");
}

/// Closed means certified, not gone.
pub async fn a_closed_slice_is_still_read(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let (counter, event) = (counter("c"), add(at(1), "t", 1));
    append_all(&*store, vec![append(&counter, &event)]).await;
    store.set_slice_state(slice(0).start, SliceState::Closed).await.expect("closed");
    assert_eq!(events_beside(&*store, &counter, &event).await, [event]);
}

/// Many processes may create ahead at the same time.
pub async fn slices_made_by_many_at_once_are_all_there(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    let makers: Vec<_> = (0..24)
        .map(|nth| {
            let store = store.clone();
            tokio::spawn(async move { store.create_slice(slice(nth % 6)).await.expect("created") })
        })
        .collect();
    for maker in makers {
        maker.await.expect("created");
    }
    assert_eq!(records(&*store).await, (0..6).map(slice).collect::<Vec<_>>());
}

/// Two datasets share neither slices nor events.
pub async fn datasets_are_apart(factory: &impl DatasetFactory) {
    let (first, second) = (factory.fresh().await.events, factory.fresh().await.events);
    first.create_slice(slice(0)).await.expect("created");
    assert_eq!(records(&*second).await, []);
    second.create_slice(slice(0)).await.expect("created");
    let (counter, event) = (counter("c"), add(at(1), "t", 1));
    append_all(&*first, vec![append(&counter, &event)]).await;
    assert_eq!(events_beside(&*second, &counter, &event).await, []);
    second.set_slice_state(slice(0).start, SliceState::Dropped).await.expect("dropped");
    assert_eq!(events_beside(&*first, &counter, &event).await, [event]);
    assert_eq!(records(&*first).await, [slice(0)]);
}
