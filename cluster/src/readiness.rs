//! Asks processes how they are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Child;
use std::time::Duration;

use tallyman_servers::Pid;
use tallyman_servers::process::now;

use crate::machine;

/// How long a process may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a process may take to start another.
const CHILD_PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);

/// Asks by HTTP; well is who answers with `sign` in it.
pub(crate) fn ask(address: SocketAddr, path: &str, sign: &str) -> Result<(), String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.contains(sign) => Ok(()),
        Ok(answer) => Err(answer),
        Err(error) => Err(error.to_string()),
    }
}

/// Waits for the one child of a process that was just started; `None` where that process ended without.
pub(crate) fn child_of(parent: Pid, process: &mut Child) -> Option<Pid> {
    let deadline = now() + CHILD_PATIENCE;
    while now() < deadline && process.try_wait().ok()?.is_none() {
        if let Some(child) = machine::child_of(parent) {
            return Some(child);
        }
        std::thread::sleep(POLL);
    }
    None
}
