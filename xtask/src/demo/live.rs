//! Shows counts once a second: on a terminal as a table that is drawn again in its place, else as lines.

use std::collections::VecDeque;
use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tallyman_servers::process::now;

use super::counts::{self, COUNTERS, COUNTERS_NAMESPACE, Counts};
use super::tools::Tools;
use crate::servers::Output;

const INTERVAL: Duration = Duration::from_secs(1);
/// How many readings the rate is taken over: long enough for counts that rise in steps.
const READINGS: usize = 31;
/// How long the display lasts where nobody looks on.
const SECONDS: u64 = 30;
/// How many seconds longer it lasts where the last reading failed.
const GRACE: u64 = 10;
/// Of a problem, so that no line of the table is broken in two.
const PROBLEM_CHARACTERS: usize = 76;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Lines,
    Json,
}

/// Shows counts until Ctrl-C, or for some seconds; the counters that have not risen in these.
pub fn show(tools: &Tools, first: Counts, seconds: Option<u64>, output: Output) -> Result<Vec<&'static str>> {
    let is_terminal = std::io::stdout().is_terminal();
    let form = match output {
        Output::Json => Form::Json,
        Output::Text if is_terminal && std::env::var_os("TERM").is_some_and(|name| name != "dumb") => Form::Table,
        Output::Text => Form::Lines,
    };
    let seconds = seconds.or((!is_terminal).then_some(SECONDS));
    let interrupted = interruptions().context("cannot listen to signals")?;
    let started = now();
    let mut next = started;
    let mut display = Display { form, readings: VecDeque::from([(started, first.clone())]), problem: None, drawn: 0 };
    loop {
        next = (next + INTERVAL).max(now());
        match interrupted.recv_timeout(next.saturating_duration_since(now())) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return Ok(Vec::new()),
        }
        let second = started.elapsed().as_secs();
        let read = counts::read(tools);
        if interrupted.try_recv().is_ok() {
            // It ended what was reading, too.
            return Ok(Vec::new());
        }
        let text = display.after(read, second);
        let mut out = std::io::stdout();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever read has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Vec::new()),
            written => written.context("standard output")?,
        }
        let Some(seconds) = seconds.filter(|&seconds| second >= seconds) else { continue };
        match &display.problem {
            None => return Ok(display.last().not_above(&first)),
            Some(problem) if second >= seconds + GRACE => bail!("{problem}"),
            Some(_) => {}
        }
    }
}

/// Says once for each Ctrl-C or SIGTERM that it came; from now on neither ends us.
fn interruptions() -> std::io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || signals.forever().try_for_each(|_| sender.send(())));
    Ok(receiver)
}

struct Display {
    form: Form,
    /// The newest last; never empty.
    readings: VecDeque<(Instant, Counts)>,
    /// Why the last reading failed.
    problem: Option<String>,
    /// Lines of the table on the terminal.
    drawn: usize,
}

impl Display {
    fn last(&self) -> &Counts {
        &self.readings[self.readings.len() - 1].1
    }

    /// What to print after a reading. Where that is no table, problems are told on standard error as they come and go.
    fn after(&mut self, read: Result<Counts>, second: u64) -> String {
        let (read, problem) = match read {
            Ok(counts) => {
                self.readings.push_back((now(), counts.clone()));
                if self.readings.len() > READINGS {
                    self.readings.pop_front();
                }
                (counts, None)
            }
            Err(error) => (Counts::default(), Some(one_line(&format!("no answer: {error:#}")))),
        };
        if self.form != Form::Table && problem != self.problem {
            eprintln!("{}", problem.as_deref().unwrap_or("counts are read again"));
        }
        self.problem = problem;
        match self.form {
            Form::Json => format!("{}\n", json!({ "counts": read })),
            Form::Lines => line(&read, second),
            Form::Table => {
                let (from, earlier) = &self.readings[0];
                let (to, last) = &self.readings[self.readings.len() - 1];
                let rate = |name: &str| rate(earlier.of(name)?, last.of(name)?, to.duration_since(*from));
                let end = self.problem.clone().unwrap_or_else(|| format!("{second} s"));
                let table = table(last, rate, &end);
                let text = format!("{}{table}", over(self.drawn));
                self.drawn = table.lines().count();
                text
            }
        }
    }
}

/// Goes back over so many lines and clears them.
fn over(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\x1b[J") }
}

/// Per second; none where no time has passed.
fn rate(earlier: i64, later: i64, time: Duration) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let risen = later.saturating_sub(earlier) as f64;
    (!time.is_zero()).then(|| risen / time.as_secs_f64())
}

fn table(counts: &Counts, rate: impl Fn(&str) -> Option<f64>, end: &str) -> String {
    let row = |counter: &str, application: &str, count: &str, rate: &str| {
        format!("{counter:<10} {application:<14} {count:>12} {rate:>12}\n")
    };
    let mut table = format!("counters of the CounterNamespace {COUNTERS_NAMESPACE}\n\n");
    table.push_str(&row("COUNTER", "APPLICATION", "COUNT", "PER SECOND"));
    for (name, application) in COUNTERS {
        let count = counts.of(name).map_or_else(|| "-".to_owned(), |count| count.to_string());
        let rate = rate(name).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
        table.push_str(&row(name, application, &count, &rate));
    }
    table + &format!("\n{end}\nCtrl-C ends this display; the demo runs on\n")
}

fn line(counts: &Counts, second: u64) -> String {
    let count = |name: &str| counts.of(name).map_or_else(|| "-".to_owned(), |count| count.to_string());
    let of_all = COUNTERS.map(|(name, _)| format!("{name} {}", count(name)));
    format!("{second:>4} s  {}\n", of_all.join("  "))
}

/// The first line of a text, as far as people read it.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(PROBLEM_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::counts::counts;

    fn display(form: Form) -> Display {
        Display { form, readings: VecDeque::from([(now(), counts(&[("curl", 1)]))]), problem: None, drawn: 0 }
    }

    #[test]
    fn a_table_has_a_row_for_each_counter_and_a_dash_for_what_is_unknown() {
        let counts = counts(&[("curl", 128), ("go", 7)]);
        let shown = table(&counts, |name| (name == "curl").then_some(0.96), "12 s");
        let expected = "\
counters of the CounterNamespace video-plays

COUNTER    APPLICATION           COUNT   PER SECOND
curl       curl                    128          1.0
go         go                        7            -
intro      player                    -            -
python     python                    -            -

12 s
Ctrl-C ends this display; the demo runs on
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_table_is_drawn_over_the_one_before_it() {
        let mut display = display(Form::Table);
        let first = display.after(Ok(counts(&[("curl", 2)])), 1);
        assert!(first.starts_with("counters of"), "{first}");
        let second = display.after(Ok(counts(&[("curl", 3)])), 2);
        assert!(second.starts_with("\x1b[10A\x1b[Jcounters of"), "{second:?}");
        assert_eq!(first.lines().count(), 10);
    }

    #[test]
    fn a_table_keeps_its_counts_while_none_are_read_and_says_why() {
        let mut display = display(Form::Table);
        let shown = display.after(Err(anyhow::anyhow!("no pod\nmore")), 1);
        assert!(shown.contains("\nno answer: no pod\nCtrl-C"), "{shown}");
        assert!(shown.contains("curl       curl                      1 "), "{shown}");
    }

    #[test]
    fn lines_and_json_have_what_was_read_and_nothing_older() {
        let all = counts(&[("curl", 3), ("go", 2), ("intro", 0), ("python", 1)]);
        let mut lines = display(Form::Lines);
        assert_eq!(lines.after(Ok(all.clone()), 3), "   3 s  curl 3  go 2  intro 0  python 1\n");
        assert_eq!(lines.after(Err(anyhow::anyhow!("gone")), 4), "   4 s  curl -  go -  intro -  python -\n");
        let mut json = display(Form::Json);
        assert_eq!(json.after(Ok(all), 3), "{\"counts\":{\"curl\":3,\"go\":2,\"intro\":0,\"python\":1}}\n");
        assert_eq!(json.after(Err(anyhow::anyhow!("gone")), 4), "{\"counts\":{}}\n");
    }

    #[test]
    fn a_rate_is_per_second() {
        assert_eq!(rate(10, 25, Duration::from_secs(10)), Some(1.5));
        assert_eq!(rate(10, 25, Duration::ZERO), None);
    }
}
