//! One process of the data plane: started on ports of its own, waited for, hurt, ended.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tallyman_servers::Pid;

use crate::binaries::command;
use crate::{PATIENCE, now};

/// How long a daemon may take for one page.
const PAGE_PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(50);
const LOG_LINES_SHOWN: usize = 30;

/// A process that serves, with what it takes to start it again as it was.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    listen: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
    running: Option<(Child, Pid)>,
}

impl Daemon {
    /// A process that is not started yet, with the arguments that all of them have.
    pub fn new(name: &str, program: PathBuf, namespaces: &Path, folder: &Path) -> Self {
        let ip = own_ip();
        let (listen, admin) = (SocketAddr::new(ip, 7777), SocketAddr::new(ip, 7778));
        let mut daemon = Self {
            name: name.to_owned(),
            program,
            arguments: vec!["--namespaces-dir".into(), namespaces.into()],
            environment: Vec::new(),
            listen,
            admin,
            log: folder.join(format!("{name}.log")),
            running: None,
        };
        daemon.argument("--listen", listen.to_string());
        daemon.argument("--admin", admin.to_string());
        daemon
    }

    /// Adds an option to those it will be started with.
    pub fn argument(&mut self, option: &str, value: impl Into<OsString>) {
        self.arguments.extend([option.into(), value.into()]);
    }

    /// The environment variables that it will be started with from now on, beside those of the test.
    pub fn set_environment(&mut self, variables: Vec<(OsString, OsString)>) {
        self.environment = variables;
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it serves.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Starts it, or starts it again where it was.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "{} runs already", self.name);
        let output = File::options().create(true).append(true).open(&self.log).unwrap();
        let child = command(self.program.clone())
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let pid = Pid::running(child.id()).unwrap_or_else(|| panic!("{} ended at once:\n{}", self.name, self.log()));
        self.running = Some((child, pid));
    }

    /// Waits until it says that it is ready.
    pub fn wait_until_ready(&mut self) {
        let started = now();
        loop {
            let answer = get(self.admin, "/readyz");
            if answer.as_ref().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return;
            }
            let (child, _) = self.running.as_mut().unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            assert!(started.elapsed() < PATIENCE, "{} is not ready: {answer:?}\n{}", self.name, self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Waits until its readiness page has all of these words; the page.
    pub fn wait_until_told(&self, words: &[&str]) -> String {
        let started = now();
        loop {
            let answer = get(self.admin, "/readyz").unwrap_or_default();
            if words.iter().all(|word| answer.contains(word)) {
                return answer;
            }
            assert!(started.elapsed() < PATIENCE, "{} does not say {words:?}: {answer}\n{}", self.name, self.log());
            std::thread::sleep(POLL);
        }
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        let (mut child, _) = self.running.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops it in its tracks (SIGSTOP).
    pub fn pause(&self) {
        self.pid().pause().unwrap();
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.pid().resume().unwrap();
    }

    /// Asks it to end (SIGTERM), and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        self.pid().terminate().unwrap();
        let ended = self.pid().ends_within(PATIENCE);
        assert!(ended, "{} does not end on SIGTERM:\n{}", self.name, self.log());
        let (mut child, _) = self.running.take().unwrap();
        child.wait().unwrap()
    }

    /// Whether it has been started and not ended since by us.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The value of a metric line that begins with these words: `name` or `name{label="value"}`.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = get(self.admin, "/metrics").ok()?;
        page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// Head and body of its answer to a JSON request to where it serves.
    pub fn post(&self, path: &str, body: &str) -> std::io::Result<String> {
        exchange(self.listen, &format!("POST {path}"), body)
    }

    /// Memory of it that is resident, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid().pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }

    fn pid(&self) -> Pid {
        self.running.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).1
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            if std::thread::panicking() {
                eprintln!("--- the end of the log of {}:\n{}", self.name, self.log());
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A loopback address that no other process of these tests has. On 127.0.0.1 the port of a process that is down, for a moment or
/// on purpose, can become that of somebody's outgoing connection, and then it cannot start again.
fn own_ip() -> IpAddr {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    assert!(number < 1 << 8, "a test program starts at most 256 processes");
    let of_program = std::process::id() % (1 << 14);
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 64, 0, 0).to_bits() | of_program << 8 | number).into()
}

pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    exchange(address, &format!("GET {path}"), "")
}

/// Head and body of an answer.
fn exchange(address: SocketAddr, method_and_path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PAGE_PATIENCE)?;
    stream.set_read_timeout(Some(PAGE_PATIENCE))?;
    let length = body.len();
    write!(
        stream,
        "{method_and_path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
