//! Argo CD's engine as a program of its own (`gitops`, its agent), and the clone that it follows.
//!
//! The agent reads the clone whenever it looks, and would take a file that a checkout has just removed for one to be pruned. So each
//! revision has a folder of its own, and a link leads to the current one, as with git-sync.
//!
//! It applies as Argo CD does by default, client-side: it names no field manager, without which the API server takes no server-side
//! apply, whatever annotations ask for.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tallyman_cluster::gitops_agent;
use tallyman_servers::Pid;
use tallyman_servers::process::{end_of, spawn};
use tempfile::TempDir;

use super::Repository;
use super::repository::{MANIFESTS, free_port, git, run, without_settings};
use crate::packaging::printed;

/// How often it looks, at the repository's clone and at the cluster.
const RESYNC_SECONDS: u8 = 2;
/// How lines of its log end a sync: by its outcome, or because there could be none.
const SUCCEEDED: &str = " -> Succeeded, message: ";
const ENDS: [&str; 4] =
    [SUCCEEDED, " -> Failed, message: ", "\"Failed to synchronize cluster state\"", "\"Failed to parse target state\""];

/// Runs until it is dropped.
pub struct Agent {
    folder: TempDir,
    process: Child,
    pid: Pid,
}

/// What became of a sync.
#[derive(Debug)]
pub struct Sync {
    /// Whether the cluster is as the repository says.
    pub succeeded: bool,
    /// What the agent had to say.
    pub log: String,
}

impl Agent {
    /// Begins to keep one Kubernetes namespace as the repository's manifests say. What they no longer name is pruned.
    pub fn follow(repository: &Repository, kubeconfig: &Path, namespace: &str) -> Self {
        let folder = TempDir::new().unwrap();
        run(git(folder.path()).args(["clone", "--quiet", "--no-checkout", &repository.url, "clone"]));
        check_out(folder.path());
        // It asks Git for the revision.
        let mut agent = without_settings(Command::new(gitops_agent().unwrap()));
        agent.arg(current(folder.path())).arg("--kubeconfig").arg(kubeconfig);
        agent.args(["--namespaced", "--default-namespace", namespace, "--path", MANIFESTS]);
        agent.args(["--resync-seconds", &RESYNC_SECONDS.to_string(), "--port", &free_port().to_string()]);
        let (process, pid) = spawn(&agent, &log(folder.path()), false).unwrap();
        Self { folder, process, pid }
    }

    /// Gets what was pushed. Returns the number of the first sync that surely begins after that.
    pub fn pull(&self) -> usize {
        check_out(self.folder.path());
        // One may be under way, and have read what was there before.
        self.syncs().len() + 1
    }

    /// A sync by its number, once it has ended; before that, the end of the log.
    pub fn sync(&self, number: usize) -> Result<Sync, String> {
        let mut syncs = self.syncs();
        if number < syncs.len() {
            return Ok(syncs.swap_remove(number));
        }
        let seen = end_of(&log(self.folder.path()));
        assert!(self.pid.is_alive(), "the agent has ended:\n{seen}");
        Err(format!("{} syncs have ended\n{seen}", syncs.len()))
    }

    /// All that have ended.
    fn syncs(&self) -> Vec<Sync> {
        let text = std::fs::read_to_string(log(self.folder.path())).unwrap();
        syncs(&text)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the agent's log ends so:\n{}", end_of(&log(self.folder.path())));
        }
    }
}

fn log(folder: &Path) -> PathBuf {
    folder.join("agent.log")
}

fn current(folder: &Path) -> PathBuf {
    folder.join("current")
}

/// Fetches, and has the link lead to the newest revision, at once for whoever reads through it.
fn check_out(folder: &Path) {
    let clone = folder.join("clone");
    run(git(&clone).args(["fetch", "--quiet", "origin"]));
    let revision = printed(git(&clone).args(["rev-parse", "origin/HEAD"]));
    let tree = folder.join(revision.trim());
    if !tree.exists() {
        run(git(&clone).args(["worktree", "add", "--quiet", "--detach"]).arg(&tree).arg(revision.trim()));
    }
    let link = folder.join("next");
    symlink(&tree, &link).unwrap();
    std::fs::rename(&link, current(folder)).unwrap();
}

fn syncs(log: &str) -> Vec<Sync> {
    let mut syncs = Vec::new();
    let mut lines = String::new();
    // A line without its end is still being written.
    for line in log.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        lines.push_str(line);
        if ENDS.iter().any(|end| line.contains(end)) {
            syncs.push(Sync { succeeded: line.contains(SUCCEEDED), log: std::mem::take(&mut lines) });
        }
    }
    syncs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_syncs_apart_and_what_became_of_them() {
        let log = "I main.go:174] \"Synchronization triggered by timer\"\n\
            I sync_context.go:929] \"Updating operation state. phase:  -> Running, message: '' -> 'one or more tasks are running'\"\n\
            I sync_context.go:929] \"Updating operation state. phase: Running -> Succeeded, message: 'a' -> 'b'\"\n\
            RESOURCE  RESULT\n\
            I main.go:174] \"Synchronization triggered by timer\"\n\
            I sync_context.go:929] \"Updating operation state. phase: Running -> Failed, message: 'a' -> 'b, reason: no'\"\n\
            RESOURCE  RESULT\n\
            E main.go:197] \"Failed to synchronize cluster state\" err=\"…\"\n\
            I sync_context.go:929] \"Updating operation state. phase: Running -> Succ";
        let syncs = syncs(log);
        assert_eq!(syncs.iter().map(|sync| sync.succeeded).collect::<Vec<_>>(), [true, false, false]);
        assert!(syncs[1].log.contains("reason: no"));
    }
}
