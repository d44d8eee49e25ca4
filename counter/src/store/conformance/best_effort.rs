//! What every [`BestEffortStore`](crate::store::BestEffortStore) does.

use std::time::Duration;

use super::BestEffortFactory;
use super::fixtures::{counter, odd_counters};

const LONG: Duration = Duration::from_secs(3600);

/// Absent is absent, not zero.
pub async fn a_counter_never_added_to_is_absent(factory: &impl BestEffortFactory) {
    let store = factory.fresh().await;
    assert_eq!(store.get(&counter("never")).await.expect("answered"), None);
}

/// The first add makes the counter.
pub async fn adds_accumulate_and_answer_the_new_count(factory: &impl BestEffortFactory) {
    let (store, counter) = (factory.fresh().await, counter("c"));
    let mut count = 0;
    for delta in [3, 0, 4, 100_000_000_000, 1] {
        count += delta;
        assert_eq!(store.add(&counter, delta, LONG).await.expect("added"), count);
        assert_eq!(store.get(&counter).await.expect("answered"), Some(count));
    }
}

/// Zero is no floor, and numbers that get shorter read as what they are.
pub async fn counts_go_negative_and_come_back(factory: &impl BestEffortFactory) {
    let (store, counter) = (factory.fresh().await, counter("c"));
    let mut count = 0;
    for delta in [-1, 1, -5, -1_000_000, 1_000_004, 2, 1_000_000_000, -999_999_999, -3, 1] {
        count += delta;
        assert_eq!(store.add(&counter, delta, LONG).await.expect("added"), count, "after {delta}");
        assert_eq!(store.get(&counter).await.expect("answered"), Some(count), "after {delta}");
    }
}

/// Every signed 64-bit delta is valid.
pub async fn counts_wrap_around_at_the_ends_of_64_bits(factory: &impl BestEffortFactory) {
    let (store, counter) = (factory.fresh().await, counter("c"));
    let mut count = 0_i64;
    for delta in [i64::MAX, 1, -1, i64::MIN, i64::MIN, i64::MAX, i64::MAX, 3] {
        count = count.wrapping_add(delta);
        assert_eq!(store.add(&counter, delta, LONG).await.expect("added"), count, "after {delta}");
        assert_eq!(store.get(&counter).await.expect("answered"), Some(count), "after {delta}");
    }
}

/// Nothing is lost or counted twice among many, the creation included.
pub async fn concurrent_adds_all_count(factory: &impl BestEffortFactory) {
    const WRITERS: i64 = 16;
    const ADDS_EACH: i64 = 100;
    let (store, counter) = (factory.fresh().await, counter("hot"));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, counter) = (store.clone(), counter.clone());
            tokio::spawn(async move {
                for _ in 0..ADDS_EACH {
                    store.add(&counter, writer - WRITERS / 4, LONG).await.expect("added");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no writer failed");
    }
    let expected: i64 = (0..WRITERS).map(|writer| (writer - WRITERS / 4) * ADDS_EACH).sum();
    assert_eq!(store.get(&counter).await.expect("answered"), Some(expected));
}

/// Cleared is gone, not zero.
pub async fn a_cleared_counter_is_absent_and_starts_anew(factory: &impl BestEffortFactory) {
    let (store, counter) = (factory.fresh().await, counter("c"));
    store.add(&counter, 5, LONG).await.expect("added");
    store.clear(&counter).await.expect("cleared");
    assert_eq!(store.get(&counter).await.expect("answered"), None);
    assert_eq!(store.add(&counter, -2, LONG).await.expect("added"), -2);
}

/// Clearing twice is clearing.
pub async fn clearing_what_is_absent_is_fine(factory: &impl BestEffortFactory) {
    let (store, counter) = (factory.fresh().await, counter("c"));
    store.clear(&counter).await.expect("cleared");
    store.clear(&counter).await.expect("cleared");
    assert_eq!(store.get(&counter).await.expect("answered"), None);
}

/// Adds do not prolong a life, whatever time to live they bring.
pub async fn a_counter_lives_from_its_creation_not_from_its_last_add(factory: &impl BestEffortFactory) {
    let (store, short, long) = (factory.fresh().await, counter("short"), counter("long"));
    store.add(&short, 1, Duration::from_secs(3)).await.expect("added");
    store.add(&long, 1, LONG).await.expect("added");
    factory.pass(Duration::from_secs(1)).await;
    assert_eq!(store.add(&short, 1, LONG).await.expect("added"), 2, "still the same counter");
    factory.pass(Duration::from_secs(4)).await;
    assert_eq!(store.get(&short).await.expect("answered"), None);
    assert_eq!(store.add(&short, 7, LONG).await.expect("added"), 7);
    assert_eq!(store.get(&long).await.expect("answered"), Some(1));
}

/// Names with separators, prefixes of one another, and of the greatest length.
pub async fn best_effort_odd_names_never_meet(factory: &impl BestEffortFactory) {
    let (store, counters) = (factory.fresh().await, odd_counters());
    for (nth, counter) in counters.iter().enumerate() {
        assert_eq!(store.add(counter, nth as i64 + 1, LONG).await.expect("added"), nth as i64 + 1, "{counter}");
    }
    for (nth, counter) in counters.iter().enumerate() {
        assert_eq!(store.get(counter).await.expect("answered"), Some(nth as i64 + 1), "{counter}");
    }
}
