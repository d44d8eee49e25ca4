//! Rows: each part merges by its own rule, whoever writes in whatever order.

use crate::model::{Checkpoint, Timestamp};
use crate::store::conformance::DatasetFactory;
use crate::store::conformance::fixtures::{at, checkpoint, counter, odd_counters};
use crate::store::{RollupRow, Touch};

fn touch(last: Option<u64>, first: Option<u64>) -> Touch {
    Touch { last_write_ts: last.map(at), first_write_ts: first.map(at) }
}

/// Absent is absent, not a row of zeros.
pub async fn a_counter_without_writes_has_no_row(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    assert_eq!(store.read(&counter("never")).await.expect("readable"), None);
    store.touch(&counter("written"), touch(Some(1), Some(1))).await.expect("durable");
    assert_eq!(store.read(&counter("never")).await.expect("readable"), None);
}

/// The last write is a maximum, the first write a minimum, each for itself.
pub async fn touches_keep_the_latest_and_the_earliest_time(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    let counter = counter("c");
    let steps = [
        (touch(Some(50), None), (Some(50), None)),
        (touch(Some(40), Some(45)), (Some(50), Some(45))),
        (touch(None, Some(60)), (Some(50), Some(45))),
        (touch(Some(70), Some(30)), (Some(70), Some(30))),
        (touch(Some(70), Some(30)), (Some(70), Some(30))),
        (touch(Some(69), Some(31)), (Some(70), Some(30))),
    ];
    for (touch, (last, first)) in steps {
        store.touch(&counter, touch).await.expect("durable");
        let expected = RollupRow { checkpoint: None, last_write_ts: last.map(at), first_write_ts: first.map(at) };
        assert_eq!(store.read(&counter).await.expect("readable"), Some(expected), "after {touch:?}");
    }
}

/// A touch without times is taken and moves nothing.
pub async fn a_touch_of_nothing_changes_no_bound(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    let counter = counter("c");
    store.touch(&counter, touch(Some(5), Some(4))).await.expect("durable");
    store.touch(&counter, Touch::default()).await.expect("durable");
    let expected = RollupRow { checkpoint: None, last_write_ts: Some(at(5)), first_write_ts: Some(at(4)) };
    assert_eq!(store.read(&counter).await.expect("readable"), Some(expected));
}

/// A late server's checkpoint is acknowledged and without effect.
pub async fn the_greater_checkpoint_wins_whatever_the_order(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    let counter = counter("c");
    let mut greatest = None;
    for (time, count) in [(20, 5), (10, 100), (20, 5), (30, -7), (29, i128::MAX), (30, -7)] {
        let offered = checkpoint(time, count);
        store.write_checkpoint(&counter, offered).await.expect("durable");
        greatest = greatest.max(Some(offered));
        assert_eq!(store.read(&counter).await.expect("readable").and_then(|row| row.checkpoint), greatest);
    }
}

/// So that racing servers end with the same value.
pub async fn at_equal_times_the_greater_count_wins(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    let counter = counter("c");
    for (count, expected) in [(-5, -5), (-6, -5), (3, 3), (-1, 3), (0, 3), (4, 4)] {
        store.write_checkpoint(&counter, checkpoint(10, count)).await.expect("durable");
        let row = store.read(&counter).await.expect("readable").expect("there");
        assert_eq!(row.checkpoint, Some(checkpoint(10, expected)), "after {count}");
    }
}

/// Each part of a row is written without the others.
pub async fn checkpoints_and_touches_leave_each_other_alone(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    let counter = counter("c");
    store.write_checkpoint(&counter, checkpoint(10, 1)).await.expect("durable");
    let mut expected = RollupRow { checkpoint: Some(checkpoint(10, 1)), ..RollupRow::default() };
    assert_eq!(store.read(&counter).await.expect("readable"), Some(expected));
    store.touch(&counter, touch(Some(20), None)).await.expect("durable");
    expected.last_write_ts = Some(at(20));
    assert_eq!(store.read(&counter).await.expect("readable"), Some(expected));
    store.touch(&counter, touch(None, Some(5))).await.expect("durable");
    expected.first_write_ts = Some(at(5));
    assert_eq!(store.read(&counter).await.expect("readable"), Some(expected));
    store.write_checkpoint(&counter, checkpoint(30, 2)).await.expect("durable");
    expected.checkpoint = Some(checkpoint(30, 2));
    assert_eq!(store.read(&counter).await.expect("readable"), Some(expected));
}

/// Counts of 128 bits, and times on both sides of the epoch.
pub async fn counts_and_times_of_any_size_come_back(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    for last_rollup_count in [i128::MIN, i128::from(i64::MIN), -1, 0, 1, i128::from(i64::MAX) + 1, i128::MAX] {
        for micros in [-1_000_000_007, -1, 0, 1, 4_000_000_000_000_000] {
            let (counter, time) = (counter("c"), Timestamp::from_micros(micros));
            let checkpoint = Checkpoint { last_rollup_ts: time, last_rollup_count };
            store.write_checkpoint(&counter, checkpoint).await.expect("durable");
            store
                .touch(&counter, Touch { last_write_ts: Some(time), first_write_ts: Some(time) })
                .await
                .expect("durable");
            let expected =
                RollupRow { checkpoint: Some(checkpoint), last_write_ts: Some(time), first_write_ts: Some(time) };
            assert_eq!(store.read(&counter).await.expect("readable"), Some(expected));
        }
    }
}

/// No write is lost among many, and none moves a part back.
pub async fn concurrent_touches_and_checkpoints_end_at_their_extremes(factory: &impl DatasetFactory) {
    const WRITERS: u64 = 8;
    const WRITES_EACH: u64 = 20;
    let store = factory.fresh().await.rollups;
    let counter = counter("hot");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, counter) = (store.clone(), counter.clone());
            tokio::spawn(async move {
                for nth in 0..WRITES_EACH {
                    // A different order for every writer, over the same times 1..=160.
                    let time = 1 + (nth * WRITERS + writer) * 37 % (WRITERS * WRITES_EACH);
                    store.touch(&counter, touch(Some(time), Some(time))).await.expect("durable");
                    store.write_checkpoint(&counter, checkpoint(time, i128::from(writer))).await.expect("durable");
                    let row = store.read(&counter).await.expect("readable").expect("there");
                    assert!(row.last_write_ts >= Some(at(time)), "{row:?} after {time}");
                    assert!(row.first_write_ts.is_some_and(|first| first <= at(time)), "{row:?} after {time}");
                    assert!(row.checkpoint >= Some(checkpoint(time, i128::from(writer))), "{row:?} after {time}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no writer failed");
    }
    let row = store.read(&counter).await.expect("readable").expect("there");
    assert_eq!((row.last_write_ts, row.first_write_ts), (Some(at(160)), Some(at(1))));
    assert_eq!(row.checkpoint.map(|checkpoint| checkpoint.last_rollup_ts), Some(at(160)));
}

/// Names with separators, prefixes of one another, and of the greatest length.
pub async fn rows_of_odd_names_never_meet(factory: &impl DatasetFactory) {
    let store = factory.fresh().await.rollups;
    let counters = odd_counters();
    for (nth, counter) in counters.iter().enumerate() {
        assert_eq!(store.read(counter).await.expect("readable"), None, "{counter}");
        store.touch(counter, touch(Some(nth as u64), None)).await.expect("durable");
    }
    for (nth, counter) in counters.iter().enumerate() {
        let row = store.read(counter).await.expect("readable").expect("there");
        assert_eq!(row.last_write_ts, Some(at(nth as u64)), "{counter}");
    }
}

/// Two datasets share no rows.
pub async fn rows_of_two_datasets_are_apart(factory: &impl DatasetFactory) {
    let (first, second) = (factory.fresh().await.rollups, factory.fresh().await.rollups);
    let counter = counter("c");
    first.touch(&counter, touch(Some(1), None)).await.expect("durable");
    first.write_checkpoint(&counter, checkpoint(1, 1)).await.expect("durable");
    assert_eq!(second.read(&counter).await.expect("readable"), None);
}
