//! Listing: every row once, in pages of any size, in shares that together are the whole.

use std::collections::BTreeMap;

use crate::model::CounterKey;
use crate::store::conformance::DatasetFactory;
use crate::store::conformance::fixtures::{at, checkpoint, in_namespace, odd_counters, own_namespace};
use crate::store::{RollupRow, RollupStore, Share, Touch};

/// All pages of one share; panics where a row comes twice.
pub(super) async fn list_all(store: &dyn RollupStore, share: Share, limit: usize) -> BTreeMap<CounterKey, RollupRow> {
    let mut rows = BTreeMap::new();
    let mut from = None;
    loop {
        let page = store.list(share, from, limit).await.expect("readable");
        assert!(page.rows.len() <= limit, "a page of {} for a limit of {limit}", page.rows.len());
        for (counter, row) in page.rows {
            assert_eq!(rows.insert(counter.clone(), row), None, "{counter} came twice");
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return rows,
        }
    }
}

/// Rows of many names, odd ones among them, as they should be listed.
pub(super) async fn fill(store: &dyn RollupStore, count: u64) -> BTreeMap<CounterKey, RollupRow> {
    let namespaces = [own_namespace(), own_namespace()];
    let ordinary =
        (0..count).map(|nth| in_namespace(&namespaces[usize::from(nth % 3 == 0)], &format!("counter-{nth}")));
    let mut expected = BTreeMap::new();
    for (nth, counter) in ordinary.chain(odd_counters()).enumerate() {
        let nth = nth as u64;
        let mut row = RollupRow { last_write_ts: Some(at(nth)), ..RollupRow::default() };
        store.touch(&counter, Touch { last_write_ts: Some(at(nth)), first_write_ts: None }).await.expect("durable");
        if nth.is_multiple_of(2) {
            row.checkpoint = Some(checkpoint(nth, i128::from(nth)));
            store.write_checkpoint(&counter, checkpoint(nth, i128::from(nth))).await.expect("durable");
        }
        expected.insert(counter, row);
    }
    expected
}

/// No rows, no pages to follow.
pub async fn an_empty_dataset_lists_nothing(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    assert_eq!(list_all(&*store, Share::ALL, 10).await, BTreeMap::new());
    assert_eq!(list_all(&*store, Share { index: 2, count: 3 }, 10).await, BTreeMap::new());
}

/// The limit changes how many pages there are and nothing else; other datasets' rows are not listed.
pub async fn pages_of_any_size_hold_every_row_once(factory: &impl DatasetFactory) {
    let (store, other) = (factory.fresh().await.rollups, factory.fresh().await.rollups);
    let expected = fill(&*store, 60).await;
    fill(&*other, 5).await;
    for limit in [1, 2, 7, expected.len() - 1, expected.len(), expected.len() + 1, 1000] {
        assert_eq!(list_all(&*store, Share::ALL, limit).await, expected, "in pages of {limit}");
    }
}

/// Every row is in exactly one share, however many there are.
pub async fn shares_are_disjoint_and_complete(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    let expected = fill(&*store, 60).await;
    for count in [1, 2, 3, 7, 64] {
        let mut union = BTreeMap::new();
        for index in 0..count {
            for (counter, row) in list_all(&*store, Share { index, count }, 5).await {
                assert_eq!(union.insert(counter.clone(), row), None, "{counter} is in two of {count} shares");
            }
        }
        assert_eq!(union, expected, "in {count} shares");
    }
}

/// What was there before the first page is listed once, whatever is written meanwhile.
pub async fn rows_written_during_a_listing_do_not_disturb_it(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    let expected = fill(&*store, 40).await;
    let counters: Vec<CounterKey> = expected.keys().cloned().collect();
    let writer = {
        let (store, counters) = (store.clone(), counters.clone());
        tokio::spawn(async move {
            let namespace = own_namespace();
            for (nth, counter) in counters.iter().enumerate() {
                let touch = Touch { last_write_ts: Some(at(5_000 + nth as u64)), first_write_ts: None };
                store.touch(counter, touch).await.expect("durable");
                store.touch(&in_namespace(&namespace, &format!("new-{nth}")), touch).await.expect("durable");
            }
        })
    };
    let mut from = None;
    let mut times_seen: BTreeMap<CounterKey, usize> = BTreeMap::new();
    loop {
        let page = store.list(Share::ALL, from, 3).await.expect("readable");
        for (counter, _) in page.rows {
            *times_seen.entry(counter).or_default() += 1;
        }
        match page.next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    writer.await.expect("no write failed");
    for counter in counters {
        assert_eq!(times_seen.get(&counter), Some(&1), "{counter}");
    }
    assert!(times_seen.values().all(|times| *times == 1), "no row twice");
}
