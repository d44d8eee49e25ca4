//! The addresses of a process: bound and checked before anything is served.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tallyman_daemon::connections;
use tokio::net::{TcpListener, UnixListener};

/// Who may connect to the Unix socket: its user and group.
const SOCKET_MODE: u32 = 0o660;

/// Where to listen. Port 0 takes a free port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The counter API; a loopback address.
    pub api: SocketAddr,
    /// The counter API once more, on a Unix socket.
    pub unix_socket: Option<PathBuf>,
    /// The admin pages.
    pub admin: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The API serves whoever reaches it, so it is reached from this machine (this pod) only.
    #[error(
        "the counter API listens on loopback only, not on {address}: it asks nobody who they are; use 127.0.0.1:{} or [::1]:{}",
        address.port(), address.port()
    )]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The operating system refuses.
    #[error(transparent)]
    Tcp(#[from] connections::BindError),
    /// The operating system refuses, somebody else listens there, or there is a file that is no socket.
    #[error("cannot listen on the Unix socket {}: {source}", path.display())]
    Unix {
        /// The path asked for.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Everything a server listens on.
#[derive(Debug)]
pub struct Listeners {
    pub(crate) api: TcpListener,
    pub(crate) unix_socket: Option<UnixSocket>,
    pub(crate) admin: TcpListener,
    api_address: SocketAddr,
    admin_address: SocketAddr,
}

impl Listeners {
    /// Binds all addresses.
    ///
    /// # Errors
    /// When one cannot be listened on; then none is.
    pub async fn bind(addresses: &Addresses) -> Result<Self, BindError> {
        // An IPv4 address written as IPv6 is the IPv4 address.
        if !addresses.api.ip().to_canonical().is_loopback() {
            return Err(BindError::NotLoopback { address: addresses.api });
        }
        let (api, api_address) = connections::bind(addresses.api, "the counter API").await?;
        let (admin, admin_address) = connections::bind(addresses.admin, "the admin pages").await?;
        let unix_socket = match &addresses.unix_socket {
            Some(path) => {
                Some(UnixSocket::bind(path).map_err(|source| BindError::Unix { path: path.clone(), source })?)
            }
            None => None,
        };
        Ok(Self { api, unix_socket, admin, api_address, admin_address })
    }

    /// Where the counter API listens, with the port it got.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.api_address
    }

    /// Where the admin pages are, with the port they got.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }
}

/// A bound Unix socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    pub listener: UnixListener,
    path: PathBuf,
    /// The file's own number: another process may have put its socket in this one's place.
    inode: u64,
}

impl UnixSocket {
    fn bind(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        let inode = std::fs::symlink_metadata(path)?.ino();
        Ok(Self { listener, path: path.to_owned(), inode })
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let is_ours = std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if is_ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the Unix socket");
        }
    }
}

/// Removes a socket that nobody listens on, as a killed process leaves it.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
    }
}
