//! Runs stages one after the other and sums up: each stage's outcome and time, and the tests of all.

use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use tallyman_servers::{Place, Set, Shape, debian};

use crate::process::{self, Process, Tests};
use crate::{deny, generated, tidy};

/// One step of a chore.
pub struct Stage {
    /// What the summary calls it.
    pub name: &'static str,
    pub action: Action,
    /// Real servers that must run meanwhile; the stage finds them by [`CASSANDRA`] in its environment.
    pub servers: Option<Shape>,
}

/// What a stage does.
pub enum Action {
    /// A cargo command with further variables in its environment; tests in its output are counted.
    Cargo { arguments: &'static [&'static str], variables: &'static [(&'static str, &'static str)] },
    /// Debian packages that later stages need.
    Install(&'static [debian::Package]),
    /// Begins to build Kubernetes and its tools beside the stages that follow: on a machine that has none of them, it takes a quarter of an hour.
    BeginKubernetes,
    /// Waits until they are built.
    InstallKubernetes,
    /// Begins these builds, one after the other, beside the stages that follow, which leave a core idle at times. A stage that needs one
    /// waits for it, as cargo locks a profile's folder, and says what is wrong where it fails.
    BeginBuilds(&'static [&'static [&'static str]]),
    /// The checks of [`tidy`].
    Tidy,
    /// Whether the files of [`generated`] are current.
    Generated,
    /// The checks of [`deny`].
    Deny(deny::WhenMissing),
}

/// Variable with the contact points of Cassandra, separated by commas.
const CASSANDRA: &str = "TALLYMAN_CASSANDRA";
/// Third byte of the addresses of these servers, so that a developer's own and those that tests start run beside them.
const ADDRESSES: u8 = 1;

struct Outcome {
    is_good: bool,
    tests: Tests,
    remark: &'static str,
}

impl Outcome {
    fn of_check(is_good: bool) -> Self {
        Self { is_good, tests: Tests::default(), remark: "" }
    }
}

/// Runs all stages, also after one has failed, and prints the summary; whether all went well.
pub fn run_all(stages: &[Stage]) -> bool {
    let mut summary = Vec::new();
    let mut servers = Servers::named("xtask-test", ADDRESSES);
    let mut kubernetes = None;
    for stage in stages {
        println!("== {}", stage.name);
        let start = now();
        let outcome = servers
            .provide(stage.servers.as_ref())
            .and_then(|variables| run(&stage.action, &variables, &mut kubernetes));
        let outcome = outcome.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            Outcome::of_check(false)
        });
        summary.push((stage.name, outcome, start.elapsed()));
    }
    drop(servers);
    println!();
    for (name, outcome, took) in &summary {
        println!("{}", line(name, outcome, *took));
    }
    let total = total(summary.iter().map(|(_, outcome, _)| outcome));
    println!("{} passed, {} failed", total.passed, total.failed);
    summary.iter().all(|(_, outcome, _)| outcome.is_good)
}

/// The servers of the stage that runs. They end with this value, and before other ones start.
struct Servers {
    /// Name of their place, and third byte of their addresses.
    place: (&'static str, u8),
    running: Option<(Shape, Set)>,
}

impl Servers {
    fn named(name: &'static str, third_byte: u8) -> Self {
        Self { place: (name, third_byte), running: None }
    }

    /// Lets just these servers run, none for `None`, and returns the variables by which to find them. A stage that needs the
    /// same as the one before it gets the same.
    fn provide(&mut self, shape: Option<&Shape>) -> Result<Vec<(&'static str, String)>> {
        let shape = match (shape, &self.running) {
            (None, _) => {
                self.running = None;
                return Ok(Vec::new());
            }
            (Some(shape), Some((running, set))) if running == shape => return Ok(variables(set)),
            (Some(shape), _) => shape.clone(),
        };
        self.running = None;
        let (name, third_byte) = self.place;
        let set = Set::start(&Place::in_memory(name, third_byte)?, &shape)?;
        let variables = variables(&set);
        self.running = Some((shape, set));
        Ok(variables)
    }
}

fn variables(servers: &Set) -> Vec<(&'static str, String)> {
    vec![(CASSANDRA, servers.contact_points())]
}

#[allow(clippy::disallowed_methods, reason = "shows a person how long a stage took")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// What builds Kubernetes, once it has begun.
type Building = Option<JoinHandle<tallyman_cluster::Result<()>>>;

fn run(action: &Action, more: &[(&'static str, String)], kubernetes: &mut Building) -> Result<Outcome> {
    match action {
        Action::Cargo { arguments, variables } => {
            let more = more.iter().map(|(name, value)| (*name, value.as_str()));
            let process = variables
                .iter()
                .copied()
                .chain(more)
                .fold(process::cargo(*arguments), |process: Process, (name, value)| process.env(name, value));
            let (is_good, tests) = process.counts_tests(&mut std::io::stdout())?;
            Ok(Outcome { is_good, tests, remark: "" })
        }
        Action::Install(packages) => {
            debian::install(packages)?;
            Ok(Outcome::of_check(true))
        }
        Action::BeginKubernetes => {
            // Two that install packages at once get in each other's way.
            tallyman_cluster::install_packages()?;
            *kubernetes = Some(std::thread::spawn(tallyman_cluster::install));
            Ok(Outcome::of_check(true))
        }
        Action::InstallKubernetes => {
            match kubernetes.take().map(JoinHandle::join) {
                Some(Ok(built)) => built?,
                // It panicked, or was never begun.
                Some(Err(_)) | None => tallyman_cluster::install()?,
            }
            Ok(Outcome::of_check(true))
        }
        &Action::BeginBuilds(builds) => {
            std::thread::spawn(move || {
                for build in builds {
                    // Where it fails, the stage that needs it says why.
                    let _ = process::cargo_behind(building(build)).quiet().succeeds();
                }
            });
            Ok(Outcome::of_check(true))
        }
        Action::Tidy => tidy::check(".".as_ref()).map(Outcome::of_check),
        Action::Generated => generated::run(true).map(Outcome::of_check),
        Action::Deny(when_missing) => {
            let checked = deny::check(*when_missing)?;
            Ok(Outcome { is_good: checked.is_good, tests: Tests::default(), remark: checked.remark })
        }
    }
}

/// The arguments of a cargo command that builds what it tests, or builds, and runs nothing.
fn building<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    // What follows is for the tests.
    let of_cargo = arguments.split(|argument| *argument == "--").next().unwrap_or_default();
    let no_run = (of_cargo.first() == Some(&"test")).then_some("--no-run");
    of_cargo.iter().copied().chain(no_run).collect()
}

fn line(name: &str, outcome: &Outcome, took: Duration) -> String {
    let verdict = if outcome.is_good { "ok" } else { "FAILED" };
    let seconds = took.as_secs_f64();
    let tests = match outcome.tests {
        Tests { passed: 0, failed: 0 } => String::new(),
        Tests { passed, failed } => format!("{passed} passed, {failed} failed"),
    };
    format!("{name:<24} {verdict:<6} {seconds:>8.1} s  {tests}{}", outcome.remark).trim_end().to_owned()
}

/// The tests of all stages. A stage that failed otherwise (it did not compile, a lint) counts as one failed test, so
/// that the closing line never says that nothing failed when something did.
fn total<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Tests {
    outcomes.fold(Tests::default(), |total, outcome| {
        let failed_otherwise = !outcome.is_good && outcome.tests.failed == 0;
        Tests {
            passed: total.passed + outcome.tests.passed,
            failed: total.failed + outcome.tests.failed + u64::from(failed_otherwise),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(is_good: bool, passed: u64, failed: u64) -> Outcome {
        Outcome { is_good, tests: Tests { passed, failed }, remark: "" }
    }

    #[test]
    fn the_total_counts_a_stage_that_failed_without_tests() {
        let outcomes = [outcome(true, 3, 0), outcome(false, 2, 1), outcome(false, 0, 0), outcome(false, 4, 0)];
        assert_eq!(total(outcomes.iter()), Tests { passed: 9, failed: 3 });
    }

    #[test]
    #[ignore = "installs and starts memcached: cargo xtask test"]
    fn stages_with_the_same_servers_share_them_and_they_end_with_the_last() {
        let runs = |address: &str| std::net::TcpStream::connect(address).is_ok();
        let mut servers = Servers::named("test-of-xtask", 2);
        let shape = |memcached| Shape { nodes: 0, memcached, ..Shape::default() };
        let expected = vec![(CASSANDRA, String::new())];
        assert_eq!(servers.provide(Some(&shape(2))).unwrap(), expected);
        let pids = |servers: &Servers| servers.running.as_ref().unwrap().1.memcached().to_vec();
        let before = pids(&servers);
        assert_eq!(servers.provide(Some(&shape(2))).unwrap(), expected);
        assert_eq!(pids(&servers), before);
        servers.provide(Some(&shape(1))).unwrap();
        assert!(runs("127.0.2.1:11311") && !runs("127.0.2.1:11312"));
        assert_eq!(servers.provide(None).unwrap(), []);
        assert!(!runs("127.0.2.1:11311"));
    }

    #[test]
    fn what_is_tested_later_is_built_without_running_a_test() {
        let test = ["test", "--release", "--test", "faults", "--", "--include-ignored"];
        assert_eq!(building(&test), ["test", "--release", "--test", "faults", "--no-run"]);
        assert_eq!(building(&["build", "--bins"]), ["build", "--bins"]);
    }

    #[test]
    fn a_line_of_the_summary_says_how_it_went() {
        let took = Duration::from_millis(1_250);
        assert_eq!(line("lint", &outcome(true, 0, 0), took), "lint                     ok          1.2 s");
        assert_eq!(
            line("tests", &outcome(false, 2, 1), took),
            "tests                    FAILED      1.2 s  2 passed, 1 failed"
        );
    }
}
