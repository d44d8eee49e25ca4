//! Servers as child processes: started, waited for, looked at through `/proc`, and killed when let go of, whatever happens.

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

/// How long a server may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// `/proc` counts CPU time in these on every Linux architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

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

    /// CPU time it has used so far.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let ticks = cpu_ticks(&stat).with_context(|| format!("no CPU time in {stat:?}"))?;
        Ok(Duration::from_secs_f64(ticks as f64 / TICKS_PER_SECOND))
    }

    /// Memory of it that is resident, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        resident_kib(&status).map(|kib| kib * 1024).context("no VmRSS in the process's status")
    }

    /// Waits until it does next to nothing, so that its chores are not on another's bill; not for ever.
    pub async fn until_quiet(&self) -> Result<()> {
        /// Longer than the coalescing window of the benchmark's namespaces: between two windows a busy server rests.
        const WATCHED: Duration = Duration::from_millis(600);
        const QUIET: Duration = Duration::from_millis(30);
        const ATTEMPTS: usize = 20;
        for _ in 0..ATTEMPTS {
            let before = self.cpu_time()?;
            tokio::time::sleep(WATCHED).await;
            if self.cpu_time()?.saturating_sub(before) <= QUIET {
                return Ok(());
            }
        }
        eprintln!("{} does not come to rest; what follows is measured beside it", self.name);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// User and system time, the 14th and 15th field. The second one is in parentheses and may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_kib(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
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

    #[test]
    fn cpu_time_is_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "4711 (a (odd) name) S 1 4711 4711 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn resident_memory_is_read_in_kibibytes() {
        assert_eq!(resident_kib("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t   12345 kB\n"), Some(12_345));
        assert_eq!(resident_kib("Name:\tx\n"), None);
    }

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
