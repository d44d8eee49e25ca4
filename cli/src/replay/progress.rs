//! Shows how far a replay is: a bar on a terminal, otherwise a line every few seconds. On standard error.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::rows::Position;

/// How often the bar moves.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How often a line is printed.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// How far a replay is.
pub struct Progress {
    bar: Option<ProgressBar>,
    ticks: Interval,
    started: Instant,
    position: Position,
}

impl Progress {
    /// Of a file at its beginning.
    pub fn new(position: Position) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {percent:>3}%  {msg}  {eta} left");
            // The template is the one above.
            ProgressBar::new(position.length).with_style(style.expect("the template is valid"))
        });
        let every = if bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { bar, ticks, started: Instant::now(), position }
    }

    /// Waits until it is time to show it again.
    pub async fn tick(&mut self) {
        self.ticks.tick().await;
    }

    /// Shows it.
    pub fn show(&self, rows: u64) {
        let seconds = self.started.elapsed().as_secs_f64().max(f64::EPSILON);
        let message = format!("{} rows, {}/s", HumanCount(rows), HumanCount((rows as f64 / seconds) as u64));
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.position.read());
                bar.set_message(message);
            }
            None => {
                let percent = 100 * self.position.read() / self.position.length.max(1);
                eprintln!("{percent}%  {message}");
            }
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
