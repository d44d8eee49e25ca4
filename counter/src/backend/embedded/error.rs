//! Why a database does not open, and how fjall's errors read outside.

use std::io;
use std::path::PathBuf;

use crate::store::Error;

/// Why a data directory cannot be opened. Each message names the directory and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "data directory {} is in use by {}: end that process first, or choose another directory", dir.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other process, where it left its id.
        holder: Option<u32>,
    },
    /// Written by a version that this one does not know, or not a data directory of ours.
    #[error(
        "data directory {} has format {found:?}, and this version reads {known:?}: use the version that wrote it, or an empty directory",
        dir.display()
    )]
    Format {
        /// The directory.
        dir: PathBuf,
        /// What its format file says.
        found: String,
        /// What it would have to say.
        known: &'static str,
    },
    /// Acknowledged writes are missing.
    #[error(
        "data directory {} has lost acknowledged writes (commit {recovered} is the last one found, commit {recorded} was synced): \
         restore the directory from a backup; to go on without what is lost, remove {} by hand",
        dir.display(), sequence_file.display()
    )]
    LostWrites {
        /// The directory.
        dir: PathBuf,
        /// The last commit found.
        recovered: u64,
        /// The last commit known to have been synced.
        recorded: u64,
        /// The file that says so.
        sequence_file: PathBuf,
    },
    /// What is stored cannot be read.
    #[error("data directory {} is damaged ({reason}): restore it from a backup", dir.display())]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system said no.
    #[error("data directory {}: cannot {action}: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The file system's answer.
        source: io::Error,
    },
}

/// A read that failed. Nothing was written by it.
pub(super) fn of_read(error: &fjall::Error) -> Error {
    match error {
        fjall::Error::Io(_) | fjall::Error::Poisoned | fjall::Error::Locked => {
            Error::Unavailable { reason: format!("cannot read the data directory: {error}") }
        }
        _ => Error::Corrupt { reason: error.to_string() },
    }
}

/// The answer to everything asked of a closed database.
pub(super) fn closed() -> Error {
    Error::Unavailable { reason: "the database is closed".to_owned() }
}
