//! Whether this process can do its work: a list of named checks, asked whenever somebody wants to know.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

/// A question, or several whose number changes. It is asked often and must not wait.
type Ask = Box<dyn Fn() -> Vec<CheckReport> + Send + Sync>;

/// The checks of a process.
#[derive(Default)]
pub struct Readiness {
    asks: Vec<Ask>,
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
    pub name: Cow<'static, str>,
    /// Why it failed; absent where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What somebody should look at, though it keeps nothing from being ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl CheckReport {
    /// All is well.
    pub fn ok(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), failed: None, warning: None }
    }

    /// The process cannot do its work.
    pub fn failed(name: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self { failed: Some(reason.into()), ..Self::ok(name) }
    }

    /// Somebody should look; the process works.
    pub fn warning(name: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self { warning: Some(reason.into()), ..Self::ok(name) }
    }
}

impl Readiness {
    /// Without checks: always ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check; `Err` says what is missing. It is asked often and must not wait.
    #[must_use]
    pub fn check(self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.checks(move || {
            let failed = |reason| CheckReport::failed(name, reason);
            vec![check().map_or_else(failed, |()| CheckReport::ok(name))]
        })
    }

    /// Adds a check that is shown when it fails, and leaves the process ready.
    #[must_use]
    pub fn warning(self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.checks(move || {
            let warning = |reason| CheckReport::warning(name, reason);
            vec![check().map_or_else(warning, |()| CheckReport::ok(name))]
        })
    }

    /// Adds checks whose number and names change. They are asked often and must not wait.
    #[must_use]
    pub fn checks(mut self, ask: impl Fn() -> Vec<CheckReport> + Send + Sync + 'static) -> Self {
        self.asks.push(Box::new(ask));
        self
    }

    /// Asks all checks.
    #[must_use]
    pub fn report(&self) -> Report {
        let checks: Vec<_> = self.asks.iter().flat_map(|ask| ask()).collect();
        Report { ready: checks.iter().all(|check| check.failed.is_none()), checks }
    }
}

impl Report {
    /// The same, with one more check.
    #[must_use]
    pub fn and(mut self, name: &'static str, failed: Option<String>) -> Self {
        self.ready &= failed.is_none();
        self.checks.push(CheckReport { failed, ..CheckReport::ok(name) });
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
    use std::sync::{Arc, Mutex};

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

    #[test]
    fn checks_that_come_and_go_are_asked_for_each_time() {
        let names = Arc::new(Mutex::new(vec!["a"]));
        let asked = names.clone();
        let readiness = Readiness::new().checks(move || {
            asked.lock().unwrap().iter().map(|name| CheckReport::failed(format!("namespace {name}"), "gone")).collect()
        });
        assert_eq!(readiness.report().to_string(), "[-]namespace a failed: gone\nnot ready\n");
        names.lock().unwrap().clear();
        assert!(readiness.report().ready);
    }
}
