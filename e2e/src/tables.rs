//! Cassandra's tables read around the product, with another driver (Debian's for Python): what is in them is what counts.

pub mod checkpoints;
pub mod requests;
pub mod slices;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;
use tallyman_servers::debian::{self, Package};

use crate::convergence::Counts;
use crate::ledger::Ledger;
use crate::tables::checkpoints::CheckpointWatch;
use crate::tables::requests::RequestsWatch;
use crate::tables::slices::Slice;

const PYTHON: &str = "/usr/bin/python3";
const DRIVER: Package =
    Package { name: "python3-cassandra", sign: "/usr/lib/python3/dist-packages/cassandra/cluster.py" };
const TRIED: &str = concat!(include_str!("tables/connect.py"), include_str!("tables/tried.py"));
const EVENTS: &str = concat!(include_str!("tables/connect.py"), include_str!("tables/events.py"));
const ROWS: &str = concat!(include_str!("tables/connect.py"), include_str!("tables/rows.py"));
const RUN: &str = concat!(include_str!("tables/connect.py"), include_str!("tables/run.py"));

/// A keyspace, and how to reach it.
#[derive(Debug, Clone)]
pub struct Keyspace {
    /// `127.0.0.1:9042,127.0.0.2:9042`.
    pub contact_points: String,
    /// Its name.
    pub name: String,
}

impl Keyspace {
    /// The sum of all events in all slices, by counter.
    pub fn totals(&self, namespace: &str) -> BTreeMap<String, i128> {
        self.sum(self.script(EVENTS).arg(namespace))
    }

    /// The same, where a password is asked for.
    pub fn totals_as(&self, (username, password): (&str, &str), namespace: &str) -> BTreeMap<String, i128> {
        self.sum(self.script(EVENTS).args([namespace, username, password]))
    }

    fn sum(&self, script: &mut Command) -> BTreeMap<String, i128> {
        let output = script.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
        // Numbers as strings: they may be wider than a JSON reader takes.
        let totals: BTreeMap<String, String> = serde_json::from_str(&printed).unwrap();
        totals.into_iter().map(|(counter, total)| (counter, total.parse().unwrap())).collect()
    }

    /// How statements end that are run as this user with this password: `done`, or the name of the error.
    pub fn tried(&self, (username, password): (&str, &str), statements: &[&str]) -> Vec<String> {
        let output = self.script(TRIED).args([username, password]).args(statements).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&printed).unwrap()
    }

    /// What statements answer that are run as this user with this password: for each a list of rows, all values as text.
    pub fn rows(&self, (username, password): (&str, &str), statements: &[&str]) -> Vec<Value> {
        let output = self.script(ROWS).args([username, password]).args(statements).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&printed).unwrap()
    }

    /// What a query for one column finds, asked as this user with this password.
    pub fn texts(&self, user: (&str, &str), query: &str) -> Vec<Vec<String>> {
        let rows = self.rows(user, &[query]).remove(0);
        let texts =
            |row: &Value| row.as_object().unwrap().values().map(|text| text.as_str().unwrap().to_owned()).collect();
        rows.as_array().unwrap().iter().map(texts).collect()
    }

    /// Begins to watch the checkpoints.
    pub fn watch_checkpoints(&self) -> CheckpointWatch {
        CheckpointWatch::start(self.script(checkpoints::SCRIPT))
    }

    /// Begins to look at how many requests the first node has at once.
    pub fn watch_requests(&self) -> RequestsWatch {
        RequestsWatch::start(self.script(requests::SCRIPT))
    }

    /// All slices, and what is in their tables.
    pub fn slices(&self) -> Vec<Slice> {
        let output = self.script(slices::SCRIPT).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&printed).unwrap()
    }

    /// Runs statements as somebody who may do anything.
    pub fn run(&self, statements: &[&str]) {
        let output = self.script(RUN).args(statements).output().unwrap();
        assert!(output.status.success(), "{statements:?}\n{}", String::from_utf8_lossy(&output.stderr));
    }

    fn script(&self, script: &str) -> Command {
        debian::install(&[DRIVER]).unwrap();
        let mut command = Command::new(PYTHON);
        command.args(["-c", script, &self.contact_points, &self.name]).stdin(Stdio::null());
        command
    }
}

/// Asserts that the events are those that the ledger knows of, and that the counts are their sums.
pub fn agree_with_ledger(totals: &BTreeMap<String, i128>, ledger: &Ledger) {
    for counter in ledger.counters() {
        let total = totals.get(counter).copied().unwrap_or_default();
        let faults: Vec<String> = ledger.faults(counter, total).iter().map(ToString::to_string).collect();
        assert!(faults.is_empty(), "the events of {counter} make {total}: {faults:?}");
    }
}

/// Asserts that the events sum up to just these counts.
pub fn agree_with_counts(totals: &BTreeMap<String, i128>, counts: &Counts) {
    let counts: BTreeMap<String, i128> =
        counts.iter().map(|(name, count)| (name.clone(), i128::from(*count))).collect();
    let without_zeros = |totals: &BTreeMap<String, i128>| -> BTreeMap<String, i128> {
        totals.iter().filter(|(_, total)| **total != 0).map(|(name, total)| (name.clone(), *total)).collect()
    };
    assert_eq!(without_zeros(totals), without_zeros(&counts), "the events' totals, and the counts");
}
