//! Tells a person what takes its time: a line that moves in a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::process::now;

/// Plain lines between two of which so many steps lie.
const STEPS_PER_LINE: u64 = 50;

/// One thing that takes its time.
pub struct Task {
    name: String,
    started: Instant,
    bar: Option<ProgressBar>,
    steps: u64,
}

impl Task {
    /// Begins; all output goes to the error stream.
    pub fn begin(name: impl Into<String>) -> Self {
        let name = name.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            // The template is a constant; a test below renders it.
            let style =
                ProgressStyle::with_template("{spinner} {msg} ({elapsed})").expect("the template is well formed");
            let bar = ProgressBar::new_spinner().with_style(style).with_message(name.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        if bar.is_none() {
            eprintln!("{name} …");
        }
        Self { name, started: now(), bar, steps: 0 }
    }

    /// A step of many is done.
    pub fn step(&mut self, what: &str) {
        self.steps += 1;
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}: {} {what}", self.name, self.steps)),
            None if self.steps.is_multiple_of(STEPS_PER_LINE) => eprintln!("{}: {} {what}", self.name, self.steps),
            None => {}
        }
    }

    /// Ends well.
    pub fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{}: {:.1} s", self.name, self.started.elapsed().as_secs_f64());
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_can_be_shown() {
        ProgressStyle::with_template("{spinner} {msg} ({elapsed})").unwrap();
        let mut task = Task::begin("a task");
        task.step("files");
        task.done();
    }
}
