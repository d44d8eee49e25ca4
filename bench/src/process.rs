//! Servers as child processes: started, waited for, and killed when let go of, whatever happens.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::usage::Process;

/// How long a server may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A child process.
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a program whose output goes to a file in `dir`, which outlives the process.
    pub fn start<S: AsRef<OsStr>>(
        name: &str,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
        dir: &Path,
    ) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = Command::new(&program)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.as_ref().display()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Asks `check` until it says yes, for a while, and only as long as the process lives.
    pub async fn until_ready(&mut self, poll: Duration, mut check: impl AsyncFnMut() -> bool) -> Result<()> {
        let until = Instant::now() + READY_WITHIN;
        while !check().await {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}:\n{}", self.name, self.log_tail());
            }
            if Instant::now() > until {
                bail!("{} was not ready within {READY_WITHIN:?}:\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(poll).await;
        }
        Ok(())
    }

    /// The end of what it printed.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The process, to look at what it uses.
    pub fn process(&self) -> Process {
        Process::new(&self.name, self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An address on loopback that nobody listened on a moment ago.
pub fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Whether somebody listens there.
pub async fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_ok()
}

/// Whether `GET path` answers 200 there.
pub async fn answers_ok(address: SocketAddr, path: &str) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut reply = [0; 12];
        stream.read_exact(&mut reply).await.ok()?;
        (&reply == b"HTTP/1.1 200").then_some(())
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Some(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_ends_is_reported_with_what_it_printed() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::start("failing", "sh", ["-c", "echo no luck; exit 3"], dir.path()).unwrap();
        let error = server.until_ready(Duration::from_millis(1), async || false).await.unwrap_err().to_string();
        assert!(error.contains("no luck") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_server_dies_with_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start("sleeping", "sleep", ["1000"], dir.path()).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", server.child.id()));
        assert!(proc.exists());
        drop(server);
        assert!(!proc.exists());
    }
}
