//! Whether this process can do its work: a list of named checks, asked whenever somebody wants to know.

use std::fmt;

use serde::Serialize;

/// One question: `Err` says what is missing. It is asked often and must not wait.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The checks of a process.
#[derive(Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
}

/// What the checks answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all is well.
    pub ready: bool,
    /// Each check's answer, in order.
    pub checks: Vec<CheckReport>,
}

/// What one check answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Which check.
    pub name: &'static str,
    /// Why it failed; absent where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

impl Readiness {
    /// Without checks: always ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check. It is asked often and must not wait.
    #[must_use]
    pub fn check(mut self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.checks.push((name, Box::new(check)));
        self
    }

    /// Asks all checks.
    #[must_use]
    pub fn report(&self) -> Report {
        let checks: Vec<_> =
            self.checks.iter().map(|(name, check)| CheckReport { name, failed: check().err() }).collect();
        Report { ready: checks.iter().all(|check| check.failed.is_none()), checks }
    }
}

impl Report {
    /// The same, with one more check.
    pub(crate) fn and(mut self, name: &'static str, failed: Option<String>) -> Self {
        self.ready &= failed.is_none();
        self.checks.push(CheckReport { name, failed });
        self
    }
}

/// As Kubernetes' own `/readyz` lists them.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for CheckReport { name, failed } in &self.checks {
            match failed {
                None => writeln!(f, "[+]{name} ok")?,
                Some(reason) => writeln!(f, "[-]{name} failed: {reason}")?,
            }
        }
        f.write_str(if self.ready { "ready\n" } else { "not ready\n" })
    }
}
