//! What others take an object's health for, by their own code.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::install;

/// The judges' program.
#[derive(Debug, Clone)]
pub struct Judge(PathBuf);

/// What a judge says of one object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// kstatus: `Current`, `InProgress`, `Failed`, `Terminating`, `NotFound`, `Unknown`. Argo CD: `Healthy`, `Progressing`, `Degraded`,
    /// `Suspended`, `Missing`, `Unknown`.
    #[serde(alias = "kstatus", alias = "argo")]
    pub health: String,
    /// Why, for people.
    pub message: String,
}

impl Judge {
    /// Finds the program, or builds it.
    ///
    /// # Errors
    /// Whatever keeps it from being built.
    pub fn new() -> Result<Self> {
        Ok(Self(install::judge()?))
    }

    /// What kstatus, and so Flux, says of each object, as the API server gives it.
    ///
    /// # Errors
    /// Where something is no object.
    pub fn kstatus<T: Serialize>(&self, objects: &[T]) -> Result<Vec<Verdict>> {
        self.ask(&[OsStr::new("kstatus")], objects)
    }

    /// What Argo CD says of each object by the health check in this file, written in Lua.
    ///
    /// # Errors
    /// Where something is no object, or the script fails.
    pub fn argo<T: Serialize>(&self, script: &Path, objects: &[T]) -> Result<Vec<Verdict>> {
        self.ask(&["argo".as_ref(), "--lua".as_ref(), script.as_os_str()], objects)
    }

    /// What Argo CD says of each object of a kind that it knows itself.
    ///
    /// # Errors
    /// Where something is no object, or of another kind.
    pub fn argo_built_in<T: Serialize>(&self, objects: &[T]) -> Result<Vec<Verdict>> {
        self.ask(&[OsStr::new("argo")], objects)
    }

    fn ask<T: Serialize>(&self, arguments: &[&OsStr], objects: &[T]) -> Result<Vec<Verdict>> {
        let mut input = Vec::new();
        for object in objects {
            serde_json::to_writer(&mut input, object).map_err(Error::answer("an object for the judge", ""))?;
            input.push(b'\n');
        }
        let failed = |source| tallyman_servers::Error::Program { program: "judge".to_owned(), source };
        let mut command = Command::new(&self.0);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let stdin = child.stdin.take();
        // It answers while it reads; somebody has to take the answers meanwhile.
        let writer = std::thread::spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(&input)));
        let output = child.wait_with_output().map_err(failed)?;
        let written = writer.join();
        if !output.status.success() {
            let (what, output_end) = ("judge".to_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
            return Err(tallyman_servers::Error::Failed { what, status: output.status, output: output_end }.into());
        }
        // A judge that succeeded has read all, and the thread does not panic.
        written.unwrap_or(Ok(())).map_err(failed)?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().map(|line| serde_json::from_str(line).map_err(Error::answer("judge", line))).collect()
    }
}
