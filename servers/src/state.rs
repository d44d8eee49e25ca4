//! What runs in a place, as its state file remembers it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cassandra::NATIVE_PORT;
use crate::error::{Error, Result};
use crate::options::{Place, Shape};
use crate::process::Pid;

/// A Cassandra node that has been started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its address, for clients and for other nodes.
    pub address: Ipv4Addr,
    /// Its datacenter.
    pub datacenter: String,
    /// Its process, which may have ended.
    pub process: Pid,
}

impl Node {
    /// Where clients connect.
    pub fn contact_point(&self) -> SocketAddr {
        (self.address, NATIVE_PORT).into()
    }
}

/// A memcached server that has been started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memcached {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Its process, which may have ended.
    pub process: Pid,
}

/// All servers of a set, those too that have ended by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub place: Place,
    pub shape: Shape,
    pub nodes: Vec<Node>,
    pub memcached: Vec<Memcached>,
}

impl State {
    pub(crate) fn empty(place: &Place, shape: &Shape) -> Self {
        Self { place: place.clone(), shape: shape.clone(), nodes: Vec::new(), memcached: Vec::new() }
    }

    /// Reads the state of a place; `None` where no set is.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>> {
        let path = file(folder);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::file(&path))?,
        };
        let wrong = |error: serde_json::Error| {
            Error::Missing(format!(
                "{}: {error}; it is from another version: end the processes that it names, and remove {}",
                path.display(),
                folder.display()
            ))
        };
        serde_json::from_str(&text).map(Some).map_err(wrong)
    }

    /// Replaces the state file, all of it or nothing.
    pub(crate) fn save(&self) -> Result<()> {
        let folder = &self.place.folder;
        fs::create_dir_all(folder).map_err(Error::file(folder))?;
        let path = file(folder);
        let beside = path.with_extension("new");
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::File { path: path.clone(), source: error.into() })?;
        fs::write(&beside, text).map_err(Error::file(&beside))?;
        fs::rename(&beside, &path).map_err(Error::file(&path))
    }

    pub(crate) fn processes(&self) -> impl Iterator<Item = Pid> {
        self.nodes.iter().map(|node| node.process).chain(self.memcached.iter().map(|server| server.process))
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.nodes.len() == usize::from(self.shape.nodes_in_all())
            && self.memcached.len() == usize::from(self.shape.memcached)
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

/// Keeps everybody else from changing what runs in a place, for as long as it lives.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "unlocks when it is dropped")] File);

impl Lock {
    /// Waits for its turn.
    ///
    /// # Errors
    /// [`Error::File`] where the file that is locked cannot be made.
    pub fn take(folder: &Path) -> Result<Self> {
        // Beside the folder, which is removed while it is locked.
        let mut path = folder.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::file(parent))?;
        }
        let file = File::create(&path).map_err(Error::file(&path))?;
        if file.try_lock().is_err() {
            eprintln!("waiting for another run that uses {}", folder.display());
            file.lock().map_err(Error::file(&path))?;
        }
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_and_no_state_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder: folder.path().join("set"), first_address: Ipv4Addr::LOCALHOST };
        assert_eq!(State::load(&place.folder).unwrap(), None);
        let shape = Shape { memcached: 1, ..Shape::default() };
        let mut state = State::empty(&place, &shape);
        let process = Pid::running(std::process::id()).unwrap();
        state.nodes.push(Node { address: Ipv4Addr::LOCALHOST, datacenter: "dc1".to_owned(), process });
        assert!(!state.is_complete());
        state.memcached.push(Memcached { address: "127.0.0.1:11311".parse().unwrap(), process });
        assert!(state.is_complete());
        state.save().unwrap();
        assert_eq!(State::load(&place.folder).unwrap(), Some(state));
    }

    #[test]
    fn a_state_that_cannot_be_read_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file(folder.path()), "{}").unwrap();
        let error = State::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("remove"), "{error}");
    }

    #[test]
    fn only_one_at_a_time_holds_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("set");
        let first = Lock::take(&place).unwrap();
        let path = place.clone();
        let second = std::thread::spawn(move || Lock::take(&path).map(drop));
        assert!(File::create(folder.path().join("set.lock")).unwrap().try_lock().is_err());
        drop(first);
        second.join().unwrap().unwrap();
    }
}
