//! The database of one data directory: opening, health, closing.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::committer::Committer;
use super::dataset::{Dataset, of_refusal, unanswered};
use super::directory::{Directory, io_error};
use super::error::{OpenError, closed};
use super::journal;
use super::queue::{Queue, Request};
use super::sequence::Synced;
use super::tables::Tables;
use crate::store::{Error, Result};

/// How long a journal may be left at a clean close: some ten thousand events, which an open reads in as many microseconds.
const JOURNAL_KEPT_BYTES_MAX: u64 = 1 << 20;

/// What the callers, the committer and the recorder share.
pub(super) struct Shared {
    pub queue: Queue,
    pub synced: Synced,
    /// Why the database takes no more writes.
    pub failure: OnceLock<String>,
    /// For reads; `None` when the database is closed.
    tables: RwLock<Option<Tables>>,
}

impl Shared {
    /// The tables, or [`closed`].
    pub fn tables(&self) -> Result<Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)
    }
}

struct Threads {
    committer: JoinHandle<()>,
    recorder: JoinHandle<()>,
    /// Given back last.
    directory: Directory,
}

/// An open database; the handles share it.
pub(super) struct Inner {
    pub shared: Arc<Shared>,
    /// `None` when it is closed.
    threads: Mutex<Option<Threads>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Inner {
    /// Asks the committer and waits for its answer.
    pub async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.queue.push(request(reply)).map_err(of_refusal)?;
        answer.await.unwrap_or_else(|_| Err(unanswered()))
    }

    fn health(&self) -> std::result::Result<(), String> {
        match self.shared.failure.get() {
            Some(reason) => Err(reason.clone()),
            None if self.shared.tables().is_err() => Err("the database is closed".to_owned()),
            None => Ok(()),
        }
    }

    fn close(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Threads { committer, recorder, directory }) = threads.take() else {
            return;
        };
        self.shared.queue.close();
        // A thread that panicked has said so, and the failure is recorded.
        let _ = committer.join();
        self.shared.synced.close();
        let _ = recorder.join();
        let tables = self.shared.tables.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tables) = tables.filter(|_| self.shared.failure.get().is_none()) {
            settle(tables, &directory.store());
        }
        drop(directory);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// The database of one data directory, with any number of datasets. Clones share it; it closes with the last handle of it and
/// of its datasets, or when told to.
#[derive(Debug, Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

impl Database {
    /// Opens the data directory `dir`, making it where there is none. Blocks for some milliseconds; on a large journal left
    /// by a crash, longer.
    ///
    /// # Errors
    /// When the directory is another process's, is of another format, has lost acknowledged writes, or cannot be read.
    pub fn open(dir: &Path) -> std::result::Result<Self, OpenError> {
        let directory = Directory::open(dir)?;
        let (tables, sequence, recorded) = Tables::open(&directory)?;
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            synced: Synced::new(sequence, recorded),
            failure: OnceLock::new(),
            tables: RwLock::new(Some(tables.clone())),
        });
        let recorder = {
            let (shared, file) = (shared.clone(), directory.sequence_file());
            spawn("store-recorder", move || shared.synced.record(&file)).map_err(io_error(dir, "start a thread"))?
        };
        let committer = Committer::new(shared.clone(), tables, sequence);
        let committer = spawn("store-committer", move || committer.run()).map_err(|error| {
            shared.synced.close();
            io_error(dir, "start a thread")(error)
        })?;
        let threads = Mutex::new(Some(Threads { committer, recorder, directory }));
        Ok(Self { inner: Arc::new(Inner { shared, threads }) })
    }

    /// The dataset `name` in `region`, made where there is none.
    ///
    /// # Errors
    /// When its names are longer than 255 bytes, or it cannot be read or made durable.
    pub async fn dataset(&self, name: &str, region: &str) -> Result<Dataset> {
        if name.len() > 255 || region.len() > 255 {
            let reason =
                format!("names of datasets and regions have at most 255 bytes, not {}", name.len().max(region.len()));
            return Err(Error::Unavailable { reason });
        }
        let (name, region) = (name.to_owned(), region.to_owned());
        let state = self.inner.ask(|reply| Request::OpenDataset { name, region, reply }).await?;
        Ok(Dataset { state, database: self.inner.clone() })
    }

    /// Whether the database takes writes, and if not, why.
    ///
    /// # Errors
    /// When a write could not be synced (the process has to be restarted), or when it is closed.
    pub fn health(&self) -> std::result::Result<(), String> {
        self.inner.health()
    }

    /// Commits what was taken, then closes. Every handle answers [`Error::Unavailable`] from then on. Blocks until the
    /// threads have ended; closing again does nothing.
    pub fn close(&self) {
        self.inner.close();
    }
}

/// Leaves the next open little to do: where the journal is long, what it holds is written to the tables and taken out of it.
/// Nothing writes to the store any more.
fn settle(tables: Tables, store: &Path) {
    match journal::newest_over(store, JOURNAL_KEPT_BYTES_MAX) {
        Ok(None) => return,
        Ok(Some(_)) => {}
        Err(error) => return tracing::warn!(%error, "cannot look at the journal; the next start reads all of it"),
    }
    let is_written_out = tables.write_out();
    drop(tables);
    // Writing out may have begun another one; the ones before it are fjall's to remove.
    let cut = || match journal::newest_over(store, 0)? {
        Some(newest) => journal::cut(&newest, 0),
        None => Ok(()),
    };
    if is_written_out && let Err(error) = cut() {
        tracing::warn!(%error, "cannot cut the journal; the next start reads all of it");
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}
