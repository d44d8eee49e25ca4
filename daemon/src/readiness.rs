//! Whether this process can do its work: a list of named checks, asked whenever somebody wants to know.

use std::fmt;

use serde::Serialize;

/// One question: `Err` says what is missing. It is asked often and must not wait.
type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The checks of a process.
#[derive(Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Severity, Check)>,
}

/// What a failed check means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// The process cannot do its work.
    Failure,
    /// Somebody should look; the process works.
    Warning,
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
    /// What somebody should look at, though it keeps nothing from being ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
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
        self.checks.push((name, Severity::Failure, Box::new(check)));
        self
    }

    /// Adds a check that is shown when it fails, and leaves the process ready.
    #[must_use]
    pub fn warning(
        mut self,
        name: &'static str,
        check: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((name, Severity::Warning, Box::new(check)));
        self
    }

    /// Asks all checks.
    #[must_use]
    pub fn report(&self) -> Report {
        let ask = |(name, severity, check): &(&'static str, Severity, Check)| {
            let reason = check().err();
            match severity {
                Severity::Failure => CheckReport { name, failed: reason, warning: None },
                Severity::Warning => CheckReport { name, failed: None, warning: reason },
            }
        };
        let checks: Vec<_> = self.checks.iter().map(ask).collect();
        Report { ready: checks.iter().all(|check| check.failed.is_none()), checks }
    }
}

impl Report {
    /// The same, with one more check.
    #[must_use]
    pub fn and(mut self, name: &'static str, failed: Option<String>) -> Self {
        self.ready &= failed.is_none();
        self.checks.push(CheckReport { name, failed, warning: None });
        self
    }
}

/// As Kubernetes' own `/readyz` lists them.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for CheckReport { name, failed, warning } in &self.checks {
            match (failed, warning) {
                (Some(reason), _) => writeln!(f, "[-]{name} failed: {reason}")?,
                (None, Some(reason)) => writeln!(f, "[!]{name} warns: {reason}")?,
                (None, None) => writeln!(f, "[+]{name} ok")?,
            }
        }
        f.write_str(if self.ready { "ready\n" } else { "not ready\n" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_shown_and_leaves_the_process_ready() {
        let readiness =
            Readiness::new().check("store", || Ok(())).warning("configuration", || Err("a typo".to_owned()));
        let report = readiness.report();
        assert!(report.ready);
        assert_eq!(report.to_string(), "[+]store ok\n[!]configuration warns: a typo\nready\n");
        let report = readiness.check("clock", || Err("skewed".to_owned())).report();
        assert!(!report.ready);
        assert!(report.to_string().contains("[-]clock failed: skewed"));
    }
}
