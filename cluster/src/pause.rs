//! The image of the process that holds a pod's namespaces: ten lines of C, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tallyman_servers::process::run;
use tallyman_servers::{Lock, cache};

use crate::error::{Error, Result};
use crate::go::remove;
use crate::install::digest;
use crate::node::PAUSE_IMAGE;

const SOURCE: &str = include_str!("../pause/pause.c");

/// A docker-archive of the image; made where that is not done yet.
pub(crate) fn image() -> Result<PathBuf> {
    let cache = cache::folder()?;
    let name = format!("pause-{:016x}", digest(&[("pause.c", SOURCE), ("name", PAUSE_IMAGE)]));
    let home = cache.join(&name);
    let archive = home.join("pause.tar");
    let _lock = Lock::take(&home)?;
    if !archive.is_file() {
        let begun = cache.join(format!("{name}.begun"));
        remove(&begun)?;
        fs::create_dir_all(&begun).map_err(Error::file(&begun))?;
        make(&begun)?;
        fs::rename(&begun, &home).map_err(Error::file(&home))?;
    }
    Ok(archive)
}

fn make(folder: &Path) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::file(&path))
    };
    let step = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        run("making the image of pause", command.args(arguments).current_dir(folder))
    };
    write("pause.c", SOURCE)?;
    step("cc", &["-Os", "-static", "-s", "-o", "pause", "pause.c"])?;
    let tar = ["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", "--create", "--file"];
    step("tar", &[&tar[..], &["layer.tar", "pause"]].concat())?;
    let digest = Command::new("sha256sum").arg(folder.join("layer.tar")).output().map_err(Error::file(folder))?;
    let digest = String::from_utf8_lossy(&digest.stdout).split_whitespace().next().unwrap_or_default().to_owned();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    write("config.json", &config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]);
    write("manifest.json", &manifest.to_string())?;
    Ok(step("tar", &[&tar[..], &["pause.tar", "manifest.json", "config.json", "layer.tar"]].concat())?)
}
