//! Flights, and what their counters must show.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Rows of the file.
pub const ROWS: i64 = 20_000;
/// The counters whose totals are known.
pub const COUNTERS: [&str; 6] = [
    "--counter",
    "origin/{origin}",
    "--counter",
    "miles/{origin}=distance_miles",
    "--counter",
    "delay/{origin}=delay_minutes",
];

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "data", name].iter().collect()
}

/// The file, as an argument.
pub fn flights() -> String {
    path("flights-20k.csv.gz").to_str().unwrap().to_owned()
}

/// The totals of [`COUNTERS`], made by another tool.
pub fn totals() -> BTreeMap<String, i64> {
    parse(&std::fs::read_to_string(path("flights-20k.totals.tsv")).unwrap())
}

fn parse(tsv: &str) -> BTreeMap<String, i64> {
    let line = |line: &str| {
        let (counter, total) = line.split_once('\t').unwrap();
        (counter.to_owned(), total.parse().unwrap())
    };
    tsv.lines().map(line).collect()
}

#[test]
fn the_committed_totals_are_those_of_the_file() {
    let command = "gzip -dc flights-20k.csv.gz | awk -F, -f totals.awk";
    let awk = Command::new("sh").args(["-c", command]).current_dir(path("")).output().unwrap();
    assert!(awk.status.success(), "{}", String::from_utf8_lossy(&awk.stderr));
    let recomputed = parse(&String::from_utf8(awk.stdout).unwrap());
    assert_eq!(recomputed, totals());
    let flights: i64 = recomputed.iter().filter(|(name, _)| name.starts_with("origin/")).map(|(_, total)| total).sum();
    assert_eq!(flights, ROWS);
}
