//! An HTTP/1.1 client that sends exactly what it is told.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;

/// A response, read whole.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Sends a request and reads the response to the connection's end. `headers` are lines that end in `\r\n`.
pub async fn request(to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses a body before its end closes early; what it answered counts.
    let _ = stream.write_all(body.as_bytes()).await;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        })
        .collect();
    Response { status, headers, body: body.to_owned() }
}

pub async fn get(to: SocketAddr, path: &str) -> Response {
    request(to, "GET", path, "", "").await
}

pub async fn post(to: SocketAddr, path: &str, body: &str) -> Response {
    request(to, "POST", path, "", body).await
}

/// Server-sent events of a GET, as they come.
pub struct Events(Lines<BufReader<TcpStream>>);

impl Events {
    pub async fn of(to: SocketAddr, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let mut is_events = false;
        while let Some(line) = lines.next_line().await.unwrap().filter(|line| !line.is_empty()) {
            is_events |= line == "content-type: text/event-stream";
        }
        assert!(is_events);
        Self(lines)
    }

    /// The next event's type and data; `None` at the end.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        let mut event = "message".to_owned();
        while let Some(line) = self.0.next_line().await.unwrap() {
            if let Some(name) = line.strip_prefix("event: ") {
                event = name.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Some((event, serde_json::from_str(data).unwrap()));
            }
        }
        None
    }
}
