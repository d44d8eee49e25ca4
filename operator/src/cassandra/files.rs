//! Credentials and certificates in files, where the driver reads them: a folder of this process alone, gone with it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::Access;

/// The files of one class.
pub(super) struct Files {
    folder: TempDir,
    has_login: bool,
    has_ca: bool,
}

const CREDENTIALS: &str = "credentials";
const CA: &str = "ca.crt";

impl Files {
    /// Writes what `access` has.
    pub fn write(access: &Access) -> io::Result<Self> {
        // Readable by its owner alone.
        let folder = TempDir::with_prefix("tallyman-operator-")?;
        if let Some(login) = &access.login {
            write(&folder.path().join(CREDENTIALS), &login.text())?;
        }
        if let Some(ca) = &access.ca {
            write(&folder.path().join(CA), ca)?;
        }
        Ok(Self { folder, has_login: access.login.is_some(), has_ca: access.ca.is_some() })
    }

    /// User name and password of who may change schemas.
    pub fn credentials(&self) -> Option<PathBuf> {
        self.has_login.then(|| self.folder.path().join(CREDENTIALS))
    }

    /// The certificates that the nodes' are checked against.
    pub fn ca(&self) -> Option<PathBuf> {
        self.has_ca.then(|| self.folder.path().join(CA))
    }

    /// Where the credentials of a dataset's role are put while its password is tried.
    pub fn role(&self, dataset: &str) -> Option<PathBuf> {
        self.has_login.then(|| self.folder.path().join(format!("{dataset}.{CREDENTIALS}")))
    }
}

/// Replaces a file whole: who reads it reads the old one or the new one.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    // Every file here is made in a folder of its own.
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.persist(file).map_err(|error| error.error)?;
    Ok(())
}
