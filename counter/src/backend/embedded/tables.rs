//! fjall's tables and how they are laid out in memory and on disk.

use std::path::Path;
use std::time::Duration;

use fjall::{Keyspace, KeyspaceCreateOptions};

use super::directory::{Directory, io_error};
use super::error::OpenError;
use super::journal::{self, Checked};
use super::{keys, sequence};

/// Blocks of tables kept in memory. Events are read soon after they are written, from memory, so this serves rows and sweeps.
const BLOCK_CACHE_BYTES: u64 = 8 << 20;
/// What an events table collects in memory before it is written out: large enough that a busy store writes out every second
/// or so, small enough that two of them fit beside an application.
const EVENTS_MEMTABLE_BYTES: u64 = 16 << 20;
const ROLLUPS_MEMTABLE_BYTES: u64 = 8 << 20;
const META_MEMTABLE_BYTES: u64 = 1 << 20;
/// Flushing and merging share one thread: they compete with the application for its cores.
const WORKER_THREADS: usize = 1;
const OPEN_FILES_MAX: usize = 256;
/// The journal on disk is cut down to this by flushing whatever holds its oldest part.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;
/// How long a clean close may take to write out what is in memory; a journal that is kept costs no more than time.
const WRITE_OUT_MAX: Duration = Duration::from_millis(700);
const WRITE_OUT_PAUSE: Duration = Duration::from_millis(2);

/// The tables that every dataset shares.
#[derive(Clone)]
pub(super) struct Tables {
    pub database: fjall::Database,
    pub meta: Keyspace,
    pub rollups: Keyspace,
}

impl Tables {
    /// Opens the store of `directory`, making it where there is none, and checks that nothing acknowledged is missing. Also
    /// answers the last commit, and the last one recorded as synced.
    pub fn open(directory: &Directory) -> Result<(Self, u64, u64), OpenError> {
        let sequence_file = directory.sequence_file();
        let recorded =
            sequence::read(&sequence_file).map_err(io_error(directory.path(), "read its SEQUENCE file"))?.unwrap_or(0);
        if !directory.store().exists() {
            if recorded > 0 {
                let dir = directory.path().to_owned();
                return Err(OpenError::LostWrites { dir, recovered: 0, recorded, sequence_file });
            }
            let made = directory.store_in_the_making()?;
            Self::open_in(directory.path(), &made)?;
            directory.install(&made)?;
        }
        match journal::check(&directory.store()).map_err(io_error(directory.path(), "read its journals"))? {
            Checked::Damaged { reason } => {
                return Err(OpenError::Damaged { dir: directory.path().to_owned(), reason });
            }
            Checked::Whole { last_commit: Some(recovered), .. } if recovered < recorded => {
                let dir = directory.path().to_owned();
                return Err(OpenError::LostWrites { dir, recovered, recorded, sequence_file });
            }
            Checked::Whole { torn: Some((journal, whole_until)), .. } => {
                tracing::info!(journal = %journal.display(), whole_until, "cutting off a write that was never synced");
                journal::cut(&journal, whole_until).map_err(io_error(directory.path(), "cut a torn journal"))?;
            }
            Checked::Whole { torn: None, .. } => {}
        }
        let tables = Self::open_in(directory.path(), &directory.store())?;
        let recovered = tables.last_commit(directory.path())?;
        if recovered < recorded {
            let dir = directory.path().to_owned();
            return Err(OpenError::LostWrites { dir, recovered, recorded, sequence_file });
        }
        Ok((tables, recovered, recorded))
    }

    fn open_in(dir: &Path, store: &Path) -> Result<Self, OpenError> {
        let failed = |error| of_open(dir, error);
        let database = fjall::Database::builder(store)
            .cache_size(BLOCK_CACHE_BYTES)
            .worker_threads(WORKER_THREADS)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .max_journaling_size(JOURNAL_BYTES_MAX)
            // The committer says itself when a batch is to be synced.
            .manual_journal_persist(true)
            .open()
            .map_err(failed)?;
        let meta = database
            .keyspace("meta", || KeyspaceCreateOptions::default().max_memtable_size(META_MEMTABLE_BYTES))
            .map_err(failed)?;
        let rollups = database
            .keyspace("rollups", || {
                // Rows are read because they are expected to be there.
                KeyspaceCreateOptions::default().max_memtable_size(ROLLUPS_MEMTABLE_BYTES).expect_point_read_hits(true)
            })
            .map_err(failed)?;
        Ok(Self { database, meta, rollups })
    }

    fn last_commit(&self, dir: &Path) -> Result<u64, OpenError> {
        match self.meta.get(keys::COMMIT).map_err(|error| of_open(dir, error))? {
            None => Ok(0),
            Some(bytes) => match bytes.as_ref().try_into() {
                Ok(bytes) => Ok(u64::from_le_bytes(bytes)),
                Err(_) => Err(OpenError::Damaged {
                    dir: dir.to_owned(),
                    reason: format!("its commit number has {} bytes", bytes.len()),
                }),
            },
        }
    }

    /// The events table of this name, made where there is none.
    pub fn events(&self, name: &str) -> fjall::Result<Keyspace> {
        self.database.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(EVENTS_MEMTABLE_BYTES))
    }

    /// Writes out what the tables hold in memory, so that the next open need not read it out of the journal. Whether all of it
    /// was, and the journal holds nothing that is not in the tables' files. Only when nothing is written any more.
    pub fn write_out(&self) -> bool {
        let mut pauses = WRITE_OUT_MAX.as_millis() / WRITE_OUT_PAUSE.as_millis();
        for name in self.database.list_keyspace_names() {
            let Ok(table) = self.events(&name) else { return false };
            if table.rotate_memtable().is_err() {
                return false;
            }
            // fjall writes out on a thread of its own and tells nobody.
            while table.sealed_memtable_count() > 0 {
                if pauses == 0 {
                    return false;
                }
                pauses -= 1;
                std::thread::sleep(WRITE_OUT_PAUSE);
            }
        }
        // A thread of fjall that failed has poisoned it.
        self.database.persist(fjall::PersistMode::SyncAll).is_ok()
    }
}

fn of_open(dir: &Path, error: fjall::Error) -> OpenError {
    let dir = dir.to_owned();
    match error {
        fjall::Error::Locked => OpenError::InUse { dir, holder: None },
        fjall::Error::Io(source) => OpenError::Io { dir, action: "open its store", source },
        other => OpenError::Damaged { dir, reason: other.to_string() },
    }
}
