//! Locks for counters, a fixed number for all of them.

use tokio::sync::RwLock;

/// Few share one with a counter that is being repaired.
const STRIPES: usize = 256;

/// One lock for each hash of a key.
#[derive(Debug)]
pub(super) struct Stripes(Vec<RwLock<()>>);

impl Default for Stripes {
    fn default() -> Self {
        Self(std::iter::repeat_with(RwLock::default).take(STRIPES).collect())
    }
}

impl Stripes {
    pub(super) fn of(&self, key: &str) -> &RwLock<()> {
        let hash = xxhash_rust::xxh3::xxh3_64(key.as_bytes());
        // The remainder is less than the number of stripes.
        #[allow(clippy::cast_possible_truncation)]
        &self.0[(hash % self.0.len() as u64) as usize]
    }
}
