//! What can go wrong with real servers.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why servers could not be installed, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program could not be run.
    #[error("cannot run {program}: {source}")]
    Program {
        /// The program.
        program: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A program that installs or prepares something failed.
    #[error("{what} failed ({status}):\n{output}")]
    Failed {
        /// What was to be done.
        what: String,
        /// How the program ended.
        status: std::process::ExitStatus,
        /// The last lines it printed.
        output: String,
    },
    /// Something that we cannot install is missing.
    #[error("{0}")]
    Missing(String),
    /// The shape or the place of a set is not possible.
    #[error("{field}: {value}: {allowed}")]
    Option {
        /// The option.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is possible.
        allowed: String,
    },
    /// Other servers run in this place.
    #[error(
        "other servers run already in {}: {running}; asked for: {asked}. End them first with `cargo xtask servers down`, or \
         choose another place with TALLYMAN_SERVERS_DIR and --first-address",
        folder.display()
    )]
    OtherShape {
        /// The folder of the set.
        folder: PathBuf,
        /// What runs.
        running: String,
        /// What was asked for.
        asked: String,
    },
    /// An address is taken by somebody else.
    #[error("{address}: in use by another program; choose another address with --first-address ({source})")]
    AddressTaken {
        /// Address and port.
        address: std::net::SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A server ended by itself while it started.
    #[error("{server} ended while it started; the last lines of its log:\n{log}")]
    Died {
        /// The server.
        server: String,
        /// The end of its log.
        log: String,
    },
    /// A server does not come up.
    #[error(
        "{server} was not ready within {} s: {last}; the last lines of its log:\n{log}",
        patience.as_secs()
    )]
    NotReady {
        /// The server.
        server: String,
        /// How long was waited.
        patience: Duration,
        /// Its last answer.
        last: String,
        /// The end of its log.
        log: String,
    },
    /// A process goes on though it was killed or paused.
    #[error("process {pid} goes on though it was killed or paused")]
    Unstoppable {
        /// Its id.
        pid: u32,
    },
    /// A signal could not be sent.
    #[error("process {pid}: {source}")]
    Signal {
        /// Its id.
        pid: u32,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A server that runs refuses what we ask of it.
    #[error("{server}: {reason}")]
    Refused {
        /// The server.
        server: String,
        /// Its answer.
        reason: String,
    },
}

impl Error {
    /// For `map_err` beside file calls.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
