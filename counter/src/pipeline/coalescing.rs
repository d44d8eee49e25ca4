//! A set of counter names in bounded memory.
//!
//! Names lie one after the other in chunks, a hash table of positions finds them. Every byte is counted before it is
//! allocated, growth of the table included (its old and new halves exist together for a moment), so that the bound is one on
//! memory and not on names.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::CounterName;

/// Bytes of a chunk of names: a power of two. Small, so that a small capacity is not used up by one.
const CHUNK_BYTES: usize = 8 * 1024;
/// What a name costs in its chunk beside its bytes: its length.
const LENGTH_BYTES: usize = 2;
/// Allocator and vector overhead of a chunk.
const CHUNK_OVERHEAD_BYTES: usize = 64;
/// Bytes of a table's bucket: a position and a control byte.
const BUCKET_BYTES: usize = size_of::<u32>() + 1;
/// A table's bytes beside its buckets: the control bytes' trailing group, and alignment.
const TABLE_OVERHEAD_BYTES: usize = 64;

/// Chunks of names, in order of arrival.
#[derive(Debug, Default)]
struct Names {
    chunks: Vec<Vec<u8>>,
}

impl Names {
    fn at(&self, position: u32) -> &[u8] {
        let (chunk, offset) = (position as usize / CHUNK_BYTES, position as usize % CHUNK_BYTES);
        name_at(&self.chunks[chunk], offset)
    }

    /// Whether `name` fits without another chunk.
    fn has_room(&self, name: &str) -> bool {
        self.chunks.last().is_some_and(|chunk| chunk.len() + LENGTH_BYTES + name.len() <= CHUNK_BYTES)
    }

    /// Appends a name; `None` when there are more chunks than positions can tell apart.
    fn push(&mut self, name: &str) -> Option<u32> {
        if !self.has_room(name) {
            self.chunks.push(Vec::with_capacity(CHUNK_BYTES));
        }
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let position = u32::try_from(index * CHUNK_BYTES + chunk.len()).ok()?;
        // At most CounterName::BYTES_MAX.
        chunk.extend_from_slice(&u16::try_from(name.len()).ok()?.to_be_bytes());
        chunk.extend_from_slice(name.as_bytes());
        Some(position)
    }
}

fn name_at(chunk: &[u8], offset: usize) -> &[u8] {
    let length = u16::from_be_bytes([chunk[offset], chunk[offset + 1]]);
    &chunk[offset + LENGTH_BYTES..][..usize::from(length)]
}

/// What became of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    /// It is in the set now.
    New,
    /// It was in the set.
    Present,
    /// It is not in the set: there is no room.
    Full,
}

/// A bounded set of counter names.
#[derive(Debug, Default)]
pub(super) struct CoalescingSet {
    names: Names,
    table: HashTable<u32>,
}

impl CoalescingSet {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Memory taken.
    pub fn bytes(&self) -> usize {
        self.names.chunks.capacity() * size_of::<Vec<u8>>()
            + self.names.chunks.len() * (CHUNK_BYTES + CHUNK_OVERHEAD_BYTES)
            + if self.table.capacity() == 0 { 0 } else { table_bytes(self.table.capacity()) }
    }

    /// Puts `name` in the set, as long as its memory stays within `bytes_max` at every moment.
    pub fn insert(&mut self, name: &str, bytes_max: usize) -> Inserted {
        let hash = xxh3_64(name.as_bytes());
        if self.table.find(hash, |&position| self.names.at(position) == name.as_bytes()).is_some() {
            return Inserted::Present;
        }
        let mut bytes = self.bytes();
        if !self.names.has_room(name) {
            bytes += CHUNK_BYTES + CHUNK_OVERHEAD_BYTES;
            if self.names.chunks.len() == self.names.chunks.capacity() {
                // The vector of chunks doubles, and lies in memory twice while it moves.
                bytes += self.names.chunks.capacity().max(4) * 2 * size_of::<Vec<u8>>();
            }
        }
        let grows = self.table.len() == self.table.capacity();
        if grows {
            bytes += table_bytes((self.table.capacity() + 1).next_power_of_two().max(4) * 2);
        }
        if bytes > bytes_max {
            return Inserted::Full;
        }
        let Some(position) = self.names.push(name) else { return Inserted::Full };
        let names = &self.names;
        self.table.insert_unique(hash, position, |&position| xxh3_64(names.at(position)));
        Inserted::New
    }

    /// The names in order of arrival, each chunk given back to memory when its last name was taken.
    pub fn drain(self) -> Drain {
        Drain { chunks: self.names.chunks.into_iter(), current: Vec::new(), offset: 0 }
    }
}

/// What a table of this many elements takes at most: its buckets are the next power of two above 8/7 of them.
fn table_bytes(capacity: usize) -> usize {
    (capacity * 8 / 7 + 1).next_power_of_two() * BUCKET_BYTES + TABLE_OVERHEAD_BYTES
}

/// A set being emptied.
#[derive(Debug)]
pub(super) struct Drain {
    chunks: std::vec::IntoIter<Vec<u8>>,
    current: Vec<u8>,
    offset: usize,
}

impl Drain {
    /// Memory still taken.
    pub fn bytes(&self) -> usize {
        let current = usize::from(self.current.capacity() > 0);
        (self.chunks.len() + current) * (CHUNK_BYTES + CHUNK_OVERHEAD_BYTES + size_of::<Vec<u8>>())
    }
}

impl Iterator for Drain {
    type Item = CounterName;

    fn next(&mut self) -> Option<CounterName> {
        while self.offset >= self.current.len() {
            self.current = Vec::new();
            self.current = self.chunks.next()?;
            self.offset = 0;
        }
        let name = name_at(&self.current, self.offset);
        self.offset += LENGTH_BYTES + name.len();
        // What went in was a counter's name; the check cannot fail on what comes out.
        std::str::from_utf8(name).ok().and_then(|name| CounterName::new(name).ok())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn it_is_a_set_that_gives_back_each_name_once_in_order_of_arrival(names in proptest::collection::vec("[a-zü/:]{1,200}", 0..400)) {
            let mut set = CoalescingSet::default();
            let mut model = HashSet::new();
            let mut order = Vec::new();
            for name in &names {
                let inserted = set.insert(name, usize::MAX);
                let new = model.insert(name.clone());
                prop_assert_eq!(inserted, if new { Inserted::New } else { Inserted::Present });
                if new { order.push(name.clone()); }
            }
            prop_assert_eq!(set.len(), order.len());
            let drained: Vec<_> = set.drain().map(|name| name.as_str().to_owned()).collect();
            prop_assert_eq!(drained, order);
        }

        #[test]
        fn its_memory_stays_within_the_bound_and_a_full_set_still_knows_what_it_has(bytes_max in 20_000_usize..200_000, length in 1_usize..500) {
            let mut set = CoalescingSet::default();
            let mut inserted = Vec::new();
            for i in 0..20_000 {
                let name = format!("{i:0length$}");
                match set.insert(&name, bytes_max) {
                    Inserted::New => inserted.push(name),
                    Inserted::Full => break,
                    Inserted::Present => prop_assert!(false, "{} is new", name),
                }
                prop_assert!(set.bytes() <= bytes_max);
            }
            prop_assert!(!inserted.is_empty());
            for name in &inserted {
                prop_assert_eq!(set.insert(name, bytes_max), Inserted::Present);
            }
        }
    }
}
