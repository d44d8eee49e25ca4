//! What was sent and what was acknowledged, in a file, so that a replay can go on after a crash.
//!
//! A header that says which replay it is, then lines `sent ROW MICROSECONDS` (its generation time) and `done ROW`. A line is
//! one write, made before the row is sent; so the file has every row that may have been counted, however this process ended.
//! (It is not synced: what a power failure takes from it may have been sent.)

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tallyman_api::time::Timestamp;

use crate::failure::Failure;

/// Which replay a journal belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Version of the format.
    pub journal: u32,
    /// The file.
    pub csv: PathBuf,
    /// The namespace.
    pub namespace: String,
    /// The counters as written.
    pub counters: Vec<String>,
    /// The default delta as written.
    pub delta: String,
    /// The prefix of the tokens.
    pub token_prefix: String,
}

/// The version written.
pub const VERSION: u32 = 1;

/// A journal being written.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// What a journal said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    /// Rows that were sent and not acknowledged, with their generation times.
    pub unacknowledged: BTreeMap<u64, Timestamp>,
    /// The last row that was sent; 0 if none was.
    pub last: u64,
}

impl Past {
    /// Whether a row is still to be sent, for the first time or again.
    pub fn wants(&self, row: u64) -> bool {
        row > self.last || self.unacknowledged.contains_key(&row)
    }
}

impl Journal {
    /// A journal in a file that does not exist yet.
    ///
    /// # Errors
    /// When it exists or cannot be written.
    pub fn create(path: &Path, header: &Header) -> Result<Self, Failure> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::local(format!("the journal {} exists", path.display()))
                .with_remedy("go on with it with --resume, or choose another file"),
            _ => failed(path, &error),
        })?;
        let mut journal = Self { path: path.to_owned(), file };
        let text = serde_json::to_string(header).map_err(|error| failed(path, &error.into()))?;
        journal.append(&text)?;
        Ok(journal)
    }

    /// Goes on with a journal; what it said comes with it. `header` is this replay's; its prefix may differ, the journal's
    /// is in force.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or is another replay's.
    pub fn resume(path: &Path, header: &Header) -> Result<(Self, Header, Past), Failure> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| failed(path, &error))?;
        let (theirs, past, length) = read(&file, path)?;
        let ours = Header { token_prefix: theirs.token_prefix.clone(), ..header.clone() };
        if ours != theirs {
            let said = serde_json::to_string(&theirs).unwrap_or_default();
            return Err(Failure::local(format!("the journal {} is another replay's: {said}", path.display()))
                .with_remedy("repeat --csv, --namespace, --counter and --delta as they were"));
        }
        let mut journal = Self { path: path.to_owned(), file };
        // A line that was cut off was never followed by the sending of its row.
        let trimmed = journal.file.set_len(length).and_then(|()| journal.file.seek(SeekFrom::Start(length)));
        trimmed.map_err(|error| failed(path, &error))?;
        Ok((journal, theirs, past))
    }

    /// A row is about to be sent.
    ///
    /// # Errors
    /// When it cannot be written down: the row must not be sent.
    pub fn sent(&mut self, row: u64, generation_time: Timestamp) -> Result<(), Failure> {
        let micros = generation_time.micros().map_err(|error| Failure::local(error.to_string()))?;
        self.append(&format!("sent {row} {micros}"))
    }

    /// A row was acknowledged.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn done(&mut self, row: u64) -> Result<(), Failure> {
        self.append(&format!("done {row}"))
    }

    fn append(&mut self, line: &str) -> Result<(), Failure> {
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|error| failed(&self.path, &error))
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("the journal {}: {error}", path.display()))
}

/// The header, the rows, and the length in bytes of all whole lines.
fn read(file: &File, path: &Path) -> Result<(Header, Past, u64), Failure> {
    let damaged = |number: usize, line: &str| {
        Failure::local(format!("the journal {} is damaged at line {number}: {line:?}", path.display()))
    };
    let mut reader = BufReader::new(file);
    let (mut header, mut past, mut length) = (None, Past::default(), 0);
    for number in 1.. {
        let mut line = String::new();
        let bytes = reader.read_line(&mut line).map_err(|error| failed(path, &error))?;
        let Some(line) = line.strip_suffix('\n') else { break };
        length += bytes as u64;
        if header.is_none() {
            header = Some(serde_json::from_str(line).map_err(|_| damaged(number, line))?);
            continue;
        }
        let mut words = line.split(' ');
        let kind = words.next();
        let row: Option<u64> = words.next().and_then(|word| word.parse().ok());
        let micros: Option<i64> = words.next().and_then(|word| word.parse().ok());
        match (kind, row, micros) {
            (Some("sent"), Some(row), Some(micros)) => {
                past.unacknowledged.insert(row, Timestamp::from_micros(micros));
                past.last = past.last.max(row);
            }
            (Some("done"), Some(row), None) => drop(past.unacknowledged.remove(&row)),
            _ => return Err(damaged(number, line)),
        }
    }
    let header: Header = header.ok_or_else(|| damaged(1, ""))?;
    if header.journal != VERSION {
        return Err(Failure::local(format!(
            "the journal {} has version {}; this program reads {VERSION}",
            path.display(),
            header.journal
        )));
    }
    Ok((header, past, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(prefix: &str) -> Header {
        Header {
            journal: VERSION,
            csv: "f.csv".into(),
            namespace: "n".to_owned(),
            counters: vec!["c".to_owned()],
            delta: "1".to_owned(),
            token_prefix: prefix.to_owned(),
        }
    }

    #[test]
    fn a_resumed_journal_knows_the_rows_that_were_not_acknowledged_and_their_times() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::create(&path, &header("first")).unwrap();
        for row in 1..=4 {
            journal.sent(row, Timestamp::from_micros(row as i64)).unwrap();
        }
        journal.done(2).unwrap();
        journal.done(4).unwrap();
        drop(journal);
        // The process was killed in the middle of a line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"sent 5").unwrap();

        let (mut journal, theirs, past) = Journal::resume(&path, &header("second")).unwrap();
        assert_eq!(theirs.token_prefix, "first");
        let times = BTreeMap::from([(1, Timestamp::from_micros(1)), (3, Timestamp::from_micros(3))]);
        assert_eq!(past, Past { unacknowledged: times, last: 4 });
        assert_eq!((1..=6).filter(|row| past.wants(*row)).collect::<Vec<_>>(), [1, 3, 5, 6]);
        journal.sent(5, Timestamp::from_micros(5)).unwrap();
        journal.done(1).unwrap();
        let (_, _, past) = Journal::resume(&path, &header("third")).unwrap();
        assert_eq!((past.unacknowledged.into_keys().collect::<Vec<_>>(), past.last), (vec![3, 5], 5));
    }

    #[test]
    fn a_journal_is_not_overwritten_and_not_taken_for_another_replays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        Journal::create(&path, &header("p")).unwrap();
        assert!(Journal::create(&path, &header("p")).unwrap_err().message.contains("exists"));
        let other = Header { namespace: "m".to_owned(), ..header("p") };
        assert!(Journal::resume(&path, &other).unwrap_err().message.contains("another replay"));
        std::fs::write(&path, "{}\n").unwrap();
        assert!(Journal::resume(&path, &header("p")).unwrap_err().message.contains("line 1"));
    }
}
