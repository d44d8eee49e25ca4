//! `kubectl` and `helm` as the cluster's administrator.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tallyman_cluster::{Place, Version, bin_folders, status};
use tallyman_servers::process::last_lines;

pub struct Tools {
    kubectl: PathBuf,
    helm: PathBuf,
    kubeconfig: PathBuf,
}

impl Tools {
    /// Those of the cluster that runs in a place; built where that is not done yet.
    pub fn of(place: &Place, version: Version) -> Result<Self> {
        let (kubeconfig, _) = status(place)?.kubeconfig().context("the cluster has ended")?;
        let [kubernetes, helm] = bin_folders(version)?;
        Ok(Self { kubectl: kubernetes.join("kubectl"), helm: helm.join("helm"), kubeconfig })
    }

    /// What kubectl prints; an error with what it complains of.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run(&self.kubectl, arguments)
    }

    /// What helm prints; an error with what it complains of.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        self.run(&self.helm, arguments)
    }

    /// Objects as kubectl lists them.
    pub fn list(&self, what: &[&str]) -> Result<Vec<Value>> {
        let text = self.kubectl(&[&["get", "--output", "json"], what].concat())?;
        let mut list: Value = serde_json::from_str(&text).context("a list of kubectl")?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            other => bail!("a list of kubectl: its items are {other}"),
        }
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let folder = self.kubeconfig.parent().unwrap_or(Path::new("."));
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).env("KUBECONFIG", &self.kubeconfig);
        // Not the user's: what it remembers of this address may be of a cluster that had other types.
        command.env("KUBECACHEDIR", folder.join("kubectl-cache"));
        let output = command.output().with_context(|| format!("cannot run {}", program.display()))?;
        if !output.status.success() {
            let complaint = last_lines(&String::from_utf8_lossy(&output.stderr));
            bail!("{}", complaint.strip_prefix("error: ").unwrap_or(&complaint));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
