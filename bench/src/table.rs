//! The results for people.

use std::fmt::Write;
use std::path::Path;

use hdrhistogram::Histogram;

use crate::comparison::{Comparison, Detail};

const HEADINGS: [&str; 9] =
    ["scenario", "contender", "value", "unit", "p50 ms", "p99 ms", "ratio (min–max)", "goal", "CPU µs/op"];

/// One table of all comparisons; a peer's row has the subject's ratio beside it.
pub fn table(comparisons: &[Comparison]) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    let mut last_subject = None;
    for one in comparisons {
        let subject = (&one.scenario, &one.subject);
        if last_subject != Some(subject) {
            let ours = row(&one.scenario, &one.subject, one.subject_value, one.unit, &one.subject_detail);
            rows.push(ours);
            last_subject = Some(subject);
        }
        let mut theirs = row("", &one.peer, one.peer_value, one.unit, &one.peer_detail);
        theirs[6] = format!("{:.2} ({:.2}–{:.2})", one.ratio, one.ratio_min, one.ratio_max);
        theirs[7] = match (one.goal, one.met) {
            (Some(goal), Some(true)) => format!("≥ {goal}: met"),
            (Some(goal), _) => format!("≥ {goal}: MISSED"),
            (None, _) => String::new(),
        };
        rows.push(theirs);
    }
    lay_out(&rows)
}

fn row(scenario: &str, name: &str, value: f64, unit: &str, detail: &Detail) -> [String; 9] {
    let quantile = |latency: &Histogram<u64>, of| format!("{:.2}", latency.value_at_quantile(of) as f64 / 1e3);
    let latency = |of| detail.latency.as_ref().map(|latency| quantile(latency, of)).unwrap_or_default();
    let cpu = detail.cpu.iter().map(|(process, used)| format!("{process} {:.1}", used.as_secs_f64() * 1e6));
    [
        scenario.to_owned(),
        name.to_owned(),
        if value < 1_000.0 { format!("{value:.1}") } else { thousands(value) },
        unit.to_owned(),
        latency(0.5),
        latency(0.99),
        String::new(),
        String::new(),
        cpu.collect::<Vec<_>>().join(" + "),
    ]
}

/// Whole, with commas.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Columns as wide as their widest cell, numbers to the right.
fn lay_out<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut out = String::new();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let is_number = matches!(column, 2 | 4..=5);
            // Writing to a string does not fail.
            let _ = match is_number {
                true => write!(line, "{gap}{cell:>width$}"),
                false => write!(line, "{gap}{cell:<width$}"),
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
        if index == 0 {
            let width = widths.iter().sum::<usize>() + 2 * (N - 1);
            out.push_str(&"─".repeat(width));
            out.push('\n');
        }
    }
    out
}

/// What the figures depend on: processors, and the file system that is synced.
pub fn machine(dir: &Path) -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let kind = file_system(&mounts, &dir).unwrap_or("unknown file system");
    let warning = if kind == "tmpfs" { ", where a sync costs nothing: set TMPDIR to a folder on a disk" } else { "" };
    format!("{processors} processors; data in {} ({kind}{warning})", dir.display())
}

/// The type of the file system that `dir` lies on: that of the longest mount point above it, the last one mounted there.
fn file_system<'a>(mounts: &'a str, dir: &Path) -> Option<&'a str> {
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        dir.starts_with(point).then_some((Path::new(point).components().count(), kind))
    });
    above.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas_between_thousands() {
        assert_eq!(thousands(999.6), "1,000");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
    }

    #[test]
    fn the_nearest_mount_point_tells_the_file_system() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/deep xfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), Some("tmpfs"));
        assert_eq!(file_system(mounts, Path::new("/tmp/deep/x")), Some("xfs"));
        assert_eq!(file_system(mounts, Path::new("/tmpfile")), Some("ext4"));
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "bb", "1"], ["aaa", "b", "100"]].map(|row| row.map(str::to_owned));
        assert_eq!(lay_out(&rows), "a    bb    1\n────────────\naaa  b   100\n");
    }
}
