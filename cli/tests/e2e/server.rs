//! A standalone server of a test's own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tallyman_api::client::Client;
use tempfile::TempDir;

use crate::process::{Ended, eventually, run, signal, tallyman, text};

/// Durable, exact soon: events are final after 3.1 s. Shorter, and a busy machine could not send in time.
pub const QUICK: &str = "{acceptLimit: 2s, writeTimeout: 1s, maxClockSkew: 100ms}";
/// Durable, and retries with the same token are safe for minutes.
pub const PATIENT: &str = "{acceptLimit: 5m, writeTimeout: 500ms, maxClockSkew: 100ms}";

/// A CounterNamespace as a file's text; `event_store` is YAML, or empty.
pub fn manifest(name: &str, counter_type: &str, event_store: &str) -> String {
    let durable = if event_store.is_empty() {
        String::new()
    } else {
        format!(", eventStore: {event_store}, rollup: {{numQueues: 2, coalesce: 100ms}}")
    };
    format!(
        "apiVersion: tallyman.dev/v1alpha1\nkind: CounterNamespace\nmetadata: {{name: {name}}}\n\
         spec: {{counterType: {counter_type}{durable}}}\n"
    )
}

/// A folder with namespaces and data, which outlives the servers that run on it.
pub struct Home {
    folder: TempDir,
}

impl Home {
    /// A folder with these namespaces, one file each, named after them.
    pub fn new(manifests: &[(&str, &str, &str)]) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(home.path("namespaces")).unwrap();
        for (name, counter_type, event_store) in manifests {
            home.write(&format!("namespaces/{name}.yaml"), &manifest(name, counter_type, event_store));
        }
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same, as an argument.
    pub fn argument(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Replaces a file in one step, as a reader may look at any time.
    pub fn write(&self, name: &str, text: &str) {
        let beside = self.path(".beside");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
    }

    /// The arguments of a server here, on free ports.
    pub fn arguments(&self) -> Vec<String> {
        let (namespaces, data) = (self.argument("namespaces"), self.argument("data"));
        let arguments = ["-o", "json", "standalone", "--namespaces", &namespaces, "--data-dir", &data];
        arguments.iter().map(|argument| (*argument).to_owned()).collect()
    }

    /// Starts a server on free ports and waits until it serves.
    pub fn start(&self, more: &[&str]) -> Server {
        self.start_on("127.0.0.1:0", more)
    }

    /// The same, with the counter API where it is to be.
    pub fn start_on(&self, listen: &str, more: &[&str]) -> Server {
        self.spawn(tallyman().args(self.arguments()).args(["--listen", listen, "--admin", "127.0.0.1:0"]).args(more))
    }

    /// Starts a server on free ports, with more environment variables.
    pub fn start_in(&self, environment: &[(&str, &str)], more: &[&str]) -> Server {
        let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        self.spawn(tallyman().envs(environment.iter().copied()).args(self.arguments()).args(ports).args(more))
    }

    fn spawn(&self, command: &mut Command) -> Server {
        let log = self.path("log");
        let appended = File::options().create(true).append(true).open(&log).unwrap();
        let command = command.current_dir(self.folder.path()).stdout(Stdio::piped()).stderr(appended);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Ok(banner) = serde_json::from_str(&line) else {
            let status = child.wait().unwrap();
            panic!("the server did not start ({status}): {}", text(&log));
        };
        Server { child, banner, log }
    }

    /// Runs a server that is expected to refuse to start.
    pub fn start_in_vain(&self, more: &[&str]) -> Ended {
        let output = tallyman().args(self.arguments()).args(["--admin", "127.0.0.1:0"]).args(more).output().unwrap();
        Ended::of(output)
    }
}

/// A running server. It is killed with the test.
pub struct Server {
    child: Child,
    /// What it said when it began to serve.
    pub banner: Value,
    log: PathBuf,
}

impl Server {
    /// `host:port` of the counter API.
    pub fn listen(&self) -> &str {
        self.banner["listen"].as_str().unwrap()
    }

    /// The counter API's address for clients.
    pub fn address(&self) -> String {
        format!("http://{}", self.listen())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Must be called within a runtime.
    pub fn client(&self) -> Client {
        Client::builder(self.address()).deadline(Duration::from_secs(60)).connect().unwrap()
    }

    /// A client command that is told where this server is.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let address = self.address();
        let patience: &[&str] = if arguments.contains(&"--timeout") { &[] } else { &["--timeout", "60s"] };
        run(&[&["-o", "json"], arguments, &["--addr", &address], patience].concat())
    }

    /// A counter's count, as a client command reads it now, exact where the namespace is durable.
    pub fn count(&self, counter: &str) -> i64 {
        let ended = self.run(&["get", counter, "--max-staleness", "0s"]).succeeded();
        ended.json()["count"].as_str().unwrap().parse().unwrap()
    }

    /// The status and body of an admin page.
    pub fn admin(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.banner["admin"].as_str().unwrap()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        eventually("the server ends after SIGTERM", || self.child.try_wait().unwrap())
    }

    pub fn log(&self) -> String {
        text(&self.log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
