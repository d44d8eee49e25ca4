//! What to send next: rows of the file, and rows again.

use std::sync::Arc;

use tallyman_api::client;
use tallyman_api::proto::IdempotencyToken;
use tallyman_api::time::Timestamp;

use super::journal::Past;
use super::rows::{Row, Rows};
use super::schedule::Schedule;
use crate::failure::Failure;

/// A row on its way.
#[derive(Debug, Clone)]
pub struct Sending {
    /// The row.
    pub row: Arc<Row>,
    /// The same in each sending of a row.
    pub generation_time: Timestamp,
    /// Whether it was sent before in this run.
    pub again: bool,
    /// Whether it was sent in an earlier run.
    pub resumed: bool,
    /// How often it will have been sent in this run at the end.
    pub times: usize,
}

/// One add of a row on its way.
#[derive(Debug, Clone)]
pub struct PlannedAdd {
    /// The row's number.
    pub row: u64,
    /// Which of the row's adds.
    pub index: usize,
    /// What to send.
    pub add: client::Add,
}

impl Sending {
    /// The adds, with tokens that depend on the prefix, the row and the add's place in it alone.
    pub fn adds(&self, prefix: &str) -> impl Iterator<Item = PlannedAdd> {
        let number = self.row.number;
        let several = self.row.adds.len() > 1;
        self.row.adds.iter().enumerate().map(move |(index, (counter_name, delta))| {
            let token = if several { format!("{prefix}-{number}.{}", index + 1) } else { format!("{prefix}-{number}") };
            let token = IdempotencyToken { token, generation_time: Some(self.generation_time) };
            let add = client::Add { counter_name: counter_name.clone(), delta: *delta, token: Some(token) };
            PlannedAdd { row: number, index, add }
        })
    }
}

/// Which rows to send.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The first.
    pub first: u64,
    /// The last, if it is not the file's.
    pub last: Option<u64>,
}

/// Rows in the order they are sent.
pub struct Source {
    rows: Rows,
    schedule: Schedule<Sending>,
    past: Past,
    range: Range,
    is_at_end: bool,
}

impl Source {
    /// The rows of `range` that `past` leaves to be sent.
    pub fn new(rows: Rows, schedule: Schedule<Sending>, past: Past, range: Range) -> Self {
        Self { rows, schedule, past, range, is_at_end: false }
    }

    /// What to send next; `None` when all is sent.
    ///
    /// # Errors
    /// When the file is wrong: no further row is read.
    pub fn next(&mut self, now: impl Fn() -> Timestamp) -> Result<Option<Sending>, Failure> {
        if let Some(due) = self.schedule.due() {
            return Ok(Some(due));
        }
        if self.is_at_end {
            return Ok(self.schedule.rest());
        }
        let wanted = |row| row >= self.range.first && self.past.wants(row);
        let row = self.rows.next(|row| wanted(row) || self.range.last.is_some_and(|last| row > last));
        let row = row.inspect_err(|_| self.is_at_end = true)?;
        let Some(row) = row.filter(|row| self.range.last.is_none_or(|last| row.number <= last)) else {
            self.is_at_end = true;
            return Ok(self.schedule.rest());
        };
        let number = row.number;
        let earlier = self.past.unacknowledged.get(&number).copied();
        let twice = self.schedule.is_sent_twice(number);
        let sending = Sending {
            row: Arc::new(row),
            generation_time: earlier.unwrap_or_else(now),
            again: false,
            resumed: earlier.is_some(),
            times: if twice { 2 } else { 1 },
        };
        self.schedule.first(number, twice.then(|| Sending { again: true, ..sending.clone() }));
        Ok(Some(sending))
    }
}
