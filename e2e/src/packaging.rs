//! What the tests of charts, examples and documents share: the files of this checkout, and the tools that people use them with.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tallyman_cluster::{Cluster, Version, bin_folders};

/// The root of the checkout that runs, which is not always the one that was compiled: they may share a target folder.
pub fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.join("..").canonicalize().unwrap()
}

/// The text of a file, by its path from the root.
pub fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a YAML text; empty ones are left out.
pub fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// A program that runs at the root and finds `kubectl` and `helm`, which are built first where that is not done yet.
pub fn tool(name: &str) -> Command {
    let folders = bin_folders(Version::default()).unwrap();
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&rest))).unwrap();
    // Looked up in our path, not in the one that the program gets.
    let program = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    let mut command = Command::new(program.unwrap_or_else(|| panic!("there is no {name}")));
    command.current_dir(root()).env("PATH", path).env_remove("KUBECONFIG");
    command
}

/// A tool as the administrator of a cluster.
pub fn on(cluster: &Cluster, name: &str) -> Command {
    let mut command = tool(name);
    let kubeconfig = cluster.kubeconfig();
    // Not the user's: what it remembers of this address may be of a cluster that had other types.
    command.env("KUBECACHEDIR", kubeconfig.with_file_name("kubectl-cache"));
    command.env("KUBECONFIG", kubeconfig);
    command
}

/// What a command that must end well prints.
pub fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{}{error}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that must fail complains of.
pub fn complaint(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} went well:\n{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}
