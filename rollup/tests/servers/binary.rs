//! The binary `tallyman-rollup`.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::world::{eventually, get};

/// A running server, killed if the test ends without having ended it.
struct Running(Child);

impl Running {
    fn terminate(mut self) -> ExitStatus {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tallyman-rollup"));
    program.stdin(Stdio::null()).env_clear();
    program
}

/// An address that nobody listens on, nor takes for an outgoing connection, as those of 127.0.0.1.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn it_starts_without_its_store_says_what_is_missing_and_ends_in_order() {
    let folder = TempDir::new().unwrap();
    let storage = json!({"type": "CASSANDRA", "cluster": "none", "dataset": "plays", "local_datacenter": "dc1",
                         "contact_points": [free_address().to_string()]});
    let document = json!({"namespace": "plays", "region": "dc1", "persistence_configuration": [
        {"id": "COUNTER_ROLLUP", "scope": "dal=counter", "physical_storage": storage,
         "config": {"counter_type": "EVENTUAL", "rollup_endpoints": ["rollup-0.rollup:7787"]}},
        {"id": "EVENT_STORAGE", "scope": "dal=ts", "physical_storage": storage, "config": {}},
    ]});
    std::fs::write(folder.path().join("plays.json"), document.to_string()).unwrap();
    let admin = free_address();
    let mut server = program();
    server.arg("--namespaces-dir").arg(folder.path());
    server.args(["--listen", "127.0.0.1:0", "--admin", &admin.to_string(), "--name", "rollup-0"]);
    let server = Running(server.stderr(Stdio::null()).spawn().unwrap());
    eventually("it says that it is not ready, and why", async || {
        let answer = get(admin, "/readyz").await;
        answer.is_ok_and(|(code, page)| {
            code == 503 && page.lines().any(|line| line.starts_with("[-]") && line.contains("plays"))
        })
    })
    .await;
    assert_eq!(get(admin, "/livez").await.unwrap().0, 200);
    assert_eq!(server.terminate().code(), Some(0));
}

#[test]
fn it_says_its_version_and_commit_and_refuses_what_it_cannot_do() {
    let version = program().arg("--version").output().unwrap();
    let text = String::from_utf8(version.stdout).unwrap();
    assert!(text.starts_with("tallyman-rollup ") && text.contains("(commit "), "{text}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let mut server = program();
    server.arg("--namespaces-dir").arg(folder.path()).args(["--listen", &address, "--admin", "127.0.0.1:0"]);
    let refused = server.output().unwrap();
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{errors}");
    assert!(errors.contains(&address) && errors.contains("sidecars"), "{errors}");
}
