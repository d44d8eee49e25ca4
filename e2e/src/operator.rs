//! Somebody who applies the schema over and over, as an operator does.

use std::process::{Command, Output};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two runs.
const PAUSE: Duration = Duration::from_secs(2);

/// Runs that go on until they are stopped.
#[derive(Debug)]
pub struct Operator {
    stop: Sender<()>,
    running: JoinHandle<()>,
}

impl Operator {
    /// Begins with these runs. None may fail but for what the next one mends.
    pub fn start(application: impl Fn() -> Command + Send + 'static) -> Self {
        let (stop, stopped) = channel();
        let running = std::thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(PAUSE) {
                let run = Run::of(&mut application());
                assert!(run.is_well() || run.is_to_be_repeated(), "schema apply: {}", run.errors());
            }
        });
        Self { stop, running }
    }

    /// Lets the run under way end, and begins no other.
    pub fn stop(self) {
        drop(self.stop);
        if let Err(panic) = self.running.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A run of `tallyman schema apply` that has ended.
#[derive(Debug)]
pub struct Run(Output);

impl Run {
    /// Runs it to its end.
    pub fn of(application: &mut Command) -> Self {
        Self(application.output().unwrap())
    }

    /// Whether all was done.
    pub fn is_well(&self) -> bool {
        self.0.status.success()
    }

    /// Whether it asks for another run: time has gone on so that more is to be done, or a busy Cassandra did not answer.
    pub fn is_to_be_repeated(&self) -> bool {
        const ASKS: [&str; 6] = [
            "run it again",
            "try again",
            "no answer in time",
            "did not answer in time",
            "is unavailable",
            "still connecting",
        ];
        let errors = self.errors();
        ASKS.iter().any(|ask| errors.contains(ask))
    }

    /// What it printed as errors.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
}
