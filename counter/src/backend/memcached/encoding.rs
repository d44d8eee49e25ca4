//! Keys and counts as memcached keeps them. Pure functions.

use std::time::Duration;

use crate::model::{Checkpoint, CounterKey, Timestamp};

/// memcached's limit.
const KEY_BYTES_MAX: usize = 250;
/// memcached takes a longer time to live for a point in time.
const RELATIVE_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// `<namespace>:<counter_name>`, where memcached takes that for a key; else its 128-bit hash in hexadecimal, which has no `:`
/// and so is never the key of another counter's name.
pub(super) fn key(counter: &CounterKey) -> String {
    let plain = format!("{}:{}", counter.namespace, counter.name);
    if is_key(&plain) { plain } else { hash(&plain) }
}

fn is_key(text: &str) -> bool {
    text.len() <= KEY_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn hash(text: &str) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
}

/// Where it is announced that the counter of `key` is about to be made. No namespace's name has a `/`, so it is never a
/// counter's key.
pub(super) fn announcement_key(key: &str) -> String {
    format!("new/{}", hash(key))
}

/// What keys of cached checkpoints begin with. No namespace's name has a `/`, so they are never a counter's key.
const CACHE_PREFIX: &str = "checkpoint/";

/// Where a checkpoint is cached, and what tells that it is this counter's.
#[derive(Debug)]
pub(super) struct CacheKey {
    key: String,
    /// The whole name, where the key is only its hash. It stands beside the checkpoint.
    name: String,
}

impl CacheKey {
    /// `checkpoint/<scope>/<namespace>:<counter_name>`, where memcached takes that for a key; else `checkpoint/#` and the
    /// 128-bit hash of it. A scope has no `/`, so two of them never make one key.
    pub(super) fn new(scope: &str, counter: &CounterKey) -> Self {
        let plain = format!("{CACHE_PREFIX}{scope}/{}:{}", counter.namespace, counter.name);
        if is_key(&plain) {
            return Self { key: plain, name: String::new() };
        }
        Self { key: format!("{CACHE_PREFIX}#{}", hash(&plain)), name: plain }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.key
    }

    pub(super) fn encode(&self, checkpoint: Checkpoint) -> Vec<u8> {
        let mut value = checkpoint.encode().to_vec();
        value.extend_from_slice(self.name.as_bytes());
        value
    }

    /// The checkpoint in a stored value; `None` where it is another counter's, or one that this version cannot read.
    pub(super) fn decode(&self, value: &[u8]) -> Option<Checkpoint> {
        let (checkpoint, name) = value.split_at_checked(Checkpoint::ENCODED_LENGTH)?;
        (name == self.name.as_bytes()).then(|| Checkpoint::decode(checkpoint).ok()).flatten()
    }
}

/// What is stored for a count of 0. memcached's numbers are unsigned, and it refuses some of those whose highest bit is set:
/// it then searches for a minus sign, beyond the number's end, in whatever memory follows. Counts within 62 bits of 0 either
/// way are stored without that bit.
const ZERO: u64 = 1 << 62;

/// A delta as memcached increments by it. Its increment wraps around at 64 bits (its decrement stops at 0), so in two's
/// complement it adds any signed delta.
pub(super) fn increment(delta: i64) -> u64 {
    delta.cast_unsigned()
}

/// A count as it is stored.
pub(super) fn to_stored(count: i64) -> u64 {
    count.cast_unsigned().wrapping_add(ZERO)
}

/// The count that is stored as `stored`.
pub(super) fn to_count(stored: u64) -> i64 {
    stored.wrapping_sub(ZERO).cast_signed()
}

/// The number in a stored value: digits, and spaces where it was longer once.
pub(super) fn stored(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.trim_end_matches(' ').parse().ok()
}

/// The latest point in time that memcached takes.
const EXPIRY_MAX: u32 = i32::MAX.cast_unsigned();

/// A time to live as memcached takes it: whole seconds, at least one (0 would be for ever), or the point in time where it ends.
pub(super) fn ttl_seconds(ttl: Duration, now: Timestamp) -> u32 {
    let seconds = if ttl <= RELATIVE_TTL_MAX {
        ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)
    } else {
        now.plus(ttl).since(Timestamp::EPOCH).as_secs()
    };
    u32::try_from(seconds).unwrap_or(EXPIRY_MAX).clamp(1, EXPIRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CounterName, NamespaceName};

    fn key_of(name: &str) -> String {
        let counter =
            CounterKey { namespace: NamespaceName::new("n-1").unwrap(), name: CounterName::new(name).unwrap() };
        key(&counter)
    }

    #[test]
    fn ordinary_names_are_their_own_keys() {
        assert_eq!(key_of("a/b:c"), "n-1:a/b:c");
        assert_eq!(key_of(&"x".repeat(246)), format!("n-1:{}", "x".repeat(246)));
    }

    #[test]
    fn names_that_memcached_does_not_take_are_hashed_to_keys_that_no_name_has() {
        for name in ["a b", " ", "ü", "a\u{a0}", &"x".repeat(247), &"ü".repeat(256)] {
            let key = key_of(name);
            assert_eq!(key.len(), 32, "{name}");
            assert!(key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        }
        assert_ne!(key_of("a b"), key_of("a  b"));
    }

    fn cache_key(scope: &str, name: &str) -> CacheKey {
        let counter =
            CounterKey { namespace: NamespaceName::new("n-1").unwrap(), name: CounterName::new(name).unwrap() };
        CacheKey::new(scope, &counter)
    }

    #[test]
    fn checkpoints_have_keys_that_no_counter_has() {
        assert_eq!(cache_key("plays-dc1", "a").as_str(), "checkpoint/plays-dc1/n-1:a");
        for name in ["a b", "ü", &"x".repeat(240)] {
            let key = cache_key("plays-dc1", name);
            assert!(key.as_str().starts_with("checkpoint/#") && key.as_str().len() == 44, "{key:?}");
        }
        assert_ne!(cache_key("a", "a b").as_str(), cache_key("b", "a b").as_str());
    }

    #[test]
    fn a_cached_checkpoint_is_read_back_by_its_own_counter_alone() {
        let checkpoint = Checkpoint { last_rollup_ts: Timestamp::from_micros(-5), last_rollup_count: i128::MIN };
        for name in ["a", "a b"] {
            let key = cache_key("s", name);
            assert_eq!(key.decode(&key.encode(checkpoint)), Some(checkpoint));
            let other = cache_key("s", "c d");
            assert_eq!(other.decode(&key.encode(checkpoint)), None, "{name}");
            assert_eq!(key.decode(&key.encode(checkpoint)[1..]), None);
            assert_eq!(key.decode(b""), None);
        }
    }

    #[test]
    fn counts_are_stored_without_the_highest_bit_and_padded_ones_are_read() {
        for number in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(to_count(to_stored(number)), number);
            assert_eq!(stored(to_stored(number).to_string().as_bytes()).map(to_count), Some(number));
        }
        for number in [-1 << 62, -1, 0, 1, (1 << 62) - 1] {
            assert!(to_stored(number) < 1 << 63, "{number}");
        }
        assert_eq!(stored(b"4611686018427387908      ").map(to_count), Some(4));
        assert_eq!(stored(b"4611686018427387903").map(to_count), Some(-1));
        for foreign in [b"".as_slice(), b"x", b"-1", b" 1", b"18446744073709551616"] {
            assert_eq!(stored(foreign), None);
        }
    }

    #[test]
    fn an_increment_adds_any_delta_to_any_count() {
        for delta in [i64::MIN, -7, 0, 5, i64::MAX] {
            for before in [i64::MIN, -3, 0, 1_000_000_007, i64::MAX] {
                let after = to_stored(before).wrapping_add(increment(delta));
                assert_eq!(to_count(after), before.wrapping_add(delta), "{before} and {delta}");
            }
        }
    }

    #[test]
    fn times_to_live_are_rounded_up_and_long_ones_become_points_in_time() {
        let now = Timestamp::EPOCH.plus(Duration::from_secs(1_800_000_000));
        assert_eq!(ttl_seconds(Duration::ZERO, now), 1);
        assert_eq!(ttl_seconds(Duration::from_millis(1_001), now), 2);
        assert_eq!(ttl_seconds(Duration::from_secs(3600), now), 3600);
        assert_eq!(ttl_seconds(RELATIVE_TTL_MAX, now), 2_592_000);
        assert_eq!(ttl_seconds(RELATIVE_TTL_MAX + Duration::from_secs(1), now), 1_802_592_001);
        assert_eq!(ttl_seconds(Duration::MAX, now), EXPIRY_MAX);
    }
}
