//! Checks licences, sources and known vulnerabilities of the dependencies, with `cargo deny` and `deny.toml`.
//!
//! `cargo deny` is built from source once and kept in a cache folder outside the checkout, one per version.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use tallyman_servers::cache;

use crate::process;

const VERSION: &str = "0.20.2";

/// What to do where `cargo deny` is not in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenMissing {
    /// Build it, which takes minutes.
    Install,
    /// Leave the check out and say so.
    Skip,
}

/// How the check went.
pub struct Checked {
    pub is_good: bool,
    /// What was left out, for the summary.
    pub remark: &'static str,
}

/// Runs the check.
pub fn check(when_missing: WhenMissing) -> Result<Checked> {
    let folder = cache::folder()?.join(format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin").join("cargo-deny");
    if !program.exists() {
        if when_missing == WhenMissing::Skip {
            return Ok(Checked {
                is_good: true,
                remark: "SKIPPED: cargo-deny is not installed; `cargo xtask lint` installs it",
            });
        }
        install(&folder)?;
    }
    let is_good = deny(&program, &["check", "bans", "licenses", "sources"])?;
    // The advisories are a Git repository on GitHub, which a machine that reaches nothing but package registries does
    // not get. The other three checks need no network, so they always hold; this one holds where it can be made.
    if !process::program(&program, ["fetch", "db"]).quiet().succeeds()? {
        return Ok(Checked { is_good, remark: "advisories SKIPPED: their database cannot be fetched from here" });
    }
    let has_no_advisory = deny(&program, &["check", "--disable-fetch", "advisories"])?;
    Ok(Checked { is_good: is_good && has_no_advisory, remark: "" })
}

fn deny(program: &Path, arguments: &[&str]) -> Result<bool> {
    process::program(program, arguments).succeeds()
}

fn install(folder: &Path) -> Result<()> {
    println!("installing cargo-deny {VERSION} into {}, once; this takes minutes", folder.display());
    // Its own target folder: it shares no build with the workspace. A quick build is worth more than a quick program.
    let target = folder.join("target");
    let installed = process::cargo(["install", "cargo-deny", "--version", VERSION, "--locked", "--debug", "--root"])
        .arguments([folder, Path::new("--target-dir"), &target])
        .succeeds()?;
    ensure!(installed, "cargo-deny {VERSION} could not be installed");
    std::fs::remove_dir_all(&target).with_context(|| target.display().to_string())
}
