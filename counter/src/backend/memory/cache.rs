//! The rollup cache in memory: bounded in bytes, each entry for a time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quick_cache::Weighter;

use crate::clock::Clock;
use crate::model::{Checkpoint, CounterKey};
use crate::store::{Result, RollupCache};

/// What an entry costs besides its names: the entry itself, two shared strings' headers, and the cache's own tables.
const ENTRY_OVERHEAD_BYTES: usize = 192;
/// What the cache's tables are first laid out for; a guess that only saves growing them.
const ENTRY_BYTES_TYPICAL: u64 = 256;

#[derive(Debug, Clone, Copy)]
struct Entry {
    checkpoint: Checkpoint,
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

/// A rollup cache in memory. What is asked for least goes first when it is full.
pub struct Cache {
    entries: quick_cache::sync::Cache<CounterKey, Entry, Bytes>,
    /// Serialises offers, so that comparing and setting is one step; reads do not take it.
    offering: Mutex<()>,
    expiry: Duration,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("entries", &self.entries.len())
            .field("bytes", &self.entries.weight())
            .field("capacity_bytes", &self.entries.capacity())
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// A cache of at most `capacity_bytes`, whose entries live for `expiry` after they were last offered what they hold or something newer.
    #[must_use]
    pub fn new(capacity_bytes: u64, expiry: Duration, clock: Arc<dyn Clock>) -> Self {
        let entries_estimated = usize::try_from(capacity_bytes / ENTRY_BYTES_TYPICAL).unwrap_or(usize::MAX).min(1024);
        Self {
            entries: quick_cache::sync::Cache::with_weighter(entries_estimated, capacity_bytes, Bytes),
            offering: Mutex::new(()),
            expiry,
            clock,
        }
    }

    fn fresh(&self, counter: &CounterKey) -> Option<Checkpoint> {
        self.entries.get(counter).filter(|entry| self.clock.monotonic() < entry.expires).map(|entry| entry.checkpoint)
    }
}

#[async_trait]
impl RollupCache for Cache {
    async fn get(&self, counter: &CounterKey) -> Result<Option<Checkpoint>> {
        Ok(self.fresh(counter))
    }

    async fn offer(&self, counter: &CounterKey, checkpoint: Checkpoint) -> Result<()> {
        let _one_at_a_time = self.offering.lock().unwrap_or_else(PoisonError::into_inner);
        if self.fresh(counter).is_none_or(|cached| cached <= checkpoint) {
            let expires = self.clock.monotonic().saturating_add(self.expiry);
            self.entries.insert(counter.clone(), Entry { checkpoint, expires });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::model::{CounterName, NamespaceName, Timestamp};

    #[tokio::test]
    async fn a_full_cache_stays_within_its_bytes_and_keeps_taking_offers() {
        let cache = Cache::new(64 * 1024, Duration::from_secs(60), Arc::new(SystemClock::new()));
        let counter = |nth: u32| CounterKey {
            namespace: NamespaceName::new("n").unwrap(),
            name: CounterName::new(&format!("counter-{nth}")).unwrap(),
        };
        let checkpoint = Checkpoint { last_rollup_ts: Timestamp::EPOCH, last_rollup_count: 1 };
        for nth in 0..10_000 {
            cache.offer(&counter(nth), checkpoint).await.unwrap();
            assert!(cache.entries.weight() <= cache.entries.capacity());
        }
        assert!(cache.entries.capacity() <= 64 * 1024);
        assert_eq!(cache.get(&counter(9_999)).await.unwrap(), Some(checkpoint));
    }
}
