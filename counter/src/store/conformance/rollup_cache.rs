//! What every [`RollupCache`](crate::store::RollupCache) does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::RollupCacheFactory;
use super::fixtures::{checkpoint, counter, odd_counters};
use crate::model::{Checkpoint, Timestamp};

/// Long enough for a server that counts whole seconds to have noticed.
const MARGIN: Duration = Duration::from_secs(2);

/// A miss is no error.
pub async fn what_was_never_offered_is_absent(factory: &impl RollupCacheFactory) {
    let cache = factory.fresh().await;
    assert_eq!(cache.get(&counter("never")).await.expect("answered"), None);
}

/// An offer is seen by later reads.
pub async fn what_is_offered_is_there(factory: &impl RollupCacheFactory) {
    let (cache, counter) = (factory.fresh().await, counter("c"));
    cache.offer(&counter, checkpoint(10, 5)).await.expect("taken");
    assert_eq!(cache.get(&counter).await.expect("answered"), Some(checkpoint(10, 5)));
}

/// By time, and at equal times by count.
pub async fn only_a_greater_checkpoint_replaces(factory: &impl RollupCacheFactory) {
    let (cache, counter) = (factory.fresh().await, counter("c"));
    let mut greatest = None;
    for (time, count) in [(10, 5), (9, 100), (10, 4), (10, 6), (11, -3), (10, 9), (11, -3), (11, -4)] {
        let offered = checkpoint(time, count);
        cache.offer(&counter, offered).await.expect("answered");
        greatest = greatest.max(Some(offered));
        assert_eq!(cache.get(&counter).await.expect("answered"), greatest, "after {offered:?}");
    }
}

/// Offers from many at once: no reader sees a checkpoint after a greater one.
pub async fn racing_offers_end_with_the_greatest_and_readers_never_see_one_go_back(factory: &impl RollupCacheFactory) {
    const WRITERS: u64 = 6;
    const OFFERS_EACH: u64 = 60;
    let (cache, counter) = (factory.fresh().await, counter("hot"));
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (cache, counter, done) = (cache.clone(), counter.clone(), done.clone());
        tokio::spawn(async move {
            let mut last = None;
            while !done.load(Ordering::Acquire) {
                let now = cache.get(&counter).await.expect("answered");
                assert!(now >= last, "{now:?} after {last:?}");
                last = now;
                tokio::task::yield_now().await;
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (cache, counter) = (cache.clone(), counter.clone());
            tokio::spawn(async move {
                for nth in 0..OFFERS_EACH {
                    let time = 1 + (nth * WRITERS + writer) * 71 % (WRITERS * OFFERS_EACH);
                    let offered = checkpoint(time, i128::from(writer));
                    // A cache may give up on a contended compare-and-set and say so; the next rollup offers again.
                    if cache.offer(&counter, offered).await.is_ok() {
                        let cached = cache.get(&counter).await.expect("answered");
                        assert!(cached >= Some(offered), "{cached:?} after {offered:?} was taken");
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no writer failed");
    }
    done.store(true, Ordering::Release);
    reader.await.expect("nothing went back");
    let greatest = checkpoint(WRITERS * OFFERS_EACH + 1, 0);
    cache.offer(&counter, greatest).await.expect("taken");
    assert_eq!(cache.get(&counter).await.expect("answered"), Some(greatest));
}

/// So that an offer that was lost does not stay lost for ever.
pub async fn entries_expire<F: RollupCacheFactory>(factory: &F) {
    let (cache, counter) = (factory.fresh().await, counter("c"));
    cache.offer(&counter, checkpoint(10, 5)).await.expect("taken");
    factory.pass(F::EXPIRY + MARGIN).await;
    assert_eq!(cache.get(&counter).await.expect("answered"), None);
}

/// What has expired is compared with nothing.
pub async fn an_expired_entry_no_longer_outranks_an_offer<F: RollupCacheFactory>(factory: &F) {
    let (cache, counter) = (factory.fresh().await, counter("c"));
    cache.offer(&counter, checkpoint(10, 5)).await.expect("taken");
    factory.pass(F::EXPIRY + MARGIN).await;
    cache.offer(&counter, checkpoint(9, 1)).await.expect("taken");
    assert_eq!(cache.get(&counter).await.expect("answered"), Some(checkpoint(9, 1)));
}

/// Names with separators, prefixes of one another, and of the greatest length.
pub async fn cached_odd_names_never_meet(factory: &impl RollupCacheFactory) {
    let (cache, counters) = (factory.fresh().await, odd_counters());
    for (nth, counter) in counters.iter().enumerate() {
        assert_eq!(cache.get(counter).await.expect("answered"), None, "{counter}");
        cache.offer(counter, checkpoint(nth as u64, nth as i128)).await.expect("taken");
    }
    for (nth, counter) in counters.iter().enumerate() {
        let cached = cache.get(counter).await.expect("answered");
        assert_eq!(cached, Some(checkpoint(nth as u64, nth as i128)), "{counter}");
    }
}

/// Counts of 128 bits, and times on both sides of the epoch.
pub async fn cached_counts_and_times_of_any_size_come_back(factory: &impl RollupCacheFactory) {
    let cache = factory.fresh().await;
    for last_rollup_count in [i128::MIN, -1, 0, 1, i128::MAX] {
        for micros in [i64::MIN, -1, 0, 1, i64::MAX] {
            let counter = counter("c");
            let offered = Checkpoint { last_rollup_ts: Timestamp::from_micros(micros), last_rollup_count };
            cache.offer(&counter, offered).await.expect("taken");
            assert_eq!(cache.get(&counter).await.expect("answered"), Some(offered));
        }
    }
}
