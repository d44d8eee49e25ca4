//! The rows of the file, as adds.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::StringRecord;
use flate2::read::MultiGzDecoder;

use super::arguments::Arguments;
use super::template::Target;
use crate::failure::Failure;

/// A row of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number, from 1, without the header.
    pub number: u64,
    /// What it adds to which counters.
    pub adds: Vec<(String, i64)>,
}

/// Reads rows.
pub struct Rows {
    path: PathBuf,
    reader: csv::Reader<Box<dyn Read + Send>>,
    targets: Vec<Target>,
    record: StringRecord,
    number: u64,
    position: Position,
}

/// How far a file has been read.
#[derive(Debug, Clone)]
pub struct Position {
    read: Arc<AtomicU64>,
    /// The file's length in bytes.
    pub length: u64,
}

impl Position {
    /// Bytes read so far.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

impl Rows {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// When it cannot be read, or lacks a column that the arguments name.
    pub fn open(arguments: &Arguments) -> Result<Self, Failure> {
        let path = arguments.csv.clone();
        let failed = |error: io::Error| Failure::local(format!("{}: cannot be read: {error}", path.display()));
        let file = File::open(&path).map_err(failed)?;
        let position = Position { read: Arc::default(), length: file.metadata().map_err(failed)?.len() };
        let counted = Counted { inner: file, read: position.read.clone() };
        let content: Box<dyn Read + Send> = if path.extension().is_some_and(|extension| extension == "gz") {
            Box::new(MultiGzDecoder::new(counted))
        } else {
            Box::new(counted)
        };
        let mut reader = csv::Reader::from_reader(content);
        let header = reader.headers().map_err(|error| wrong_csv(&path, &error))?.clone();
        let bind = |counter: &super::template::CounterArgument| counter.bind(&arguments.delta, &header);
        let targets = arguments.counters.iter().map(bind).collect::<Result<_, _>>();
        let targets = targets.map_err(|reason| Failure::local(format!("{}: {reason}", path.display())))?;
        Ok(Self { path, reader, targets, record: StringRecord::new(), number: 0, position })
    }

    /// How far the file has been read.
    pub fn position(&self) -> Position {
        self.position.clone()
    }

    /// The next row for which `wanted` holds, if there is one.
    ///
    /// # Errors
    /// When it cannot be read, or its delta is no integer. Names the line.
    pub fn next(&mut self, wanted: impl Fn(u64) -> bool) -> Result<Option<Row>, Failure> {
        loop {
            if !self.reader.read_record(&mut self.record).map_err(|error| wrong_csv(&self.path, &error))? {
                return Ok(None);
            }
            self.number += 1;
            if wanted(self.number) {
                break;
            }
        }
        let adds = self.targets.iter().map(|target| target.add(&self.record)).collect::<Result<_, _>>();
        let adds = adds.map_err(|reason| {
            let line = self.record.position().map_or(0, csv::Position::line);
            Failure::local(format!("{}: line {line} (row {}): {reason}", self.path.display(), self.number))
        })?;
        Ok(Some(Row { number: self.number, adds }))
    }
}

fn wrong_csv(path: &Path, error: &csv::Error) -> Failure {
    let line = error.position().map(|position| format!("line {}: ", position.line())).unwrap_or_default();
    let reason = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("has {len} columns; the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { err, .. } => format!("is not UTF-8: {err}"),
        _ => error.to_string(),
    };
    Failure::local(format!("{}: {line}{reason}", path.display()))
}
