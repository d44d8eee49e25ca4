//! The release before this one: the commit before this one, its charts and its images.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tallyman_servers::{Lock, cache};

use crate::packaging::{printed, root};

/// What it consists of.
const PROGRAMS: [&str; 3] = ["tallyman-operator", "tallyman-sidecar", "tallyman-rollup"];

/// Kept outside of the checkout until another commit's is asked for; nobody else asks while this is held.
pub struct Previous {
    home: PathBuf,
    _lock: Lock,
}

impl Previous {
    /// The names of its images: operator, sidecar, rollup server.
    pub const IMAGES: [&str; 3] = [
        "ghcr.io/tallyman/tallyman-operator:previous",
        "ghcr.io/tallyman/tallyman-sidecar:previous",
        "ghcr.io/tallyman/tallyman-rollup:previous",
    ];

    /// Checked out and built, where that is not done yet. Its dependencies are those that the tests were built with, as far as it has the same.
    pub fn built() -> Self {
        let all = cache::folder().unwrap().join("previous");
        let lock = Lock::take(&all).unwrap();
        let commit = commit();
        let previous = Self { home: all.join(&commit), _lock: lock };
        if !previous.home.is_dir() {
            if all.exists() {
                fs::remove_dir_all(&all).unwrap();
            }
            previous.build(&commit);
        }
        previous
    }

    fn build(&self, commit: &str) {
        let begun = self.home.with_extension("begun");
        let checkout = begun.join("checkout");
        // A clone rather than a worktree: nothing of it is left in the repository. Its files are younger than whatever cargo has built.
        printed(Command::new("git").args(["clone", "--quiet", "--shared", "--no-checkout"]).arg(root()).arg(&checkout));
        printed(Command::new("git").args(["checkout", "--quiet", "--detach", commit]).current_dir(&checkout));
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // Whatever else is being tested meanwhile goes first.
        let mut build = Command::new("nice");
        build.arg(cargo).args(["xtask", "images", "--tag", "previous", "--output", "json"]).current_dir(root());
        build.args(PROGRAMS.iter().flat_map(|program| ["--program", program]));
        build.arg("--checkout").arg(&checkout).arg("--out").arg(begun.join("images"));
        for image in printed(&mut build).lines() {
            let image: Value = serde_json::from_str(image).unwrap();
            assert!(Self::IMAGES.iter().any(|name| image["reference"] == *name), "{image}");
        }
        fs::remove_dir_all(checkout.join("target")).unwrap();
        // All of it or nothing.
        fs::rename(&begun, &self.home).unwrap();
    }

    /// The archives of its images.
    pub fn images(&self) -> [PathBuf; 3] {
        PROGRAMS.map(|program| self.home.join("images").join(format!("{program}.tar")))
    }

    /// A chart of its.
    pub fn chart(&self, name: &str) -> PathBuf {
        self.home.join("checkout/charts").join(name)
    }
}

fn commit() -> String {
    let mut git = Command::new("git");
    let output = git.args(["rev-parse", "--verify", "HEAD~1^{commit}"]).current_dir(root()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let hint =
        "an upgrade is tested from the commit before HEAD; in a shallow clone, `git fetch --unshallow` brings it";
    assert!(output.status.success(), "{hint}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
