//! Real flights, and what they come to: totalled by another tool.

use std::path::PathBuf;
use std::process::Command;

use crate::convergence::Counts;

/// The counters of `totals.awk`, as `tallyman replay` takes them.
#[rustfmt::skip]
pub const COUNTERS: [&str; 6] = [
    "--counter", "origin/{origin}", "--counter", "miles/{origin}=distance_miles", "--counter", "delay/{origin}=delay_minutes",
];

/// Flights beside the program that totals them: those of `TALLYMAN_FLIGHTS`, else the 20,000 that are checked in.
pub struct Flights {
    /// CSV, gzipped.
    pub file: PathBuf,
    awk: PathBuf,
}

impl Flights {
    /// Finds them.
    pub fn find() -> Self {
        let data =
            |name: &str| [env!("CARGO_MANIFEST_DIR"), "..", "cli", "tests", "data", name].iter().collect::<PathBuf>();
        let file = std::env::var_os("TALLYMAN_FLIGHTS").map_or_else(|| data("flights-20k.csv.gz"), PathBuf::from);
        Self { file, awk: data("totals.awk") }
    }

    /// How many there are, and their totals by counter.
    pub fn totals(&self) -> (u64, Counts) {
        self.totals_of(None)
    }

    /// The same for the first of them.
    pub fn totals_of(&self, first: Option<u64>) -> (u64, Counts) {
        // One line more: the names of the columns.
        let rows = first.map_or_else(|| "cat".to_owned(), |rows| format!("head -n {}", rows + 1));
        let script = format!("gzip -dc \"$0\" | {rows} | awk -F, -f \"$1\"");
        let awk = Command::new("sh").args(["-c", &script]).arg(&self.file).arg(&self.awk).output().unwrap();
        assert!(awk.status.success(), "{}", String::from_utf8_lossy(&awk.stderr));
        let total = |line: &str| {
            let (counter, total) = line.split_once('\t').unwrap();
            (counter.to_owned(), total.parse().unwrap())
        };
        let totals: Counts = String::from_utf8(awk.stdout).unwrap().lines().map(total).collect();
        let rows: i64 = totals.iter().filter(|(name, _)| name.starts_with("origin/")).map(|(_, total)| total).sum();
        (rows.try_into().unwrap(), totals)
    }
}
