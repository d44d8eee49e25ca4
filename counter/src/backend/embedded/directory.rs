//! The data directory: whose it is, which format it has, and how its small files are written.
//!
//! ```text
//! LOCK       locked by the process that has the directory open, with its id
//! FORMAT     one line; written before anything else
//! SEQUENCE   the last commit known to have been synced
//! store/     fjall's; made beside its place and moved there, so that a half-made one is never opened
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::error::OpenError;

const FORMAT: &str = "tallyman embedded store, format 1";

/// A data directory that this process has locked. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory where there is none, locks it, and checks its format.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(path).map_err(io_error(path, "create it"))?;
        let lock = lock(path)?;
        let directory = Self { path: path.to_owned(), _lock: lock };
        directory.check_format()?;
        Ok(directory)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn sequence_file(&self) -> PathBuf {
        self.path.join("SEQUENCE")
    }

    /// Where fjall's files are, or are to be.
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// An empty place to make a store in. What an earlier attempt left is removed.
    pub fn store_in_the_making(&self) -> Result<PathBuf, OpenError> {
        let path = self.path.join("store.new");
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(&self.path, "remove a half-made store")(error))
            }
            _ => Ok(path),
        }
    }

    /// Moves what was made to where it is opened from.
    pub fn install(&self, made: &Path) -> Result<(), OpenError> {
        fs::rename(made, self.store())
            .and_then(|()| sync_directory(&self.path))
            .map_err(io_error(&self.path, "install a new store"))
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let file = self.path.join("FORMAT");
        let found = match fs::read_to_string(&file) {
            Ok(found) => found.trim_end().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.store().exists() => {
                return replace(&file, format!("{FORMAT}\n").as_bytes())
                    .map_err(io_error(&self.path, "write its format file"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(io_error(&self.path, "read its format file")(error)),
        };
        if found == FORMAT { Ok(()) } else { Err(OpenError::Format { dir: self.path.clone(), found, known: FORMAT }) }
    }
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let failed = |error| io_error(path, "lock it")(error);
    // Not truncated when opened: until the lock is ours, what is in it is another process's id.
    let file = path.join("LOCK");
    let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {
            lock.set_len(0).map_err(failed)?;
            write!(lock, "{}", std::process::id()).map_err(failed)?;
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The other process may be writing its id just now; the refusal stands without it.
            let _ = lock.read_to_string(&mut holder);
            Err(OpenError::InUse { dir: path.to_owned(), holder: holder.trim().parse().ok() })
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Says which directory and what was tried.
pub(super) fn io_error(dir: &Path, action: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { dir: dir.to_owned(), action, source }
}

/// Replaces a file whole: after a crash it has its old contents or its new ones.
pub(super) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes renames in a directory durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
