//! Somebody who looks at how many requests a node has at once.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::Deserialize;

pub(super) const SCRIPT: &str = include_str!("requests.py");

/// Somebody who looks at how many requests a node has at once.
#[derive(Debug)]
pub struct RequestsWatch {
    watcher: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What was seen.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Requests {
    /// The most requests that were worked on or waited at once.
    pub most: u64,
    /// How often it was looked.
    pub looks: u64,
}

impl RequestsWatch {
    pub(super) fn start(mut script: Command) -> Self {
        let mut watcher = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "begun");
        Self { watcher, lines }
    }

    /// Ends it.
    pub fn finish(mut self) -> Requests {
        // The end of its input tells it.
        drop(self.watcher.stdin.take());
        let seen = serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap();
        assert!(self.watcher.wait().unwrap().success());
        seen
    }
}

impl Drop for RequestsWatch {
    fn drop(&mut self) {
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
    }
}
