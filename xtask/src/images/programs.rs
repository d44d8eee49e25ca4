//! The programs that images carry, built.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process;

/// Builds programs of this checkout, or of another one; their files.
pub fn build(names: &[String], is_release: bool, checkout: Option<&Path>) -> Result<Vec<PathBuf>> {
    let mut arguments = ["build", "--message-format", "json-render-diagnostics", "--bins"].map(str::to_owned).to_vec();
    arguments.extend(names.iter().flat_map(|name| ["-p".to_owned(), name.clone()]));
    if is_release {
        arguments.push("--release".to_owned());
    }
    let messages = match checkout {
        Some(checkout) => beside(checkout, arguments)?.output()?,
        None => process::cargo(arguments).output()?,
    };
    let mut programs = Vec::new();
    for message in messages.lines() {
        let message: Value = serde_json::from_str(message).context("a message of cargo")?;
        let target = message["target"]["name"].as_str().unwrap_or_default();
        if let Some(file) = message["executable"].as_str().filter(|_| names.iter().any(|name| name == target)) {
            programs.push(PathBuf::from(file));
        }
    }
    anyhow::ensure!(programs.len() == names.len(), "cargo built {programs:?} where {names:?} were asked for");
    Ok(programs)
}

/// A build of another checkout in our target folder, where the dependencies are that both have, with its programs in a folder of its own.
///
/// cargo knows crates of a workspace by their paths in it: it would take those of two checkouts for the same, and one for the other where
/// its files are older. A setting of their profile tells them apart. It means nothing to libraries, and makes small images of the programs.
fn beside(checkout: &Path, mut arguments: Vec<String>) -> Result<process::Process> {
    let checkout = checkout.canonicalize().with_context(|| checkout.display().to_string())?;
    let metadata = process::cargo(["metadata", "--no-deps", "--format-version", "1"]).folder(&checkout).output()?;
    let metadata: Value = serde_json::from_str(&metadata).context("what cargo says of the other checkout")?;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().context("a package without a name")?;
        arguments.extend(["--config".to_owned(), format!("profile.dev.package.{name}.strip='symbols'")]);
    }
    // TARGET/debug/xtask
    let program = std::env::current_exe().context("where this program is")?;
    let target = program.ancestors().nth(2).context("this program is in no target folder")?;
    let build = process::cargo(arguments).folder(&checkout).env("CARGO_BUILD_BUILD_DIR", target);
    Ok(build.env("CARGO_TARGET_DIR", checkout.join("target")))
}
