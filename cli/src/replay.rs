//! `tallyman replay`: sends the rows of a CSV file as adds.
//!
//! The parts: [`rows`] reads the file and makes adds of it by [`template`]; [`source`] brings them into order, some twice
//! ([`schedule`]); [`journal`] remembers across runs what was sent; [`tally`] keeps the books and makes the [`report`]. The
//! loop that sends is here.

mod arguments;
mod journal;
mod progress;
mod report;
mod rows;
mod schedule;
mod source;
mod tally;
mod template;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tallyman_api::client::{Client, Error, Policy};
use tallyman_api::time::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::arguments::Arguments;
use self::journal::{Header, Journal, Past};
use self::progress::Progress;
use self::report::Report;
use self::rows::Rows;
use self::schedule::Schedule;
use self::source::{PlannedAdd, Range, Source};
use self::tally::{Settled, Tally};
use crate::failure::{Failure, exit_code_of_unacknowledged};
use crate::output::Format;

/// Sends the rows, prints the report.
pub async fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, Failure> {
    let rows = Rows::open(arguments)?;
    let client = client(arguments)?;
    let prefix = arguments.token_prefix.clone();
    let prefix = prefix.unwrap_or_else(|| format!("replay-{}", client.new_token().token));
    let (journal, prefix, past) = open_journal(arguments, prefix)?;
    // Second sendings follow at about the time of the first ones' answers: before, with, and after them.
    let reach = 2 * arguments.concurrency.get() * arguments.batch;
    let schedule = Schedule::new(arguments.resend, arguments.seed, reach as u64);
    let range = Range { first: arguments.from, last: arguments.last_row() };
    let progress = Progress::new(rows.position());
    let interrupt = signal(SignalKind::interrupt());
    let interrupt = interrupt.map_err(|error| Failure::local(format!("cannot listen to signals: {error}")))?;
    let replay = Replay {
        source: Source::new(rows, schedule, past, range),
        client,
        namespace: arguments.namespace.as_str().into(),
        prefix,
        journal,
        tally: Tally::new(),
        stop: None,
        keep_going: arguments.keep_going,
    };
    let (report, failure) = replay.run(arguments.concurrency.get(), arguments.batch, progress, interrupt).await;
    let report = Report { seed: arguments.seed, ..report };
    format.print(&report.to_string(), &report)?;
    match failure {
        Some(failure) => Err(failure),
        None if report.is_complete() && report.stopped.is_none() => Ok(ExitCode::SUCCESS),
        None => Ok(exit_code_of_unacknowledged(report.adds_unknown > 0)),
    }
}

fn client(arguments: &Arguments) -> Result<Client, Failure> {
    let attempts_max = if arguments.no_retries { 1 } else { u32::MAX };
    let retries = Policy { attempts_max, backoff_max: Duration::from_millis(200), ..Policy::default() };
    let connection = &arguments.connection;
    let client = Client::builder(&connection.addr).deadline(connection.timeout).retries(retries).connect();
    client.map_err(|error| Failure::of_client(&error, &connection.addr))
}

fn open_journal(arguments: &Arguments, token_prefix: String) -> Result<(Option<Journal>, String, Past), Failure> {
    let Some(path) = &arguments.journal else { return Ok((None, token_prefix, Past::default())) };
    let header = Header {
        journal: journal::VERSION,
        csv: arguments.csv.clone(),
        namespace: arguments.namespace.clone(),
        counters: arguments.counters.iter().map(|counter| counter.as_str().to_owned()).collect(),
        delta: arguments.delta.clone(),
        token_prefix,
    };
    if arguments.resume {
        let (journal, header, past) = Journal::resume(path, &header)?;
        return Ok((Some(journal), header.token_prefix, past));
    }
    Ok((Some(Journal::create(path, &header)?), header.token_prefix, Past::default()))
}

/// Why no further row is sent.
enum Stop {
    /// The file ended, or has a wrong row, or the journal cannot be written.
    Failed(Failure),
    /// A row was not acknowledged.
    Unacknowledged { row: u64 },
    /// The user said so.
    Interrupted,
}

struct Replay {
    source: Source,
    client: Client,
    namespace: Arc<str>,
    prefix: String,
    journal: Option<Journal>,
    tally: Tally,
    stop: Option<Stop>,
    keep_going: bool,
}

/// A request and its answer.
struct Answered {
    adds: Vec<PlannedAdd>,
    answers: Vec<Result<(), Error>>,
    after: Duration,
}

impl Replay {
    async fn run(
        mut self,
        concurrency: usize,
        batch: usize,
        mut progress: Progress,
        mut interrupt: Signal,
    ) -> (Report, Option<Failure>) {
        let started = Instant::now();
        let mut in_flight: JoinSet<Answered> = JoinSet::new();
        let mut waiting = VecDeque::new();
        loop {
            while in_flight.len() < concurrency {
                self.fill(&mut waiting, batch);
                if waiting.is_empty() {
                    break;
                }
                let adds: Vec<_> = waiting.drain(..batch.min(waiting.len())).collect();
                in_flight.spawn(send(self.client.clone(), self.namespace.clone(), adds));
            }
            if in_flight.is_empty() {
                break;
            }
            tokio::select! {
                Some(answered) = in_flight.join_next() => match answered {
                    Ok(answered) => self.settle(&answered),
                    Err(error) => self.stop(Stop::Failed(Failure::local(format!("a request broke off: {error}")))),
                },
                () = progress.tick() => progress.show(self.tally.rows()),
                _ = interrupt.recv() => self.stop(Stop::Interrupted),
            }
        }
        progress.end();
        let report = self.tally.finish(started.elapsed());
        let (stopped, failure) = match self.stop {
            None => (None, None),
            Some(Stop::Failed(failure)) => (Some(failure.message.clone()), Some(failure)),
            Some(Stop::Unacknowledged { row }) => (Some(format!("row {row} was not acknowledged")), None),
            Some(Stop::Interrupted) => (Some("interrupted".to_owned()), None),
        };
        (Report { token_prefix: self.prefix, stopped, ..report }, failure)
    }

    /// Plans rows until there are enough adds for a request, or no more rows. What is planned is sent, also after a stop.
    fn fill(&mut self, waiting: &mut VecDeque<PlannedAdd>, adds: usize) {
        while waiting.len() < adds && self.stop.is_none() {
            match self.next(waiting) {
                Ok(true) => {}
                Ok(false) => return,
                Err(failure) => return self.stop(Stop::Failed(failure)),
            }
        }
    }

    fn next(&mut self, waiting: &mut VecDeque<PlannedAdd>) -> Result<bool, Failure> {
        let Some(sending) = self.source.next(now)? else { return Ok(false) };
        if let Some(journal) = self.journal.as_mut().filter(|_| !sending.again && !sending.resumed) {
            journal.sent(sending.row.number, sending.generation_time)?;
        }
        self.tally.expect(&sending);
        waiting.extend(sending.adds(&self.prefix));
        Ok(true)
    }

    fn settle(&mut self, answered: &Answered) {
        self.tally.answered(answered.after);
        for (add, answer) in answered.adds.iter().zip(&answered.answers) {
            match self.tally.settle(add, answer) {
                Settled::Undecided => {}
                Settled::Failed if self.keep_going => {}
                Settled::Failed => self.stop(Stop::Unacknowledged { row: add.row }),
                Settled::Acknowledged => {
                    if let Some(Err(failure)) = self.journal.as_mut().map(|journal| journal.done(add.row)) {
                        self.stop(Stop::Failed(failure));
                    }
                }
            }
        }
    }

    /// Sends nothing more; the first reason counts.
    fn stop(&mut self, stop: Stop) {
        self.stop.get_or_insert(stop);
    }
}

async fn send(client: Client, namespace: Arc<str>, adds: Vec<PlannedAdd>) -> Answered {
    let started = Instant::now();
    let answers = match adds.as_slice() {
        [PlannedAdd { add, .. }] => {
            vec![client.add(&namespace, &add.counter_name, add.delta, add.token.clone()).await]
        }
        several => client.batch_add(&namespace, several.iter().map(|planned| planned.add.clone()).collect()).await,
    };
    Answered { adds, answers, after: started.elapsed() }
}

#[allow(clippy::disallowed_methods, reason = "generation_time is this client's wall clock")]
fn now() -> Timestamp {
    Timestamp::from_system_time(SystemTime::now())
}
