//! Keys and counts as memcached keeps them. Pure functions.

use std::time::Duration;

use crate::model::{CounterKey, Timestamp};

/// memcached's limit.
const KEY_BYTES_MAX: usize = 250;
/// memcached takes a longer time to live for a point in time.
const RELATIVE_TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// `<namespace>:<counter_name>`, where memcached takes that for a key; else its 128-bit hash in hexadecimal, which has no `:`
/// and so is never the key of another counter's name.
pub(super) fn key(counter: &CounterKey) -> String {
    let plain = format!("{}:{}", counter.namespace, counter.name);
    if plain.len() <= KEY_BYTES_MAX && plain.bytes().all(|byte| byte.is_ascii_graphic()) {
        return plain;
    }
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(plain.as_bytes()))
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

/// The count in a stored value: digits, and spaces where the number was longer once.
pub(super) fn count(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.trim_end_matches(' ').parse().ok().map(to_count)
}

/// A time to live as memcached takes it: whole seconds, at least one (0 would be for ever), or the point in time where it ends.
pub(super) fn ttl_seconds(ttl: Duration, now: Timestamp) -> u32 {
    let seconds = if ttl <= RELATIVE_TTL_MAX {
        ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)
    } else {
        now.plus(ttl).since(Timestamp::EPOCH).as_secs()
    };
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
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

    #[test]
    fn counts_are_stored_without_the_highest_bit_and_padded_ones_are_read() {
        for number in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(to_count(to_stored(number)), number);
            assert_eq!(count(to_stored(number).to_string().as_bytes()), Some(number));
        }
        for number in [-1 << 62, -1, 0, 1, (1 << 62) - 1] {
            assert!(to_stored(number) < 1 << 63, "{number}");
        }
        assert_eq!(count(b"4611686018427387908      "), Some(4));
        assert_eq!(count(b"4611686018427387903"), Some(-1));
        for foreign in [b"".as_slice(), b"x", b"-1", b" 1", b"18446744073709551616"] {
            assert_eq!(count(foreign), None);
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
        assert_eq!(ttl_seconds(Duration::MAX, now), u32::MAX);
    }
}
