//! Appending: idempotent, in order, and seen as soon as it is acknowledged.

use crate::model::EventItem;
use crate::store::Error;
use crate::store::conformance::DatasetFactory;
use crate::store::conformance::fixtures::{
    add, append, append_all, append_in, at, counter, event, events_beside, slice,
};

/// A retry changes nothing and is acknowledged.
pub async fn an_event_appended_twice_is_there_once(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let (counter, event) = (counter("c"), add(at(10), "token", 5));
    append_all(&*store, vec![append(&counter, &event)]).await;
    append_all(&*store, vec![append(&counter, &event)]).await;
    append_all(&*store, vec![append(&counter, &event), append(&counter, &event)]).await;
    assert_eq!(events_beside(&*store, &counter, &event).await, [event]);
}

/// Each append has its own result: one refused among many refuses no other.
pub async fn results_stand_in_the_order_of_the_appends(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let counter = counter("c");
    let missing = slice(9);
    let (first, last) = (add(at(1), "first", 1), add(at(2), "last", 2));
    let lost = add(missing.start, "lost", 3);
    let results = store
        .append(vec![append(&counter, &first), append_in(&counter, &missing, &lost), append(&counter, &last)])
        .await;
    assert!(
        matches!(results.as_slice(), [Ok(()), Err(Error::MissingSlice { slice_start }), Ok(())] if *slice_start == missing.start),
        "{results:?}"
    );
    assert!(events_beside(&*store, &counter, &first).await.contains(&first));
    assert!(events_beside(&*store, &counter, &last).await.contains(&last));
    assert!(store.append(Vec::new()).await.is_empty(), "no appends, no results");
}

/// Every signed 64-bit delta, and a clear, keep their value.
pub async fn any_delta_and_a_clear_come_back_as_they_were(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let counter = counter("c");
    let items = [i64::MIN, i64::MIN + 1, -1, 0, 1, 255, 256, i64::MAX]
        .map(EventItem::Add)
        .into_iter()
        .chain([EventItem::Clear]);
    for (nth, item) in items.enumerate() {
        let event = event(at(nth as u64), &format!("t{nth}"), item);
        append_all(&*store, vec![append(&counter, &event)]).await;
        assert!(events_beside(&*store, &counter, &event).await.contains(&event), "{item:?}");
    }
}

/// Whoever appended, and however many do so at once: acknowledged is visible.
pub async fn what_is_acknowledged_is_in_every_later_scan(factory: &impl DatasetFactory) {
    const WRITERS: u64 = 8;
    const EVENTS_EACH: u64 = 25;
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let counter = counter("hot");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, counter) = (store.clone(), counter.clone());
            tokio::spawn(async move {
                for nth in 0..EVENTS_EACH {
                    let event = add(at(nth), &format!("{writer}-{nth}"), 1);
                    append_all(&*store, vec![append(&counter, &event)]).await;
                    assert!(events_beside(&*store, &counter, &event).await.contains(&event), "{event:?}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no writer failed");
    }
}

/// Hedges: one token sent by many at the same moment.
pub async fn the_same_event_appended_by_many_at_once_is_there_once(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.events;
    store.create_slice(slice(0)).await.expect("created");
    let (counter, event) = (counter("c"), add(at(10), "hedged", 7));
    let hedges: Vec<_> = (0..16)
        .map(|_| {
            let (store, append) = (store.clone(), append(&counter, &event));
            tokio::spawn(async move { append_all(&*store, vec![append]).await })
        })
        .collect();
    for hedge in hedges {
        hedge.await.expect("acknowledged");
    }
    assert_eq!(events_beside(&*store, &counter, &event).await, [event]);
}
