//! What a replay ends with.

use std::fmt;

use serde::Serialize;

use super::tally::ErrorsByReason;

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Rows sent.
    pub rows: u64,
    /// Rows all of whose adds are acknowledged.
    pub rows_acknowledged: u64,
    /// Different adds sent: rows times counters.
    pub adds: u64,
    /// Adds that are counted.
    pub adds_acknowledged: u64,
    /// Adds that may be counted or not.
    pub adds_unknown: u64,
    /// Adds that are certainly not counted.
    pub adds_refused: u64,
    /// Adds sent, those sent again by `--resend` included; retries are not.
    pub sent: u64,
    /// Of them, those sent again.
    pub resent: u64,
    /// Failed sendings by reason, those of adds that another sending got acknowledged included.
    pub errors: ErrorsByReason,
    /// Time from the first row to the last answer.
    pub seconds: f64,
    /// Acknowledged adds a second.
    pub adds_per_second: f64,
    /// Time to answer of requests, retries included.
    pub latency_ms: Latency,
    /// What the tokens began with.
    pub token_prefix: String,
    /// What the choice of rows sent again depended on.
    pub seed: u64,
    /// Why it ended before the file did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// Failures of one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Errors {
    /// How many sendings failed so.
    pub count: u64,
    /// The row of the first.
    pub first_row: u64,
    /// Its message.
    pub first_message: String,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half of all.
    pub p50: f64,
    /// 90 of 100.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

impl Report {
    /// Whether everything that was sent is counted.
    pub fn is_complete(&self) -> bool {
        self.adds == self.adds_acknowledged
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rows          {} sent, {} acknowledged", self.rows, self.rows_acknowledged)?;
        write!(f, "adds          {} sent, {} acknowledged", self.adds, self.adds_acknowledged)?;
        if !self.is_complete() {
            write!(f, ", {} of unknown outcome, {} refused", self.adds_unknown, self.adds_refused)?;
        }
        writeln!(f)?;
        writeln!(f, "sent again    {}", self.resent)?;
        for (reason, Errors { count, first_row, first_message }) in &self.errors {
            writeln!(f, "errors        {count} × {reason}, first at row {first_row}: {first_message}")?;
        }
        writeln!(f, "rate          {} adds/s over {:.1} s", self.adds_per_second, self.seconds)?;
        let Latency { p50, p90, p99, p99_9, max } = self.latency_ms;
        writeln!(f, "latency       p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p99_9:.2}  max {max:.2} ms")?;
        write!(f, "tokens        {}-…", self.token_prefix)?;
        if let Some(stopped) = &self.stopped {
            write!(f, "\nstopped       {stopped}")?;
        }
        Ok(())
    }
}
