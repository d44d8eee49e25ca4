//! What can go wrong with a real control plane.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a cluster could not be installed, started, asked or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Installing, running or ending a program failed.
    #[error(transparent)]
    Server(#[from] tallyman_servers::Error),
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The system is not one that this runs on.
    #[error("a cluster needs Linux, as it finds its processes again by /proc; this is {0}")]
    System(&'static str),
    /// Namespaces and cgroups are root's.
    #[error(
        "a cluster with a node needs root, for network, mounts and cgroups of its own: run it as root, or without a node, by \
         --control-plane-only"
    )]
    NotRoot,
    /// Nothing runs in this place.
    #[error("no cluster runs; `cargo xtask cluster up` starts one")]
    NoCluster,
    /// Only nodes have images.
    #[error(
        "this cluster has no node that images could be brought to; `cargo xtask cluster up` starts one with a node"
    )]
    NoNode,
    /// The machine of a node has ended, and with it all that ran there.
    #[error("the machine of the node in {} has ended, and its pods with it; end the rest with `cargo xtask cluster down`", .0.display())]
    MachineEnded(PathBuf),
    /// An option is not possible.
    #[error("{field}: {value}: {allowed}")]
    Option {
        /// The option.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is possible.
        allowed: String,
    },
    /// Another cluster runs in this place.
    #[error(
        "another cluster runs already in {}: {running}; asked for: {asked}. End it first with `cargo xtask cluster down`, or choose \
         another place with TALLYMAN_CLUSTER_DIR and --address",
        folder.display()
    )]
    OtherShape {
        /// The folder of the cluster.
        folder: PathBuf,
        /// What runs.
        running: String,
        /// What was asked for.
        asked: String,
    },
    /// An address is taken by somebody else.
    #[error("{address}: in use by another program; choose another address with --address ({source})")]
    AddressTaken {
        /// Address and port.
        address: std::net::SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A process ended by itself while it started.
    #[error("{part} ended while it started; the last lines of its log:\n{log}")]
    Died {
        /// The process.
        part: &'static str,
        /// The end of its log.
        log: String,
    },
    /// A process does not come up.
    #[error("{part} was not ready within {} s: {last}; the last lines of its log:\n{log}", patience.as_secs())]
    NotReady {
        /// The process.
        part: &'static str,
        /// How long was waited.
        patience: Duration,
        /// Its last answer.
        last: String,
        /// The end of its log.
        log: String,
    },
    /// A program answered with something that we cannot read.
    #[error("{what}: {source}: {text}")]
    Answer {
        /// Who answered.
        what: String,
        /// What is wrong.
        source: serde_json::Error,
        /// The answer.
        text: String,
    },
    /// The stand-in for the kubelet cannot reach the API server.
    #[cfg(feature = "standin-kubelet")]
    #[error("the stand-in for the kubelet: {0}")]
    StandinKubelet(Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// For `map_err` beside file calls.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    /// For `map_err` beside what reads a program's answer.
    pub(crate) fn answer(what: &str, text: &str) -> impl FnOnce(serde_json::Error) -> Self {
        let (what, text) = (what.to_owned(), text.to_owned());
        move |source| Self::Answer { what, source, text }
    }
}
