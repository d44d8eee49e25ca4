//! Tokens: where on Cassandra's ring a partition lies, and the parts that a listing divides the ring into. Pure.

use scylla::routing::Token;
use scylla::routing::partitioner::{Murmur3Partitioner, Partitioner};

use crate::model::{CounterKey, Partition};
use crate::store::Share;

/// The token of an events partition.
pub(super) fn of_events(partition: &Partition, region: &str) -> Token {
    let time_bucket = i64::from(partition.time_bucket).to_be_bytes();
    let event_bucket = i32::from(partition.event_bucket).to_be_bytes();
    of_key(&[
        partition.counter.namespace.as_str().as_bytes(),
        partition.counter.name.as_str().as_bytes(),
        region.as_bytes(),
        &time_bucket,
        &event_bucket,
    ])
}

/// The token of a counter's rollup row.
pub(super) fn of_row(counter: &CounterKey) -> Token {
    of_key(&[counter.namespace.as_str().as_bytes(), counter.name.as_str().as_bytes()])
}

/// A partition key of several columns is hashed as each one's length, bytes and a zero.
fn of_key(columns: &[&[u8]]) -> Token {
    let mut key = Vec::with_capacity(columns.iter().map(|column| column.len() + 3).sum());
    for column in columns {
        // Names have at most 512 bytes, and a region is shorter still.
        key.extend_from_slice(&u16::try_from(column.len()).unwrap_or(u16::MAX).to_be_bytes());
        key.extend_from_slice(column);
        key.push(0);
    }
    Murmur3Partitioner.hash_one(&key)
}

/// A stretch of the ring: `after < token ≤ through`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub after: i64,
    pub through: i64,
}

/// The share's part of the ring. Together the shares are all of it but the least token, which no partition has.
pub(super) fn stretch(share: Share) -> Stretch {
    let count = i128::from(share.count.max(1));
    let bound = |index: i128| i128::from(i64::MIN) + (index << 64) / count - 1;
    let clamped = |bound: i128| i64::try_from(bound.max(i128::from(i64::MIN))).unwrap_or(i64::MAX);
    let index = i128::from(share.index);
    Stretch { after: clamped(bound(index)), through: clamped(bound(index + 1)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_ring_is_one_stretch() {
        assert_eq!(stretch(Share::ALL), Stretch { after: i64::MIN, through: i64::MAX });
    }

    proptest! {
        #[test]
        fn stretches_follow_one_another_from_end_to_end(count in 1_u32..2000) {
            let mut after = i64::MIN;
            for index in 0..count {
                let part = stretch(Share { index, count });
                prop_assert_eq!(part.after, after);
                prop_assert!(part.after < part.through);
                after = part.through;
            }
            prop_assert_eq!(after, i64::MAX);
        }

        #[test]
        fn stretches_are_of_one_size(count in 1_u32.., index in any::<u32>()) {
            let part = stretch(Share { index: index % count, count });
            let size = i128::from(part.through) - i128::from(part.after);
            prop_assert!((size - (1_i128 << 64) / i128::from(count)).abs() <= 1);
        }
    }
}
