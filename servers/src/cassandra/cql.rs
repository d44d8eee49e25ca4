//! As much of Cassandra's native protocol (version 4) as it takes to log in and to see a statement succeed or fail.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const VERSION: u8 = 4;
/// Longer than any server-side limit of a read or a change of schema on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

mod opcode {
    pub(super) const ERROR: u8 = 0x00;
    pub(super) const STARTUP: u8 = 0x01;
    pub(super) const READY: u8 = 0x02;
    pub(super) const AUTHENTICATE: u8 = 0x03;
    pub(super) const QUERY: u8 = 0x07;
    pub(super) const RESULT: u8 = 0x08;
    pub(super) const AUTH_RESPONSE: u8 = 0x0f;
    pub(super) const AUTH_SUCCESS: u8 = 0x10;
}

/// How many replicas must take part.
#[derive(Debug, Clone, Copy)]
pub(super) enum Consistency {
    One = 0x01,
    All = 0x05,
}

/// A connection that is ready for statements. Errors are words for people.
pub(super) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(super) fn open(address: SocketAddr, login: Option<(&str, &str)>) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE).map_err(told)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(told)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(told)?;
        let mut connection = Self { stream };
        let options = [&1_u16.to_be_bytes()[..], &string("CQL_VERSION"), &string("3.0.0")].concat();
        match (connection.call(opcode::STARTUP, &options)?, login) {
            ((opcode::READY, _), None) => Ok(connection),
            // It comes up without passwords where they are to be checked, or the other way round.
            ((opcode::READY, _), Some(_)) => Err("it does not ask for a password".to_owned()),
            ((opcode::AUTHENTICATE, _), None) => Err("it asks for a password".to_owned()),
            ((opcode::AUTHENTICATE, _), Some((name, password))) => {
                let answer = format!("\0{name}\0{password}");
                match connection.call(opcode::AUTH_RESPONSE, &long(answer.as_bytes()))? {
                    (opcode::AUTH_SUCCESS, _) => Ok(connection),
                    other => Err(unexpected(&other)),
                }
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Runs a statement to its end; rows are not looked at.
    pub(super) fn query(&mut self, statement: &str, consistency: Consistency) -> Result<(), String> {
        let no_flags = 0;
        let consistency = (consistency as u16).to_be_bytes();
        let body = [&long(statement.as_bytes())[..], &consistency, &[no_flags]].concat();
        match self.call(opcode::QUERY, &body)? {
            (opcode::RESULT, _) => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    fn call(&mut self, opcode: u8, body: &[u8]) -> Result<(u8, Vec<u8>), String> {
        self.stream.write_all(&frame(opcode, body)).map_err(told)?;
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).map_err(told)?;
        let [_, _, _, _, opcode, length @ ..] = header;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).map_err(told)?;
        if opcode == opcode::ERROR { Err(error(&body)) } else { Ok((opcode, body)) }
    }
}

fn frame(opcode: u8, body: &[u8]) -> Vec<u8> {
    let (flags, stream) = (0, [0, 0]);
    // All we send is far below the protocol's limit of 256 MiB.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[VERSION, flags][..], &stream, &[opcode], &length, body].concat()
}

/// `[string]`: its length in 2 bytes, and it.
fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length[..], text.as_bytes()].concat()
}

/// `[long string]` and `[bytes]`: their length in 4 bytes, and they.
fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], bytes].concat()
}

/// The message of an ERROR's body: a code in 4 bytes, and a `[string]`.
fn error(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(6..).unwrap_or_default()).into_owned()
}

fn unexpected((opcode, _): &(u8, Vec<u8>)) -> String {
    format!("an answer that was not expected (opcode {opcode:#04x})")
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn told(error: std::io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_frame_is_its_header_and_its_body() {
        assert_eq!(frame(opcode::QUERY, b"ab"), [4, 0, 0, 0, 7, 0, 0, 0, 2, b'a', b'b']);
        assert_eq!(string("ab"), [0, 2, b'a', b'b']);
        assert_eq!(long(b"ab"), [0, 0, 0, 2, b'a', b'b']);
    }

    /// A server that answers each frame it reads with the next of these.
    fn answering(answers: Vec<(u8, Vec<u8>)>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for (opcode, body) in answers {
                let mut header = [0; 9];
                stream.read_exact(&mut header).unwrap();
                let length = u32::from_be_bytes(header[5..].try_into().unwrap());
                stream.read_exact(&mut vec![0; length as usize]).unwrap();
                stream.write_all(&frame(opcode, &body)).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_login_and_a_statement_succeed_or_say_why_not() {
        let refusal = [&[0, 0, 16, 0][..], &string("Cannot achieve consistency level ALL")].concat();
        let address = answering(vec![
            (opcode::AUTHENTICATE, string("PasswordAuthenticator")),
            (opcode::AUTH_SUCCESS, vec![]),
            (opcode::RESULT, vec![0, 0, 0, 1]),
            (opcode::ERROR, refusal),
        ]);
        let mut connection = Connection::open(address, Some(("name", "password"))).unwrap();
        connection.query("SELECT 1", Consistency::One).unwrap();
        let refused = connection.query("SELECT 1", Consistency::All).unwrap_err();
        assert_eq!(refused, "Cannot achieve consistency level ALL");
    }

    #[test]
    fn a_server_that_asks_for_no_password_though_it_should_is_not_ready() {
        let address = answering(vec![(opcode::READY, vec![])]);
        assert!(Connection::open(address, Some(("name", "password"))).is_err());
        let address = answering(vec![(opcode::AUTHENTICATE, string("PasswordAuthenticator"))]);
        assert!(Connection::open(address, None).is_err());
        assert!(Connection::open(answering(vec![(opcode::READY, vec![])]), None).is_ok());
    }
}
