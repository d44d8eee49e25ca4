//! Runs other programs and passes on what they print, counting the tests that cargo reports.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

/// Numbers of tests, summed over the result lines of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tests {
    pub passed: u64,
    pub failed: u64,
}

impl Tests {
    /// Adds what a line of cargo's output reports, if it is a result line.
    fn count(&mut self, line: &str) {
        let Some((_, counts)) = line.trim().strip_prefix("test result:").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for part in counts.split("; ") {
            match part.split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// A program about to be run.
pub struct Process {
    command: Command,
}

/// The cargo that runs us.
pub fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Process {
    program(cargo_program(), arguments)
}

/// The same, while everything else goes first.
pub fn cargo_behind<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Process {
    program("nice", [cargo_program()]).arguments(arguments)
}

fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// Any program.
pub fn program<S: AsRef<OsStr>>(name: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = S>) -> Process {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null());
    Process { command }
}

impl Process {
    /// Sets a variable of the program's environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs the program in a folder.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Adds further arguments.
    pub fn arguments<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Drops what the program prints.
    pub fn quiet(mut self) -> Self {
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        self
    }

    /// Runs the program to its end; whether it ended well.
    pub fn succeeds(mut self) -> Result<bool> {
        let status = self.command.status();
        Ok(self.started(status)?.success())
    }

    /// Runs the program to its end and returns what it printed on standard output; an error where it did not end well.
    pub fn output(mut self) -> Result<String> {
        let output = self.command.stderr(Stdio::inherit()).output();
        let output = self.started(output)?;
        anyhow::ensure!(
            output.status.success(),
            "{} ended with {}",
            self.command.get_program().display(),
            output.status
        );
        String::from_utf8(output.stdout).with_context(|| format!("output of {}", self.command.get_program().display()))
    }

    /// Runs the program to its end, passing its output on line by line; whether it ended well, and its tests.
    pub fn counts_tests(mut self, passed_on: &mut impl Write) -> Result<(bool, Tests)> {
        let child = self.command.stdout(Stdio::piped()).spawn();
        let mut child = self.started(child)?;
        let mut tests = Tests::default();
        if let Some(output) = child.stdout.take() {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            // Bytes rather than text: a test may print anything.
            while output.read_until(b'\n', &mut line)? > 0 {
                tests.count(&String::from_utf8_lossy(&line));
                passed_on.write_all(&line)?;
                line.clear();
            }
        }
        let status: ExitStatus = child.wait()?;
        Ok((status.success(), tests))
    }

    fn started<T>(&self, result: std::io::Result<T>) -> Result<T> {
        result.with_context(|| format!("cannot run {}", self.command.get_program().display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_other_lines_ignored() {
        let mut tests = Tests::default();
        for line in [
            "running 3 tests\n",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.03s\n",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.0s",
            "9 passed; 9 failed",
            "test result: unheard of",
        ] {
            tests.count(line);
        }
        assert_eq!(tests, Tests { passed: 15, failed: 2 });
    }

    #[test]
    fn the_output_of_a_program_is_counted_and_its_end_reported() {
        let script = "echo 'test result: FAILED. 1 passed; 2 failed; 0 ignored'; exit 3";
        let mut passed_on = Vec::new();
        let (ended_well, tests) = program("sh", ["-c", script]).counts_tests(&mut passed_on).unwrap();
        assert!(!ended_well);
        assert_eq!(passed_on, b"test result: FAILED. 1 passed; 2 failed; 0 ignored\n");
        assert_eq!(tests, Tests { passed: 1, failed: 2 });
        assert!(program("no-such-program-here", [""; 0]).succeeds().is_err());
    }
}
