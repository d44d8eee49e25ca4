//! The Redis protocol, as far as counters need it.

use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Integer(i64),
    Text(String),
    Nothing,
}

/// A connection. Requests are gathered, sent together, and answered in order.
pub struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    /// How much of the input is taken.
    taken: usize,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect to Redis")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, out: Vec::new(), input: Vec::new(), taken: 0 })
    }

    /// Adds a command to those to be sent.
    pub fn push(&mut self, parts: &[&[u8]]) {
        encode(&mut self.out, parts);
    }

    /// Sends what was gathered.
    pub async fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    /// The next reply; an error that Redis reports is one here.
    pub async fn reply(&mut self) -> Result<Reply> {
        loop {
            if let Some((reply, length)) = decode(&self.input[self.taken..])? {
                self.taken += length;
                if self.taken == self.input.len() {
                    self.input.clear();
                    self.taken = 0;
                }
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                bail!("Redis closed the connection");
            }
        }
    }

    /// One command and its reply.
    pub async fn ask(&mut self, parts: &[&[u8]]) -> Result<Reply> {
        self.push(parts);
        self.flush().await?;
        self.reply().await
    }
}

fn encode(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// The reply at the start of the input and its length; `None` where it has not come whole.
fn decode(input: &[u8]) -> Result<Option<(Reply, usize)>> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = std::str::from_utf8(&input[..end])?;
    let line_length = end + 2;
    let Some((kind, rest)) = line.split_at_checked(1) else { bail!("an empty line from Redis") };
    Ok(Some(match kind {
        ":" => (Reply::Integer(rest.parse()?), line_length),
        "+" => (Reply::Text(rest.to_owned()), line_length),
        "-" => bail!("Redis refuses: {rest}"),
        "$" if rest == "-1" => (Reply::Nothing, line_length),
        "$" => {
            let length: usize = rest.parse()?;
            let Some(bytes) = input.get(line_length..line_length + length + 2) else { return Ok(None) };
            (Reply::Text(std::str::from_utf8(&bytes[..length])?.to_owned()), line_length + length + 2)
        }
        _ => bail!("Redis sent {line:?}, which is not understood here"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        encode(&mut out, &[b"INCR", b"a b"]);
        assert_eq!(out, b"*2\r\n$4\r\nINCR\r\n$3\r\na b\r\n");
    }

    #[test]
    fn a_reply_is_taken_only_when_it_is_whole() {
        let cases: [(&[u8], Reply); 4] = [
            (b":-17\r\n", Reply::Integer(-17)),
            (b"+OK\r\n", Reply::Text("OK".to_owned())),
            (b"$5\r\na\r\nbc\r\n", Reply::Text("a\r\nbc".to_owned())),
            (b"$-1\r\n", Reply::Nothing),
        ];
        for (bytes, reply) in cases {
            for whole in 0..bytes.len() {
                assert_eq!(decode(&bytes[..whole]).unwrap(), None, "{bytes:?} cut at {whole}");
            }
            let followed = [bytes, b":1\r\n"].concat();
            assert_eq!(decode(&followed).unwrap(), Some((reply, bytes.len())));
        }
        assert!(decode(b"-ERR no\r\n").is_err());
    }
}
