//! A bare repository, served by `git daemon`, and the clone of somebody who commits and pushes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use tallyman_servers::debian::{self, Package};
use tallyman_servers::process::{end_of, spawn};
use tempfile::TempDir;

use crate::packaging::printed;
use crate::{PATIENCE, now};

const GIT: Package = Package { name: "git", sign: "git" };
const BRANCH: &str = "main";
/// The repository's folder of manifests. It holds something else, too, as Git knows no empty folders.
pub(super) const MANIFESTS: &str = "manifests";
const POLL: Duration = Duration::from_millis(50);

/// Served until it is dropped.
pub struct Repository {
    /// Where others clone it from.
    pub url: String,
    folder: TempDir,
    daemon: Child,
}

impl Repository {
    /// A new one. Its one commit holds no manifest.
    pub fn serve() -> Self {
        debian::install(&[GIT]).unwrap();
        let folder = TempDir::new().unwrap();
        let served = folder.path().join("served");
        let bare = served.join("counters.git");
        run(git(folder.path()).args(["init", "--quiet", "--bare", "--initial-branch", BRANCH]).arg(&bare));
        run(git(folder.path()).args(["clone", "--quiet"]).arg(&bare).arg("work"));
        let port = free_port();
        let programs = printed(git(folder.path()).arg("--exec-path"));
        // Not by `git daemon`, which is this program's parent and may end without it.
        let mut daemon = without_settings(Command::new(Path::new(programs.trim()).join("git-daemon")));
        daemon.args(["--export-all", "--reuseaddr", "--listen=127.0.0.1", &format!("--port={port}")]);
        daemon.arg(format!("--base-path={}", served.display())).arg(&served);
        let log = folder.path().join("daemon.log");
        let (daemon, pid) = spawn(&daemon, &log, false).unwrap();
        let repository = Self { url: format!("git://127.0.0.1:{port}/counters.git"), folder, daemon };
        repository.commit("README.md", "What we count.\n");
        let started = now();
        loop {
            let answer = git(repository.folder.path()).args(["ls-remote", &repository.url]).output().unwrap();
            if answer.status.success() {
                return repository;
            }
            let seen = String::from_utf8_lossy(&answer.stderr);
            let goes_on = pid.is_alive() && started.elapsed() < PATIENCE;
            assert!(goes_on, "the repository is not served: {seen}\n{}", end_of(&log));
            std::thread::sleep(POLL);
        }
    }

    /// Commits a file of the manifests' folder with this text, and pushes.
    pub fn commit(&self, file: &str, text: &str) {
        let folder = self.work().join(MANIFESTS);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(file), text).unwrap();
        self.push(&format!("Change {file}"));
    }

    /// Commits that there is no such file any more, and pushes.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.work().join(MANIFESTS).join(file)).unwrap();
        self.push(&format!("Remove {file}"));
    }

    /// Commits the opposite of the last commit, and pushes.
    pub fn revert(&self) {
        self.work_git(&["revert", "--no-edit", "HEAD"]);
        self.work_git(&["push", "--quiet", "origin", BRANCH]);
    }

    fn push(&self, message: &str) {
        self.work_git(&["add", "--all"]);
        self.work_git(&["commit", "--quiet", "--message", message]);
        self.work_git(&["push", "--quiet", "origin", BRANCH]);
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn work_git(&self, arguments: &[&str]) {
        run(git(&self.work()).args(arguments));
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Git in this folder.
pub(super) fn git(folder: &Path) -> Command {
    let mut git = without_settings(Command::new("git"));
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), "A developer");
        git.env(format!("GIT_{who}_EMAIL"), "developer@example.com");
    }
    git.current_dir(folder);
    git
}

/// Git, or what uses it, whatever its user has configured and whichever repository we were started from.
pub(super) fn without_settings(mut command: Command) -> Command {
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"] {
        command.env_remove(name);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    command
}

pub(super) fn run(command: &mut Command) {
    printed(command);
}

/// A loopback port that nobody has now.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
