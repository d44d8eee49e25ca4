//! The images that `cargo xtask images` builds run, in a root that has nothing but what is in them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tallyman_e2e::packaging::{printed, root};

/// Builds all images into a folder.
fn build(folder: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["xtask", "images", "--out"]).arg(folder).current_dir(root());
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    printed(&mut build);
}

fn unpack(archive: &Path, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    printed(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(folder));
}

#[test]
#[ignore = "builds all programs, and needs root for chroot: cargo xtask test"]
fn every_image_runs_its_program_as_nobody_in_a_root_with_nothing_else_and_is_built_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    build(&first);
    build(&second);
    for name in ["tallyman-operator", "tallyman-sidecar", "tallyman-rollup"] {
        let file = format!("{name}.tar");
        assert!(
            std::fs::read(first.join(&file)).unwrap() == std::fs::read(second.join(&file)).unwrap(),
            "{name} differs"
        );
        let (image, root) = (folder.path().join(name), folder.path().join(format!("{name}-root")));
        unpack(&first.join(&file), &image);
        let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(image.join(name)).unwrap()).unwrap() };
        let manifest = read("manifest.json");
        assert!(manifest[0]["RepoTags"][0].as_str().unwrap().starts_with(&format!("ghcr.io/tallyman/{name}:")));
        let config = read(manifest[0]["Config"].as_str().unwrap());
        unpack(&image.join(manifest[0]["Layers"][0].as_str().unwrap()), &root);
        let mut chroot = Command::new("chroot");
        chroot.arg(format!("--userspec={}", config["config"]["User"].as_str().unwrap())).arg(&root);
        let printed = printed(chroot.arg(config["config"]["Entrypoint"][0].as_str().unwrap()).arg("--version"));
        assert!(printed.starts_with(name), "{printed}");
    }
}
