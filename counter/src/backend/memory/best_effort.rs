//! Best-effort counters in memory: bounded in bytes, each with a life that begins when it is created.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quick_cache::Weighter;

use crate::clock::Clock;
use crate::model::CounterKey;
use crate::store::{BestEffortStore, Result};

/// What a counter costs besides its names: the entry itself, two shared strings' headers, and the cache's own tables.
const ENTRY_OVERHEAD_BYTES: usize = 160;
/// What the tables are first laid out for; a guess that only saves growing them.
const ENTRIES_ESTIMATED: usize = 1024;

#[derive(Debug, Clone, Copy)]
struct Entry {
    count: i64,
    /// By the clock's monotonic time.
    expires: Duration,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<CounterKey, Entry> for Bytes {
    fn weight(&self, counter: &CounterKey, _: &Entry) -> u64 {
        (ENTRY_OVERHEAD_BYTES + counter.namespace.as_str().len() + counter.name.as_str().len()) as u64
    }
}

/// Best-effort counters in memory. When they are full, what is used least is forgotten, as a cache server would.
pub struct BestEffort {
    counters: Mutex<quick_cache::unsync::Cache<CounterKey, Entry, Bytes>>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for BestEffort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = self.lock();
        f.debug_struct("BestEffort")
            .field("counters", &counters.len())
            .field("bytes", &counters.weight())
            .field("capacity_bytes", &counters.capacity())
            .finish_non_exhaustive()
    }
}

impl BestEffort {
    /// Counters of together at most `capacity_bytes`.
    #[must_use]
    pub fn new(capacity_bytes: u64, clock: Arc<dyn Clock>) -> Self {
        let counters = quick_cache::unsync::Cache::with_weighter(ENTRIES_ESTIMATED, capacity_bytes, Bytes);
        Self { counters: Mutex::new(counters), clock }
    }

    /// A panic of another holder left the counters whole, so its poison is ignored.
    fn lock(&self) -> MutexGuard<'_, quick_cache::unsync::Cache<CounterKey, Entry, Bytes>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BestEffortStore for BestEffort {
    async fn add(&self, counter: &CounterKey, delta: i64, ttl: Duration) -> Result<i64> {
        let mut counters = self.lock();
        let now = self.clock.monotonic();
        if let Some(mut entry) = counters.get_mut(counter)
            && now < entry.expires
        {
            entry.count = entry.count.wrapping_add(delta);
            return Ok(entry.count);
        }
        counters.insert(counter.clone(), Entry { count: delta, expires: now.saturating_add(ttl) });
        Ok(delta)
    }

    async fn get(&self, counter: &CounterKey) -> Result<Option<i64>> {
        let now = self.clock.monotonic();
        Ok(self.lock().get(counter).filter(|entry| now < entry.expires).map(|entry| entry.count))
    }

    async fn clear(&self, counter: &CounterKey) -> Result<()> {
        self.lock().remove(counter);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::model::{CounterName, NamespaceName};

    #[tokio::test]
    async fn a_full_store_stays_within_its_bytes_and_keeps_counting() {
        let store = BestEffort::new(64 * 1024, Arc::new(SystemClock::new()));
        let counter = |nth: u32| CounterKey {
            namespace: NamespaceName::new("n").unwrap(),
            name: CounterName::new(&format!("counter-{nth}")).unwrap(),
        };
        for nth in 0..10_000 {
            store.add(&counter(nth), 1, Duration::from_secs(60)).await.unwrap();
            let counters = store.lock();
            assert!(counters.weight() <= counters.capacity());
        }
        assert_eq!(store.add(&counter(9_999), 1, Duration::from_secs(60)).await.unwrap(), 2);
    }
}
