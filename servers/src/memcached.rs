//! One memcached server: its process, and whether it answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::process::{Pid, end_of, now};

/// The port of the first server; the others follow one by one.
pub const FIRST_PORT: u16 = 11311;
const MEBIBYTES: &str = "64";
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// The command of a server.
pub(crate) fn command(program: &Path, address: SocketAddr) -> Command {
    let mut command = Command::new(program);
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    // Started by root it wants to be somebody else; otherwise it ignores this.
    command.args(["-l", &ip, "-p", &port, "-U", "0", "-m", MEBIBYTES, "-u", "nobody"]);
    command
}

/// Waits until the server answers.
pub(crate) fn wait_until_up(address: SocketAddr, pid: Pid, log: &Path) -> Result<()> {
    let deadline = now() + PATIENCE;
    let server = || format!("memcached on {address}");
    loop {
        let Err(last) = ask(address, "version") else { return Ok(()) };
        if !pid.is_alive() {
            return Err(Error::Died { server: server(), log: end_of(log) });
        }
        if now() >= deadline {
            let last = last.to_string();
            return Err(Error::NotReady { server: server(), patience: PATIENCE, last, log: end_of(log) });
        }
        std::thread::sleep(POLL);
    }
}

/// Drops everything the server holds.
pub(crate) fn flush(address: SocketAddr) -> Result<()> {
    let refused = |reason| Error::Refused { server: format!("memcached on {address}"), reason };
    match ask(address, "flush_all") {
        Ok(answer) if answer == "OK\r\n" => Ok(()),
        Ok(answer) => Err(refused(format!("flush_all: {answer}"))),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Sends a command whose answer is one line.
fn ask(address: SocketAddr, command: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        stream.read_exact(&mut byte)?;
        line.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
