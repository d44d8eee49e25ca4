//! The files of one end of mutual TLS: what the other end is trusted by, and what this end shows. Certificates are renewed while
//! processes run, so their files are read again and compared by what they hold.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How soon renewed files are noticed, at the latest.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the files are, each in PEM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsFiles {
    /// The certificate authority that the other end's certificate comes from.
    pub ca_file: PathBuf,
    /// The certificate that this end shows.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// What the files hold. Not checked; never shown, as a key is in it.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsContents {
    /// Of the `ca_file`.
    pub ca: Vec<u8>,
    /// Of the `cert_file`.
    pub cert: Vec<u8>,
    /// Of the `key_file`.
    pub key: Vec<u8>,
}

impl TlsFiles {
    /// Reads all three. While they are being renewed, what is read may be part old and part new: certificate and key do not fit
    /// then, and the next look finds them whole.
    ///
    /// # Errors
    /// Which one cannot be read, and why.
    pub async fn read(&self) -> Result<TlsContents, String> {
        Ok(TlsContents {
            ca: read(&self.ca_file).await?,
            cert: read(&self.cert_file).await?,
            key: read(&self.key_file).await?,
        })
    }
}

async fn read(file: &Path) -> Result<Vec<u8>, String> {
    tokio::fs::read(file).await.map_err(|error| format!("{} cannot be read: {error}", file.display()))
}
