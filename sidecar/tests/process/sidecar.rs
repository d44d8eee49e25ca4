//! A sidecar of a test's own, and the folder that it follows.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take that is waited for. Long, for busy machines: it decides about failures only.
const PATIENCE: Duration = Duration::from_secs(60);

/// The built binary, without the environment's say in its options.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyman-sidecar"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("TALLYMAN_") || name == "POD_NAME" {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the binary where it is expected to end by itself.
pub fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[allow(clippy::disallowed_methods, reason = "how long the test has waited is no business of the engine's clock")]
fn now() -> Instant {
    Instant::now()
}

/// A folder with a folder of namespaces in it, or without one yet.
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// With these documents, by file name.
    pub fn new(documents: &[(&str, String)]) -> Self {
        let home = Self::without_namespaces();
        home.create_namespaces();
        for (file, document) in documents {
            home.write(file, document);
        }
        home
    }

    pub fn without_namespaces() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn create_namespaces(&self) {
        std::fs::create_dir(self.namespaces()).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn namespaces(&self) -> PathBuf {
        self.path("namespaces")
    }

    /// Replaces a document in one step, as a reader may look at any time.
    pub fn write(&self, file: &str, document: &str) {
        let beside = self.path("beside");
        std::fs::write(&beside, document).unwrap();
        std::fs::rename(beside, self.namespaces().join(file)).unwrap();
    }

    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.namespaces().join(file)).unwrap();
    }

    /// Starts a sidecar on free ports and waits until it serves.
    pub fn start(&self, more: &[&str]) -> Sidecar {
        let log = self.path("log");
        let written = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = binary();
        command.arg("--namespaces-dir").arg(self.namespaces());
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]).args(more);
        let mut child = command.stdout(Stdio::null()).stderr(written).spawn().unwrap();
        let (api, admin) = eventually("the sidecar says where it serves", || {
            let text = std::fs::read_to_string(&log).unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("it did not start ({status}): {text}");
            }
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let said = lines.map(|line| line["fields"].clone()).find(|fields| fields["message"] == "serving")?;
            let address = |name: &str| said[name].as_str().unwrap().to_owned();
            Some((address("listen"), address("admin")))
        });
        Sidecar { child, api, admin }
    }
}

/// A running sidecar. It is killed with the test.
pub struct Sidecar {
    child: Child,
    /// `host:port` of the counter API.
    pub api: String,
    /// `host:port` of the admin pages.
    pub admin: String,
}

/// What an HTTP server answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The reason of a refusal.
    pub fn reason(&self) -> String {
        let status = self.json();
        let details = status["details"].as_array().unwrap_or_else(|| panic!("{self:?}"));
        details.iter().find_map(|detail| detail["reason"].as_str()).unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

/// One request on a connection of its own.
pub fn request(address: &str, method: &str, path: &str, body: &str) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("the reply was cut off"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Reply { status: status.ok_or_else(|| std::io::Error::other("no status"))?, body: body.to_owned() })
}

impl Sidecar {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn add(&self, namespace: &str, counter: &str) -> Reply {
        let path = format!("/v1/namespaces/{namespace}/counters/{counter}:add");
        request(&self.api, "POST", &path, r#"{"delta": 1}"#).unwrap()
    }

    pub fn get(&self, namespace: &str, counter: &str) -> Reply {
        request(&self.api, "GET", &format!("/v1/namespaces/{namespace}/counters/{counter}"), "").unwrap()
    }

    pub fn admin(&self, path: &str) -> Reply {
        request(&self.admin, "GET", path, "").unwrap()
    }

    /// The failure, or the warning, of a readiness check, and which of the two it is.
    pub fn readiness(&self, check: &str) -> (Option<String>, Option<String>) {
        let reply = self.admin("/readyz?format=json");
        let report = reply.json();
        assert_eq!(report["ready"].as_bool().unwrap(), reply.status == 200);
        let checks = report["checks"].as_array().unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let check = checks.iter().find(|one| one["name"] == check).unwrap_or_else(|| panic!("no {check}: {reply:?}"));
        (text(&check["failed"]), text(&check["warning"]))
    }

    pub fn has_check(&self, check: &str) -> bool {
        let report = self.admin("/readyz?format=json").json();
        report["checks"].as_array().unwrap().iter().any(|one| one["name"] == check)
    }

    pub fn is_ready(&self) -> bool {
        self.admin("/readyz").status == 200
    }

    pub fn wait_until_ready(&self) {
        eventually("it is ready", || self.is_ready().then_some(()));
    }

    /// The value of a metric, as its whole line begins before the value.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = self.admin("/metrics").body;
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        let sent = Command::new("kill").arg("-TERM").arg(self.pid().to_string()).status().unwrap();
        assert!(sent.success());
        eventually("it ends after SIGTERM", || self.child.try_wait().unwrap())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
