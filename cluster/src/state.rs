//! What runs in a place, as its state file remembers it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tallyman_servers::Pid;

use crate::error::{Error, Result};
use crate::options::{Place, Shape};
use crate::part::Part;

/// A cluster's processes, those too that have ended by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub place: Place,
    pub shape: Shape,
    pub processes: BTreeMap<Part, Pid>,
}

impl State {
    pub(crate) fn empty(place: &Place, shape: &Shape) -> Self {
        Self { place: place.clone(), shape: shape.clone(), processes: BTreeMap::new() }
    }

    /// Reads the state of a place; `None` where no cluster is.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>> {
        let path = file(folder);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::file(&path))?,
        };
        let what = format!(
            "{} is from another version: end the processes that it names, and remove {}",
            path.display(),
            folder.display()
        );
        serde_json::from_str(&text).map(Some).map_err(Error::answer(&what, &text))
    }

    /// Replaces the state file, all of it or nothing.
    pub(crate) fn save(&self) -> Result<()> {
        let folder = &self.place.folder;
        // Keys are in it, and pods' secrets.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Error::file(folder))?;
        let path = file(folder);
        let beside = path.with_extension("new");
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::file(&path)(error.into()))?;
        fs::write(&beside, text).map_err(Error::file(&beside))?;
        fs::rename(&beside, &path).map_err(Error::file(&path))
    }

    /// The last started first, so that none sees the one go on which it stands.
    pub(crate) fn processes(&self) -> impl Iterator<Item = Pid> {
        self.processes.values().rev().copied()
    }

    pub(crate) fn is_complete(&self) -> bool {
        Part::all(&self.shape).iter().all(|part| self.processes.contains_key(part))
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_and_no_state_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder: folder.path().join("cluster"), address: [127, 0, 100, 1].into() };
        assert_eq!(State::load(&place.folder).unwrap(), None);
        let mut state = State::empty(&place, &Shape::default());
        for part in Part::CONTROL_PLANE {
            assert!(!state.is_complete());
            state.processes.insert(part, Pid::running(std::process::id()).unwrap());
        }
        assert!(state.is_complete());
        state.save().unwrap();
        let mode = fs::metadata(&place.folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "others may not read keys");
        assert_eq!(State::load(&place.folder).unwrap(), Some(state));
    }

    #[test]
    fn a_state_that_cannot_be_read_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(file(folder.path()), "{}").unwrap();
        let error = State::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("remove"), "{error}");
    }
}
