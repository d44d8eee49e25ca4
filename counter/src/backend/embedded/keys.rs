//! The keys of all tables. Parts of variable length carry their length or come last, so no two names ever share a key, and
//! numbers are big-endian, so bytes order as what they stand for does. Pure functions.

use std::ops::Bound;

use crate::model::{CounterKey, CounterName, EventKey, NamespaceName, Partition, Timestamp, Token};
use crate::store::{Error, Result, Scan, Share};

/// Above every byte of UTF-8: what begins with a key followed by it lies behind every longer form of the key.
const ABOVE_TEXT: u8 = 0xff;

/// A dataset's number in this database; part of its keys in place of its name.
pub(super) type DatasetId = u32;

fn push_time(buffer: &mut Vec<u8>, time: Timestamp) {
    buffer.extend_from_slice(&(time.as_micros() ^ i64::MIN).to_be_bytes());
}

fn time_from(bytes: [u8; 8]) -> Timestamp {
    Timestamp::from_micros(i64::from_be_bytes(bytes) ^ i64::MIN)
}

fn push_text(buffer: &mut Vec<u8>, text: &str) {
    // Names are at most 512 bytes, and those of datasets are checked where they enter.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(text.as_bytes());
}

/// Where a partition's events begin. The buckets come first: what is written about the same time lies together, whatever its
/// counter, so that tables of different times do not overlap and need no merging.
fn push_partition(buffer: &mut Vec<u8>, partition: &Partition) {
    buffer.extend_from_slice(&partition.time_bucket.to_be_bytes());
    buffer.extend_from_slice(&partition.event_bucket.to_be_bytes());
    push_text(buffer, partition.counter.namespace.as_str());
    push_text(buffer, partition.counter.name.as_str());
}

/// Writes an event's key over `buffer`: partition, time, token. The operation is part of the value, because a token names one
/// mutation: an add and a clear of one token cannot both be stored.
pub(super) fn event(buffer: &mut Vec<u8>, partition: &Partition, event_time: Timestamp, event_id: &Token) {
    buffer.clear();
    push_partition(buffer, partition);
    push_time(buffer, event_time);
    buffer.extend_from_slice(event_id.as_str().as_bytes());
}

/// Time and token of the event with this key in a partition whose keys begin with `prefix_length` bytes.
pub(super) fn event_parts(key: &[u8], prefix_length: usize) -> Result<(Timestamp, Token)> {
    let damaged = || Error::Corrupt { reason: format!("an event's key of {} bytes is no key", key.len()) };
    let (time, token) = key.get(prefix_length..).and_then(<[u8]>::split_first_chunk::<8>).ok_or_else(damaged)?;
    let token = std::str::from_utf8(token).map_err(|_| damaged())?;
    Ok((time_from(*time), Token::new(token).map_err(|_| damaged())?))
}

/// The keys that a scan reads.
pub(super) struct ScanRange {
    pub lower: Bound<Vec<u8>>,
    pub upper: Bound<Vec<u8>>,
    /// How many bytes of each key name the partition.
    pub prefix_length: usize,
}

/// The keys of `scan`, or `None` where there can be none. The event that `resume` names may be among them: its operation, in
/// its value, says whether it was returned already.
pub(super) fn scan(scan: &Scan) -> Option<ScanRange> {
    let mut prefix = Vec::new();
    push_partition(&mut prefix, &scan.partition);
    let mut lower = prefix.clone();
    push_time(&mut lower, Timestamp::from_micros(scan.after.as_micros().checked_add(1)?));
    let mut upper = prefix.clone();
    push_time(&mut upper, scan.through);
    upper.push(ABOVE_TEXT);
    let mut upper = Bound::Excluded(upper);
    if let Some(EventKey { event_time, event_id, .. }) = &scan.resume {
        let mut resume = Vec::new();
        event(&mut resume, &scan.partition, *event_time, event_id);
        if matches!(&upper, Bound::Excluded(upper) if resume < *upper) {
            upper = Bound::Included(resume);
        }
    }
    let is_empty = match &upper {
        Bound::Included(upper) | Bound::Excluded(upper) => *upper < lower,
        Bound::Unbounded => false,
    };
    (!is_empty).then_some(ScanRange { lower: Bound::Included(lower), upper, prefix_length: prefix.len() })
}

/// Rows lie in the order of their counters' hashes, so that a share of a listing is one range.
fn row_hash(counter: &CounterKey) -> u32 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(counter.namespace.as_str().as_bytes());
    hasher.update(b"/");
    hasher.update(counter.name.as_str().as_bytes());
    // The upper half; either would do.
    (hasher.digest() >> 32) as u32
}

/// A counter's key in the rollup table.
pub(super) fn row(dataset: DatasetId, counter: &CounterKey) -> Vec<u8> {
    let mut key = Vec::with_capacity(12 + counter.namespace.as_str().len() + counter.name.as_str().len());
    key.extend_from_slice(&dataset.to_be_bytes());
    key.extend_from_slice(&row_hash(counter).to_be_bytes());
    push_text(&mut key, counter.namespace.as_str());
    key.extend_from_slice(counter.name.as_str().as_bytes());
    key
}

/// The counter that a key of the rollup table stands for.
pub(super) fn row_counter(key: &[u8]) -> Result<CounterKey> {
    let damaged = || Error::Corrupt { reason: format!("a row's key of {} bytes is no key", key.len()) };
    let (length, rest) = key.get(8..).and_then(<[u8]>::split_first_chunk::<2>).ok_or_else(damaged)?;
    let (namespace, name) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(damaged)?;
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| damaged());
    Ok(CounterKey {
        namespace: NamespaceName::new(text(namespace)?).map_err(|_| damaged())?,
        name: CounterName::new(text(name)?).map_err(|_| damaged())?,
    })
}

/// The keys of the rollup table in a share of a dataset's rows: from the first, up to but not including the second.
pub(super) fn share(dataset: DatasetId, share: Share) -> (Vec<u8>, Vec<u8>) {
    let count = u64::from(share.count.max(1));
    // The first hash of each share; of the one behind the last, the first key of the next dataset.
    let edge = |index: u64| {
        let hash = (index << 32).div_ceil(count);
        (u64::from(dataset) << 32).saturating_add(hash).to_be_bytes().to_vec()
    };
    let index = u64::from(share.index).min(count);
    (edge(index), edge((index + 1).min(count)))
}

/// The last commit's number, in the meta table.
pub(super) const COMMIT: &[u8] = b"c";

/// A dataset's number by its names, in the meta table.
pub(super) fn dataset(name: &str, region: &str) -> Vec<u8> {
    let mut key = vec![b'd'];
    push_text(&mut key, name);
    key.extend_from_slice(region.as_bytes());
    key
}

/// Every dataset's number, in the meta table.
pub(super) const DATASETS: &[u8] = b"d";

/// How far a dataset has come, in the meta table.
pub(super) fn progress(dataset: DatasetId) -> Vec<u8> {
    let mut key = vec![b'p'];
    key.extend_from_slice(&dataset.to_be_bytes());
    key
}

/// Where a dataset's slice records begin, in the meta table.
pub(super) fn slices(dataset: DatasetId) -> Vec<u8> {
    let mut key = vec![b's'];
    key.extend_from_slice(&dataset.to_be_bytes());
    key
}

/// A slice's record, in the meta table.
pub(super) fn slice(dataset: DatasetId, start: Timestamp) -> Vec<u8> {
    let mut key = slices(dataset);
    push_time(&mut key, start);
    key
}

/// The start of the slice with this key.
pub(super) fn slice_start(key: &[u8]) -> Result<Timestamp> {
    match key.last_chunk::<8>() {
        Some(time) => Ok(time_from(*time)),
        None => Err(Error::Corrupt { reason: "a slice's key is too short".to_owned() }),
    }
}

/// The name of a slice's table. Slices start at whole seconds.
pub(super) fn slice_table(dataset: DatasetId, start: Timestamp) -> String {
    format!("events-{dataset}-{}", start.as_micros() / 1_000_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partition(namespace: &str, name: &str, time_bucket: u32, event_bucket: u16) -> Partition {
        let counter =
            CounterKey { namespace: NamespaceName::new(namespace).unwrap(), name: CounterName::new(name).unwrap() };
        Partition { counter, slice_start: Timestamp::EPOCH, time_bucket, event_bucket }
    }

    fn key_of(partition: &Partition, micros: i64, token: &str) -> Vec<u8> {
        let mut key = Vec::new();
        event(&mut key, partition, Timestamp::from_micros(micros), &Token::new(token).unwrap());
        key
    }

    proptest! {
        #[test]
        fn keys_of_one_partition_order_as_time_then_token(a in any::<i64>(), b in any::<i64>(), s in "[ -~é]{1,9}", t in "[ -~é]{1,9}") {
            let partition = partition("n", "c", 1, 2);
            prop_assert_eq!(key_of(&partition, a, &s).cmp(&key_of(&partition, b, &t)), (a, &s).cmp(&(b, &t)));
        }

        #[test]
        fn keys_of_different_partitions_differ_and_do_not_interleave(
            m in "[a-z]{1,3}", n in "[a-z]{1,3}", c in "[a-b/:]{1,3}", d in "[a-b/:]{1,3}", x in 0_u32..2, y in 0_u32..2,
            times in proptest::collection::vec(any::<i64>(), 3),
        ) {
            let (one, two) = (partition(&m, &c, x, 0), partition(&n, &d, y, 0));
            prop_assume!(one != two);
            let ordered = key_of(&one, times[0], "t") < key_of(&two, times[1], "t");
            prop_assert_eq!(ordered, key_of(&one, times[2], "u") < key_of(&two, times[0], "v"));
        }

        #[test]
        fn what_is_in_a_key_comes_back(micros in any::<i64>(), token in "[ -~é]{1,40}", name in "[ -~é]{1,40}") {
            let place = partition("ns", &name, 7, 8);
            let mut prefix = Vec::new();
            push_partition(&mut prefix, &place);
            let (time, id) = event_parts(&key_of(&place, micros, &token), prefix.len()).unwrap();
            prop_assert_eq!((time.as_micros(), id.as_str()), (micros, token.as_str()));
            prop_assert_eq!(row_counter(&row(9, &place.counter)).unwrap(), place.counter);
        }

        #[test]
        fn every_row_is_in_exactly_one_share(name in "[ -~]{1,20}", dataset in any::<u32>(), count in 1_u32..100) {
            let key = row(dataset, &partition("n", &name, 0, 0).counter);
            let within = |index| {
                let (from, until) = share(dataset, Share { index, count });
                from <= key && (key < until || dataset == u32::MAX && index + 1 == count)
            };
            prop_assert_eq!((0..count).filter(|index| within(*index)).count(), 1);
        }
    }
}
