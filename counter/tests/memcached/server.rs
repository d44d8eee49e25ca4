//! Real memcached servers on free ports of loopback, which tests start, stop, pause and flush.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use memcache::exp::AsyncMetaClient;

/// A memcached process; it ends with the value.
pub struct Server {
    process: Option<Child>,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not 127.0.0.1, on which the port of a server that is down can become that of somebody's outgoing connection.
const HOST: &str = "127.0.0.2";

impl Server {
    /// A server on a free port.
    pub fn start() -> Self {
        let mut server = Self::absent();
        server.restart();
        server
    }

    /// A port on which nobody listens yet.
    pub fn absent() -> Self {
        let port = TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap().port();
        Self { process: None, port }
    }

    pub fn address(&self) -> String {
        format!("{HOST}:{}", self.port)
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts it, empty, where it was.
    #[allow(clippy::disallowed_methods)] // Bounds a wait for a real process.
    pub fn restart(&mut self) {
        self.kill();
        let port = self.port.to_string();
        let process = Command::new("memcached")
            .args(["-l", HOST, "-p", &port, "-U", "0", "-u", "nobody", "-m", "32"])
            .spawn()
            .expect("memcached is installed (Debian: apt-get install memcached)");
        self.process = Some(process);
        let started = Instant::now();
        while TcpStream::connect((HOST, self.port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(120), "memcached does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// For reading what it has past the stores: in no hurry.
    pub async fn client(&self) -> AsyncMetaClient {
        let patience = Some(Duration::from_secs(60));
        AsyncMetaClient::builder()
            .connect_timeout(patience)
            .io_timeout(patience)
            .connect_async(self.address())
            .await
            .unwrap()
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().expect("it is running");
        let status = Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// It keeps its connections and answers nothing.
    #[allow(clippy::disallowed_methods)] // Bounds a wait for a real process.
    pub fn pause(&self) {
        self.signal("-STOP");
        // One of its threads takes the signal, and stops the others once it runs: on a busy machine they may answer until then.
        let asked = Instant::now();
        while !self.all_threads_are_stopped() {
            assert!(asked.elapsed() < Duration::from_secs(120), "memcached does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn all_threads_are_stopped(&self) -> bool {
        let process = self.process.as_ref().expect("it is running");
        let threads = std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
        threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap()).all(|stat| {
            // The state follows the name, which stands in brackets.
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        })
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// The keys of all that it has.
    pub fn keys(&self) -> Vec<String> {
        let mut connection = TcpStream::connect((HOST, self.port)).unwrap();
        connection.write_all(b"lru_crawler metadump all\r\n").unwrap();
        let mut lines = BufReader::new(connection.try_clone().unwrap()).lines().map(Result::unwrap);
        let mut keys = Vec::new();
        loop {
            let line = lines.next().expect("the list has an end");
            if line.starts_with("BUSY") {
                // It looks for what has expired, and lists nothing meanwhile.
                connection.write_all(b"lru_crawler metadump all\r\n").unwrap();
            } else if line.starts_with("END") {
                return keys;
            } else {
                let key = line.strip_prefix("key=").and_then(|rest| rest.split(' ').next()).expect("a line per key");
                keys.push(key.replace("%2F", "/").replace("%3A", ":"));
            }
        }
    }

    /// Forgets everything, without a restart.
    pub fn flush(&self) {
        let mut connection = TcpStream::connect((HOST, self.port)).unwrap();
        connection.write_all(b"flush_all\r\n").unwrap();
        let mut answer = String::new();
        BufReader::new(connection).read_line(&mut answer).unwrap();
        assert_eq!(answer, "OK\r\n");
    }
}
