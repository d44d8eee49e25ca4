//! What a restart leaves, for backends that outlive their process.

use crate::model::{EventItem, Partition, SliceState};
use crate::store::Error;
use crate::store::conformance::DatasetFactory;
use crate::store::conformance::fixtures::{
    add, append, append_all, append_in, at, checkpoint, counter, event, scan_pages, slice, whole,
};

/// Everything acknowledged is there, and writing goes on.
pub async fn events_and_slices_are_there_after_a_restart(factory: &impl DatasetFactory) {
    let dataset = factory.fresh().await;
    let mut closed = slice(1);
    for slice in [slice(0), slice(1), slice(2)] {
        dataset.events.create_slice(slice).await.expect("created");
    }
    dataset.events.set_slice_state(closed.start, SliceState::Closed).await.expect("closed");
    closed.state = SliceState::Closed;
    let counter = counter("c/ü");
    let partition =
        Partition { counter: counter.clone(), slice_start: slice(0).start, time_bucket: 0, event_bucket: 0 };
    let mut expected = Vec::new();
    for nth in 0..200_u64 {
        let item = if nth % 50 == 7 { EventItem::Clear } else { EventItem::Add(nth as i64 - 100) };
        expected.push(event(at(nth), &format!("t{nth}"), item));
    }
    let append_of =
        |event: &crate::model::Event| crate::store::Append { partition: partition.clone(), event: event.clone() };
    append_all(&*dataset.events, expected.iter().map(append_of).collect()).await;
    let mut dataset = dataset;
    for restart in 0..3_u64 {
        dataset = factory.reopen(dataset).await;
        let mut scanned = scan_pages(&*dataset.events, whole(&partition, 64)).await.expect("readable");
        scanned.reverse();
        assert_eq!(scanned, expected, "after restart {restart}");
        let mut slices = dataset.events.slices().await.expect("readable");
        slices.sort_by_key(|record| record.start);
        assert_eq!(slices, [slice(0), closed.clone(), slice(2)]);
        let more = add(at(1000 + restart), "more", 1);
        append_all(&*dataset.events, vec![append_of(&more)]).await;
        expected.push(more);
    }
}

/// Reuse and late events are refused after a restart exactly where the capabilities say so; retries are taken.
pub async fn tokens_and_the_boundary_are_remembered_as_claimed_after_a_restart(factory: &impl DatasetFactory) {
    let dataset = factory.fresh().await;
    dataset.events.create_slice(slice(0)).await.expect("created");
    let counter = counter("c");
    let first = add(at(500), "t", 1);
    append_all(&*dataset.events, vec![append(&counter, &first)]).await;
    dataset.rollups.write_checkpoint(&counter, checkpoint(100, 0)).await.expect("written");
    let dataset = factory.reopen(dataset).await;
    let capabilities = dataset.events.capabilities();
    append_all(&*dataset.events, vec![append(&counter, &first)]).await;
    let reused = dataset.events.append(vec![append(&counter, &add(at(500), "t", 2))]).await;
    assert_eq!(matches!(reused.as_slice(), [Err(Error::TokenReused)]), capabilities.detects_token_reuse, "{reused:?}");
    let late = dataset.events.append(vec![append(&counter, &add(at(100), "late", 1))]).await;
    let refused = matches!(late.as_slice(), [Err(Error::BehindBoundary { boundary })] if *boundary == at(100));
    assert_eq!(refused, capabilities.refuses_behind_boundary, "{late:?}");
}

/// A dropped slice does not come back.
pub async fn a_drop_survives_a_restart(factory: &impl DatasetFactory) {
    let dataset = factory.fresh().await;
    let counter = counter("c");
    for index in 0..2 {
        dataset.events.create_slice(slice(index)).await.expect("created");
        let event = add(slice(index).start, "t", 1);
        append_all(&*dataset.events, vec![append_in(&counter, &slice(index), &event)]).await;
    }
    dataset.events.set_slice_state(slice(0).start, SliceState::Dropped).await.expect("dropped");
    let dataset = factory.reopen(dataset).await;
    let partition = |index: u32| Partition::of(&counter, &add(slice(index).start, "t", 1), &slice(index));
    let gone = dataset.events.scan(whole(&partition(0), 10)).await;
    assert!(matches!(gone, Err(Error::MissingSlice { .. })), "{gone:?}");
    let kept = scan_pages(&*dataset.events, whole(&partition(1), 10)).await.expect("readable");
    assert_eq!(kept, [add(slice(1).start, "t", 1)]);
    dataset.events.set_slice_state(slice(0).start, SliceState::Dropped).await.expect("dropping again is fine");
}
