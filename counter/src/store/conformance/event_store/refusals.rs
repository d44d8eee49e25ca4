//! What a store refuses beyond the contract, where its capabilities say so.

use crate::model::{Event, EventItem};
use crate::store::Error;
use crate::store::conformance::fixtures::{
    add, append, append_all, at, checkpoint, counter, event, events_beside, slice,
};
use crate::store::conformance::{Dataset, DatasetFactory};

async fn with_a_slice(factory: &impl DatasetFactory) -> Dataset {
    let dataset = factory.fresh().await;
    dataset.events.create_slice(slice(0)).await.expect("created");
    dataset
}

/// As the macro call says.
pub async fn claims_to_detect_token_reuse(factory: &impl DatasetFactory) {
    assert!(factory.fresh().await.events.capabilities().detects_token_reuse);
}

/// As the macro call says.
pub async fn does_not_claim_to_detect_token_reuse(factory: &impl DatasetFactory) {
    assert!(!factory.fresh().await.events.capabilities().detects_token_reuse);
}

/// As the macro call says.
pub async fn claims_to_refuse_behind_the_boundary(factory: &impl DatasetFactory) {
    assert!(factory.fresh().await.events.capabilities().refuses_behind_boundary);
}

/// As the macro call says.
pub async fn does_not_claim_to_refuse_behind_the_boundary(factory: &impl DatasetFactory) {
    assert!(!factory.fresh().await.events.capabilities().refuses_behind_boundary);
}

/// The first write stays, and is still acknowledged when it is repeated.
pub async fn a_token_with_another_delta_is_refused_and_changes_nothing(factory: &impl DatasetFactory) {
    let store = with_a_slice(factory).await.events;
    let (counter, first) = (counter("c"), add(at(1), "t", 1));
    append_all(&*store, vec![append(&counter, &first)]).await;
    for delta in [2, 0, -1, i64::MIN] {
        let results = store.append(vec![append(&counter, &add(at(1), "t", delta))]).await;
        assert!(matches!(results.as_slice(), [Err(Error::TokenReused)]), "{delta}: {results:?}");
    }
    append_all(&*store, vec![append(&counter, &first)]).await;
    assert_eq!(events_beside(&*store, &counter, &first).await, [first]);
}

/// An add's token does not clear, and a clear's token does not add.
pub async fn a_token_with_another_operation_is_refused_and_changes_nothing(factory: &impl DatasetFactory) {
    let store = with_a_slice(factory).await.events;
    let counter = counter("c");
    let items = [EventItem::Add(0), EventItem::Clear];
    for (stored, offered) in [(items[0], items[1]), (items[1], items[0])] {
        let id = format!("{stored:?}");
        let first = event(at(1), &id, stored);
        append_all(&*store, vec![append(&counter, &first)]).await;
        let results = store.append(vec![append(&counter, &event(at(1), &id, offered))]).await;
        assert!(matches!(results.as_slice(), [Err(Error::TokenReused)]), "{results:?}");
        let at_this_time: Vec<Event> = events_beside(&*store, &counter, &first).await;
        assert_eq!(at_this_time.iter().filter(|event| event.event_id == first.event_id).collect::<Vec<_>>(), [&first]);
    }
}

/// Also where the first write is not durable yet when the second arrives.
pub async fn a_token_reused_within_one_call_is_refused(factory: &impl DatasetFactory) {
    let store = with_a_slice(factory).await.events;
    let (counter, first) = (counter("c"), add(at(1), "t", 1));
    let results = store
        .append(vec![
            append(&counter, &first),
            append(&counter, &add(at(1), "t", 2)),
            append(&counter, &first),
            append(&counter, &event(at(1), "t", EventItem::Clear)),
        ])
        .await;
    let expected = matches!(results.as_slice(), [Ok(()), Err(Error::TokenReused), Ok(()), Err(Error::TokenReused)]);
    assert!(expected, "{results:?}");
    assert_eq!(events_beside(&*store, &counter, &first).await, [first]);
}

/// A race of different writes leaves the acknowledged one, and tells all others.
pub async fn of_many_different_writes_of_one_token_one_wins(factory: &impl DatasetFactory) {
    let store = with_a_slice(factory).await.events;
    let counter = counter("c");
    let writers: Vec<_> = (0..12)
        .map(|delta| {
            let (store, append) = (store.clone(), append(&counter, &add(at(1), "contested", delta)));
            tokio::spawn(async move { (delta, store.append(vec![append]).await) })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        let (delta, results) = writer.await.expect("answered");
        match results.as_slice() {
            [Ok(())] => winners.push(add(at(1), "contested", delta)),
            [Err(Error::TokenReused)] => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    let any = add(at(1), "contested", 0);
    assert_eq!(events_beside(&*store, &counter, &any).await, winners);
}

/// A token names a mutation of one counter at one time.
pub async fn a_token_of_another_counter_or_time_is_another_token(factory: &impl DatasetFactory) {
    let store = with_a_slice(factory).await.events;
    let (here, there) = (counter("c"), counter("c"));
    append_all(&*store, vec![append(&here, &add(at(1), "t", 1))]).await;
    append_all(&*store, vec![append(&there, &add(at(1), "t", 2)), append(&here, &add(at(2), "t", 3))]).await;
    assert_eq!(events_beside(&*store, &there, &add(at(1), "t", 2)).await, [add(at(1), "t", 2)]);
}

/// At the boundary is behind it; just after is not. Other counters' checkpoints count, and a stored event is no exception.
pub async fn events_at_or_before_the_highest_checkpoint_are_refused(factory: &impl DatasetFactory) {
    let Dataset { events, rollups } = with_a_slice(factory).await;
    let (written, rolled_up) = (counter("written"), counter("rolled-up"));
    let early = add(at(50), "early", 1);
    append_all(&*events, vec![append(&written, &early)]).await;
    rollups.write_checkpoint(&rolled_up, checkpoint(100, 0)).await.expect("written");
    for (time, id) in [(50, "early"), (99, "before"), (100, "at")] {
        let results = events.append(vec![append(&written, &add(at(time), id, 1))]).await;
        assert!(
            matches!(results.as_slice(), [Err(Error::BehindBoundary { boundary })] if *boundary == at(100)),
            "{id}: {results:?}"
        );
    }
    let after = add(at(101), "after", 1);
    append_all(&*events, vec![append(&written, &after)]).await;
    assert!(events_beside(&*events, &written, &after).await.contains(&after));
    assert!(events_beside(&*events, &written, &early).await.contains(&early), "what was taken stays");
}

/// The boundary is the highest checkpoint offered to any counter, not the last one.
pub async fn a_checkpoint_that_did_not_win_still_raises_the_boundary(factory: &impl DatasetFactory) {
    let Dataset { events, rollups } = with_a_slice(factory).await;
    let (one, two) = (counter("one"), counter("two"));
    rollups.write_checkpoint(&one, checkpoint(200, 0)).await.expect("written");
    rollups.write_checkpoint(&two, checkpoint(100, 0)).await.expect("written");
    rollups.write_checkpoint(&one, checkpoint(150, 9)).await.expect("without effect");
    let results = events.append(vec![append(&two, &add(at(200), "t", 1))]).await;
    assert!(
        matches!(results.as_slice(), [Err(Error::BehindBoundary { boundary })] if *boundary == at(200)),
        "{results:?}"
    );
}

/// Whatever the interleaving: when the checkpoint is acknowledged, every event behind it is either visible or refused.
pub async fn no_event_is_accepted_behind_a_checkpoint_that_races_it(factory: &impl DatasetFactory) {
    let Dataset { events, rollups } = with_a_slice(factory).await;
    let counter = counter("c");
    for round in 0..20_u64 {
        let boundary = (round + 1) * 1000;
        let writer = {
            let (events, counter) = (events.clone(), counter.clone());
            tokio::spawn(async move {
                let mut refused = 0;
                for nth in 0..10 {
                    let event = add(at(boundary - nth), &format!("{round}-{nth}"), 1);
                    match events.append(vec![append(&counter, &event)]).await.as_slice() {
                        [Ok(())] => {}
                        [Err(Error::BehindBoundary { .. })] => refused += 1,
                        other => panic!("{other:?}"),
                    }
                }
                refused
            })
        };
        rollups.write_checkpoint(&counter, checkpoint(boundary, 0)).await.expect("written");
        let mut seen = 0;
        for bucket in 0..3 {
            let partition = crate::model::Partition {
                counter: counter.clone(),
                slice_start: slice(0).start,
                time_bucket: 0,
                event_bucket: bucket,
            };
            let mut scan = crate::store::conformance::fixtures::whole(&partition, 1000);
            (scan.after, scan.through) = (at(boundary - 10), at(boundary));
            seen += crate::store::conformance::fixtures::scan_pages(&*events, scan).await.expect("readable").len();
        }
        let refused = writer.await.expect("answered");
        assert_eq!(seen + refused, 10, "round {round}: an event was accepted after the checkpoint that covers it");
    }
}
