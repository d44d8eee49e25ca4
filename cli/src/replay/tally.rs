//! Which rows were acknowledged, and what became of the others. Pure.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hdrhistogram::Histogram;
use tallyman_api::client::Error;

use super::report::{Errors, Latency, Report};
use super::source::{PlannedAdd, Sending};
use crate::failure::reason;

/// The longest latency that is told apart from longer ones.
const LATENCY_MAX: Duration = Duration::from_secs(3600);

/// What is known of an add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Certainly not counted.
    NotCounted,
    /// Counted or not.
    Unknown,
    /// Counted.
    Acknowledged,
}

#[derive(Debug)]
struct RowState {
    adds: Vec<State>,
    /// Sendings of single adds that are still to be answered.
    outstanding: usize,
}

impl RowState {
    fn is_acknowledged(&self) -> bool {
        self.adds.iter().all(|state| *state == State::Acknowledged)
    }
}

/// What an answer was worth to its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is not the one that decides.
    Undecided,
    /// All adds of the row are acknowledged now.
    Acknowledged,
    /// The row was answered for the last time and is not acknowledged.
    Failed,
}

/// Counts answers.
#[derive(Debug)]
pub struct Tally {
    open: HashMap<u64, RowState>,
    report: Report,
    latency_us: Histogram<u64>,
}

impl Tally {
    /// Nothing sent yet.
    pub fn new() -> Self {
        // Three digits over an hour of microseconds: these bounds are valid.
        let latency_us = Histogram::new_with_max(LATENCY_MAX.as_micros() as u64, 3).expect("the bounds are valid");
        Self { open: HashMap::new(), report: Report::default(), latency_us }
    }

    /// A row is about to be sent.
    pub fn expect(&mut self, sending: &Sending) {
        let adds = sending.row.adds.len();
        self.report.sent += adds as u64;
        if sending.again {
            self.report.resent += adds as u64;
            return;
        }
        self.report.rows += 1;
        self.report.adds += adds as u64;
        let state = if sending.resumed { State::Unknown } else { State::NotCounted };
        let row = RowState { adds: vec![state; adds], outstanding: adds * sending.times };
        self.open.insert(sending.row.number, row);
    }

    /// A request was answered after this time.
    pub fn answered(&mut self, after: Duration) {
        self.latency_us.saturating_record(after.as_micros() as u64);
    }

    /// An add was answered.
    pub fn settle(&mut self, add: &PlannedAdd, answer: &Result<(), Error>) -> Settled {
        if let Err(error) = answer {
            let errors = self.report.errors.entry(reason(error)).or_insert_with(|| Errors {
                count: 0,
                first_row: add.row,
                first_message: error.to_string(),
            });
            errors.count += 1;
        }
        let Some(row) = self.open.get_mut(&add.row) else { return Settled::Undecided };
        row.outstanding -= 1;
        let was_acknowledged = row.is_acknowledged();
        let state = &mut row.adds[add.index];
        match (answer, *state) {
            (Ok(()), _) => *state = State::Acknowledged,
            (Err(error), State::NotCounted) if error.is_outcome_unknown() => *state = State::Unknown,
            (Err(_), _) => {}
        }
        let is_acknowledged = row.is_acknowledged();
        let is_over = row.outstanding == 0;
        if is_over && let Some(row) = self.open.remove(&add.row) {
            self.close(&row);
        }
        match (was_acknowledged, is_acknowledged, is_over) {
            (false, true, _) => Settled::Acknowledged,
            (_, false, true) => Settled::Failed,
            _ => Settled::Undecided,
        }
    }

    fn close(&mut self, row: &RowState) {
        self.report.rows_acknowledged += u64::from(row.is_acknowledged());
        for state in &row.adds {
            match state {
                State::Acknowledged => self.report.adds_acknowledged += 1,
                State::Unknown => self.report.adds_unknown += 1,
                State::NotCounted => self.report.adds_refused += 1,
            }
        }
    }

    /// Rows sent so far.
    pub fn rows(&self) -> u64 {
        self.report.rows
    }

    /// The report, after the last answer. Rows that were not sent whole are in it with what was sent of them.
    pub fn finish(mut self, elapsed: Duration) -> Report {
        for row in std::mem::take(&mut self.open).into_values() {
            self.close(&row);
        }
        let at = |quantile| self.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        let latency_ms = Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: self.latency_us.max() as f64 / 1000.0,
        };
        let seconds = elapsed.as_secs_f64();
        let adds_per_second =
            if seconds > 0.0 { (self.report.adds_acknowledged as f64 / seconds).round() } else { 0.0 };
        Report { seconds, adds_per_second, latency_ms, ..self.report }
    }
}

/// Errors by reason.
pub type ErrorsByReason = BTreeMap<String, Errors>;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tallyman_api::proto::IdempotencyToken;
    use tallyman_api::status::{Reason, Status};
    use tallyman_api::time::Timestamp;

    use super::super::rows::Row;
    use super::*;

    fn sending(adds: usize, times: usize, resumed: bool) -> Sending {
        let adds = vec![("c".to_owned(), 1); adds];
        let row = Arc::new(Row { number: 7, adds });
        Sending { row, generation_time: Timestamp::from_micros(0), again: false, resumed, times }
    }

    fn out_of_range() -> Result<(), Error> {
        Err(Error::EventTimeOutOfRange(Status::event_time_out_of_range(Duration::from_secs(5), 6_000_000)))
    }

    fn unknown() -> Result<(), Error> {
        let last = Box::new(Status::refused(Reason::OutcomeUnknown, "m"));
        Err(Error::OutcomeUnknown { token: IdempotencyToken::default(), token_honoured: Some(true), last })
    }

    fn settle(sending: &Sending, answers: &[(usize, Result<(), Error>)]) -> (Vec<Settled>, Report) {
        let mut tally = Tally::new();
        tally.expect(sending);
        let adds: Vec<_> = sending.adds("p").collect();
        let settled = answers.iter().map(|(index, answer)| tally.settle(&adds[*index], answer)).collect();
        (settled, tally.finish(Duration::from_secs(1)))
    }

    #[test]
    fn a_row_is_acknowledged_when_all_its_adds_are_and_only_once() {
        let (settled, report) = settle(&sending(2, 2, false), &[(0, Ok(())), (0, Ok(())), (1, Ok(())), (1, Ok(()))]);
        assert_eq!(settled, [Settled::Undecided, Settled::Undecided, Settled::Acknowledged, Settled::Undecided]);
        assert_eq!((report.rows_acknowledged, report.adds_acknowledged), (1, 2));
    }

    #[test]
    fn one_acknowledgement_outweighs_any_failure_of_the_same_token() {
        for answers in [[(0, unknown()), (0, Ok(()))], [(0, Ok(())), (0, out_of_range())]] {
            let (settled, report) = settle(&sending(1, 2, false), &answers);
            assert!(settled.contains(&Settled::Acknowledged) && !settled.contains(&Settled::Failed));
            assert_eq!((report.adds_acknowledged, report.adds_unknown, report.adds_refused), (1, 0, 0));
            assert_eq!(report.errors.values().map(|errors| errors.count).sum::<u64>(), 1);
        }
    }

    #[test]
    fn a_refusal_after_an_unknown_outcome_leaves_it_unknown() {
        let (settled, report) = settle(&sending(1, 2, false), &[(0, unknown()), (0, out_of_range())]);
        assert_eq!(settled, [Settled::Undecided, Settled::Failed]);
        assert_eq!((report.adds_unknown, report.adds_refused), (1, 0));
        // It was sent in an earlier run, of whose end nothing is known.
        let (_, report) = settle(&sending(1, 1, true), &[(0, out_of_range())]);
        assert_eq!((report.adds_unknown, report.adds_refused), (1, 0));
        let (_, report) = settle(&sending(1, 1, false), &[(0, out_of_range())]);
        assert_eq!((report.adds_unknown, report.adds_refused), (0, 1));
    }

    #[test]
    fn a_row_that_was_not_sent_whole_is_not_acknowledged() {
        let (_, report) = settle(&sending(2, 1, false), &[(0, Ok(()))]);
        assert_eq!(
            (report.rows, report.rows_acknowledged, report.adds_acknowledged, report.adds_refused),
            (1, 0, 1, 1)
        );
    }
}
