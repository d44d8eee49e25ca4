//! A strict look at fjall's journals before fjall opens them.
//!
//! fjall's own recovery takes the first record that it cannot read for the end of the journal, cuts the file there, and goes
//! on; a batch that a power failure left half on disk can also make it refuse a journal in which nothing is missing. Here the
//! journals are read first, and nothing is changed unless it is certain what happened:
//!
//! - Every commit carries its number; the numbers have to follow one another, through all journals.
//! - What follows the last whole batch of the newest journal is a write that no sync confirmed, if no whole batch comes after
//!   it: a batch is only written when the one before is synced. It is cut off.
//! - Anything else is damage to what was acknowledged: the open is refused and the files stay as they are.
//!
//! The format is that of fjall 3 (its `src/journal/entry.rs`): a batch is a start, its items, and an end with the items' hash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::keys;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: &[u8; 4] = b"FJL\x03";
/// Tag, number of items, fjall's sequence number.
const START_BYTES: usize = 1 + 4 + 8;
/// Tag, kind, compression, table, lengths of key, of value and of value as stored.
const ITEM_HEAD_BYTES: usize = 1 + 1 + 1 + 8 + 2 + 4 + 4;
const CLEAR_BYTES: usize = 1 + 8;
const END_BYTES: usize = 1 + 8 + 4;

/// What the journals hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// Everything that was synced is there.
    Whole {
        /// The last commit in them; `None` when they hold none.
        last_commit: Option<u64>,
        /// Where the newest one has to be cut before it is opened.
        torn: Option<(PathBuf, u64)>,
    },
    /// Something that was synced is not readable.
    Damaged {
        /// What, and where.
        reason: String,
    },
}

/// The journals in `store` with their numbers, oldest first.
fn journals(store: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut journals = Vec::new();
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl")
            && let Some(id) = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok())
        {
            journals.push((id, path));
        }
    }
    journals.sort_unstable();
    Ok(journals)
}

/// The journal that is written to, when it holds more than `bytes`.
pub(super) fn newest_over(store: &Path, bytes: u64) -> io::Result<Option<PathBuf>> {
    let Some((_, path)) = journals(store)?.pop() else { return Ok(None) };
    // By what is on disk: files are laid out ahead.
    let on_disk = fs::metadata(&path)?.blocks() * 512;
    Ok((on_disk > bytes).then_some(path))
}

/// Reads all journals in `store`. Changes nothing.
pub(super) fn check(store: &Path) -> io::Result<Checked> {
    let journals = journals(store)?;
    let newest = journals.last().map(|(id, _)| *id);
    let (mut last_commit, mut torn) = (None, None);
    for (id, path) in journals {
        let mut reader = Reader::open(&path)?;
        while let Some(commit) = reader.batch()? {
            let Some(commit) = commit else { continue };
            if let Some(last) = last_commit.filter(|last| last + 1 != commit) {
                let reason = format!("{} goes on with commit {commit} after commit {last}", path.display());
                return Ok(Checked::Damaged { reason });
            }
            last_commit = Some(commit);
        }
        let end = reader.whole_until;
        let rest = rest_of(&path, end)?;
        if rest.is_empty() {
            continue;
        }
        if Some(id) != newest || has_whole_batch(&rest) {
            return Ok(Checked::Damaged { reason: format!("{} cannot be read at byte {end}", path.display()) });
        }
        torn = Some((path, end));
    }
    Ok(Checked::Whole { last_commit, torn })
}

/// Cuts a journal to `length`: behind its last whole batch, or to nothing when the tables' files hold all of it. An empty
/// journal stays, because fjall learns its own numbers from the tables only where there is one.
pub(super) fn cut(path: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}

/// What a journal holds behind `from`, without the zeros at its end: files are laid out ahead.
fn rest_of(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let (mut rest, mut zeros) = (Vec::new(), 0_usize);
    let (nothing, mut chunk) = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
    loop {
        let read = file.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(rest);
        };
        // Tens of megabytes of zeros are ordinary, and compared whole they cost little.
        if nothing.starts_with(bytes) {
            zeros += read;
            continue;
        }
        match bytes.iter().rposition(|byte| *byte != 0) {
            None => zeros += read,
            Some(last) => {
                rest.resize(rest.len() + zeros, 0);
                rest.extend(bytes.iter().take(last + 1));
                zeros = read - last - 1;
            }
        }
    }
}

/// Whether a whole batch begins anywhere behind the first byte. Keys and values of a batch cannot hold another one: names have
/// no control characters, and a number is shorter than a start.
fn has_whole_batch(bytes: &[u8]) -> bool {
    let starts = bytes.iter().enumerate().skip(1).filter(|(_, byte)| **byte == START);
    starts.map(|(at, _)| &bytes[at..]).any(|rest| {
        let mut reader = Reader::new(rest, rest.len() as u64);
        matches!(reader.batch(), Ok(Some(_)))
    })
}

/// Reads a journal batch by batch.
struct Reader<R> {
    from: R,
    position: u64,
    length: u64,
    /// The end of the last whole batch.
    whole_until: u64,
    /// What is being read; reused.
    buffer: Vec<u8>,
}

impl Reader<BufReader<File>> {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self::new(BufReader::with_capacity(256 * 1024, file), length))
    }
}

impl<R: Read> Reader<R> {
    fn new(from: R, length: u64) -> Self {
        Self { from, position: 0, length, whole_until: 0, buffer: Vec::new() }
    }

    /// Appends `count` bytes to the buffer; `false` where the journal ends before.
    fn take(&mut self, count: usize) -> io::Result<bool> {
        if self.length - self.position < count as u64 {
            return Ok(false);
        }
        let start = self.buffer.len();
        self.buffer.resize(start + count, 0);
        self.from.read_exact(&mut self.buffer[start..])?;
        self.position += count as u64;
        Ok(true)
    }

    /// The next batch's commit number, if it has one; `None` where no whole batch follows. After that the reader is spent.
    fn batch(&mut self) -> io::Result<Option<Option<u64>>> {
        self.buffer.clear();
        if !self.take(START_BYTES)? || self.buffer[0] != START {
            return Ok(None);
        }
        let [_, count @ .., _, _, _, _, _, _, _, _] = self.buffer.as_slice() else { return Ok(None) };
        let Ok(count) = count.try_into().map(u32::from_le_bytes) else { return Ok(None) };
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        let mut commit = None;
        for _ in 0..count {
            self.buffer.clear();
            if !self.take(1)? {
                return Ok(None);
            }
            let tag = self.buffer[0];
            match tag {
                ITEM => match self.item()? {
                    Some(found) => commit = commit.or(found),
                    None => return Ok(None),
                },
                CLEAR if self.take(CLEAR_BYTES - 1)? => {}
                _ => return Ok(None),
            }
            hasher.update(&self.buffer);
        }
        self.buffer.clear();
        if !self.take(END_BYTES)? || self.buffer[0] != END || !self.buffer.ends_with(MAGIC) {
            return Ok(None);
        }
        if self.buffer[1..9] != hasher.digest().to_le_bytes() {
            return Ok(None);
        }
        self.whole_until = self.position;
        Ok(Some(commit))
    }

    /// The rest of an item whose tag is in the buffer: the commit number, if it is one. `None` where it is no item.
    fn item(&mut self) -> io::Result<Option<Option<u64>>> {
        if !self.take(ITEM_HEAD_BYTES - 1)? {
            return Ok(None);
        }
        let number = |range: std::ops::Range<usize>| {
            self.buffer[range].iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
        };
        let (key, stored) = (number(11..13), number(17..21));
        if !self.take(key + stored)? {
            return Ok(None);
        }
        let (key, value) = self.buffer[ITEM_HEAD_BYTES..].split_at(key);
        let is_commit = key == keys::COMMIT;
        Ok(Some(value.try_into().ok().filter(|_| is_commit).map(u64::from_le_bytes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(prop_oneof![0_u8..5, any::<u8>()], 0..200)) {
            let mut reader = Reader::new(bytes.as_slice(), bytes.len() as u64);
            while reader.batch().unwrap().is_some() {}
            prop_assert!(reader.whole_until <= bytes.len() as u64);
            has_whole_batch(&bytes);
        }
    }

    #[test]
    fn what_fjall_writes_is_read_as_whole_with_its_last_commit() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        let database = fjall::Database::builder(&store).open().unwrap();
        let table = database.keyspace("t", fjall::KeyspaceCreateOptions::default).unwrap();
        assert_eq!(check(&store).unwrap(), Checked::Whole { last_commit: None, torn: None });
        for commit in 7..20_u64 {
            let mut batch = database.batch();
            for nth in 0..commit {
                batch.insert(
                    &table,
                    format!("key-{nth}").as_str(),
                    "x".repeat(usize::try_from(nth * 500).unwrap()).as_str(),
                );
            }
            batch.remove(&table, "key-3");
            batch.insert(&table, keys::COMMIT, commit.to_le_bytes().as_slice());
            batch.commit().unwrap();
            assert_eq!(check(&store).unwrap(), Checked::Whole { last_commit: Some(commit), torn: None });
        }
        let mut batch = database.batch();
        batch.insert(&table, keys::COMMIT, 21_u64.to_le_bytes().as_slice());
        batch.commit().unwrap();
        let Checked::Damaged { reason } = check(&store).unwrap() else { panic!("a commit is missing") };
        assert!(reason.contains("commit 21 after commit 19"), "{reason}");
    }
}
