//! Best-effort counters in a real memcached.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};

use crate::data::totals;
use crate::flights::{counts, replay};
use crate::process::eventually;
use crate::server::{Home, PATIENT};

struct Memcached {
    child: Child,
    address: String,
}

impl Memcached {
    fn start() -> Self {
        // Outgoing connections take ports of 127.0.0.1.
        let address = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
        let child = Command::new("memcached")
            .args(["-l", "127.0.0.2", "-p", &address.port().to_string(), "-m", "64", "-u", "nobody"])
            .spawn()
            .expect("memcached is installed");
        let address = address.to_string();
        eventually("memcached listens", || TcpStream::connect(&address).ok());
        Self { child, address }
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[ignore = "needs memcached: cargo xtask test"]
async fn best_effort_counts_live_in_memcached_and_survive_the_server() {
    let memcached = Memcached::start();
    let home = Home::new(&[("flights", "BestEffort", ""), ("credits", "Accurate", PATIENT)]);
    let options = ["--memcached", memcached.address.as_str()];
    let server = home.start(&options);
    replay(&server, "flights", &["--batch", "20"]).succeeded();
    assert_eq!(counts(&server.client(), "flights").await, totals());
    server.run(&["add", "credits/alice", "3"]).succeeded();
    server.kill();
    let server = home.start(&options);
    assert_eq!(counts(&server.client(), "flights").await, totals());
    assert_eq!(server.count("credits/alice"), 3);
}
