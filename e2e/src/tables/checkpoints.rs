//! Somebody who looks at all checkpoints over and over, and what is wrong with what was seen.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use serde::Deserialize;

use crate::{now, wall_clock};

pub(super) const SCRIPT: &str = include_str!("checkpoints.py");

/// What a look showed that no earlier one did, or at the end, how many looks there were.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Sight(String, i64, i64),
    End { looks: u64, failed_looks: u64 },
}

/// Somebody who looks at all checkpoints over and over.
#[derive(Debug)]
pub struct CheckpointWatch {
    watcher: Child,
    watching: Option<JoinHandle<Watched>>,
}

/// What was seen of the checkpoints.
#[derive(Debug, Default)]
pub struct Watched {
    /// Complete looks at the table.
    pub looks: u64,
    /// Looks that failed, such as while a node was away.
    pub failed_looks: u64,
    /// How often a checkpoint was seen to have moved on.
    pub advances: u64,
    /// Each checkpoint as it was first seen, in the order of time.
    pub sights: Vec<Sight>,
    /// The last `last_rollup_ts` of each counter.
    latest: BTreeMap<String, i64>,
    /// Checkpoints that moved back, or whose time is not the one they were written with.
    violations: Vec<String>,
}

/// A checkpoint, seen for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Its counter's name.
    pub counter: String,
    /// Its time, in microseconds since the epoch.
    pub last_rollup_ts: i64,
    /// When it was seen…
    pub at: Instant,
    /// …by the wall clock.
    pub at_wall_clock: SystemTime,
}

impl CheckpointWatch {
    pub(super) fn start(mut script: Command) -> Self {
        let mut watcher = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
        let watching = std::thread::spawn(move || {
            let mut watched = Watched::default();
            for line in lines {
                watched.see(serde_json::from_str(&line.unwrap()).unwrap());
            }
            watched
        });
        Self { watcher, watching: Some(watching) }
    }

    /// Looks once more, and asserts that no checkpoint ever moved back, and that they moved at all.
    pub fn finish(mut self) -> Watched {
        // The end of its input tells it.
        drop(self.watcher.stdin.take());
        let watched = self.watching.take().unwrap().join().unwrap();
        let ended = self.watcher.wait().unwrap();
        assert!(ended.success(), "the watch over the checkpoints ended with {ended}");
        assert!(watched.violations.is_empty(), "{:?}", watched.violations);
        assert!(watched.looks > 1 && watched.advances > 0, "nothing was seen to move: {watched:?}");
        watched
    }
}

impl Drop for CheckpointWatch {
    fn drop(&mut self) {
        let _ = self.watcher.kill();
        let _ = self.watcher.wait();
    }
}

impl Watched {
    /// Counters seen.
    pub fn counters(&self) -> usize {
        self.latest.len()
    }

    fn see(&mut self, line: Line) {
        match line {
            Line::Sight(counter, time, written) => {
                if time != written {
                    self.violations
                        .push(format!("{counter}: last_rollup_ts {time} was written with timestamp {written}"));
                }
                match self.latest.get(&counter) {
                    Some(before) if *before > time => {
                        self.violations.push(format!("{counter}: last_rollup_ts moved back from {before} to {time}"));
                        return;
                    }
                    Some(before) if *before < time => self.advances += 1,
                    _ => {}
                }
                let name = counter.splitn(3, ':').nth(2).unwrap_or(&counter).to_owned();
                let (at, at_wall_clock) = (now(), wall_clock());
                self.sights.push(Sight { counter: name, last_rollup_ts: time, at, at_wall_clock });
                self.latest.insert(counter, time);
            }
            Line::End { looks, failed_looks } => {
                self.looks = looks;
                self.failed_looks = failed_looks;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(lines: &str) -> Watched {
        let mut watched = Watched::default();
        lines.lines().for_each(|line| watched.see(serde_json::from_str(line).unwrap()));
        watched
    }

    #[test]
    fn checkpoints_that_move_on_are_well() {
        let watched = watched("[\"a\", 10, 10]\n[\"b\", 5, 5]\n[\"a\", 20, 20]\n{\"looks\": 7, \"failed_looks\": 1}");
        assert!(watched.violations.is_empty());
        assert_eq!((watched.looks, watched.failed_looks, watched.advances, watched.counters()), (7, 1, 1, 2));
    }

    #[test]
    fn a_checkpoint_that_moves_back_or_lies_about_its_time_is_seen() {
        let moved_back = watched("[\"a\", 20, 20]\n[\"a\", 10, 10]\n[\"a\", 20, 20]");
        assert_eq!(moved_back.violations, ["a: last_rollup_ts moved back from 20 to 10"]);
        let lied = watched("[\"a\", 20, 21]");
        assert_eq!(lied.violations, ["a: last_rollup_ts 20 was written with timestamp 21"]);
    }
}
