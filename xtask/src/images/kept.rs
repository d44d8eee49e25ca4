//! Tars that take long to make, kept in the cache folder as layers of images.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use tallyman_servers::debian::{self, Package};
use tallyman_servers::process::run;
use tallyman_servers::progress::Task;
use tallyman_servers::{Lock, cache};
use tar::Builder;

use super::archive::{self, Layer};

const MMDEBSTRAP: Package = Package { name: "mmdebstrap", sign: "mmdebstrap" };
const KEYRING: Package =
    Package { name: "debian-archive-keyring", sign: "/usr/share/keyrings/debian-archive-keyring.gpg" };
/// That of `images/Dockerfile`.
const SUITE: &str = "bookworm";
/// What is of no use in a container, or is this machine's.
const EXCLUDED: [&str; 9] = [
    "/etc/apt/*",
    "/etc/fstab",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/var/cache/*",
    "/var/lib/*",
];

/// A root of these Debian packages and all that they depend on, unpacked and not configured: no scripts of theirs run. The shell command
/// `hook` changes the root, whose folder is `$1`. A root is kept until it is made otherwise: newer packages come with an empty cache.
pub fn debian_root(packages: &str, hook: &str) -> Result<Layer> {
    let made_of = [SUITE, packages, hook, &EXCLUDED.join(" ")].join("\n");
    let last = packages.split(',').next_back().unwrap_or(packages);
    let what = format!("unpacking {last} and what it needs from Debian, once");
    layer(&format!("debian-{last}-{}", short(&made_of)), &what, |tar| {
        debian::install(&[MMDEBSTRAP, KEYRING])?;
        let all = tar.with_extension("all");
        let mut bootstrap = Command::new("mmdebstrap");
        bootstrap.args(["--quiet", "--variant=extract", "--format=tar", "--skip=output/dev"]);
        bootstrap.arg(format!("--include={packages}")).arg(format!("--extract-hook={hook}")).arg(SUITE).arg(&all);
        // The time of all files.
        run("mmdebstrap", bootstrap.env("SOURCE_DATE_EPOCH", "0"))?;
        let mut filter = Command::new("mmtarfilter");
        filter.args(EXCLUDED.map(|path| format!("--path-exclude={path}")));
        let opened = File::open(&all).with_context(|| all.display().to_string())?;
        let kept = File::create(tar).with_context(|| tar.display().to_string())?;
        let status = filter.stdin(opened).stdout(kept).stderr(Stdio::inherit()).status();
        let status = status.context("cannot run mmtarfilter")?;
        anyhow::ensure!(status.success(), "mmtarfilter ended with {status}");
        fs::remove_file(&all).with_context(|| all.display().to_string())
    })
}

/// A folder's files below another path. `version` is changed whenever they are.
pub fn folder(version: &str, folder: &Path, to: &Path) -> Result<Layer> {
    layer(version, &format!("packing {version}, once"), |tar| {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            paths.push(entry?.path());
        }
        paths.sort();
        let file = File::create(tar).with_context(|| tar.display().to_string())?;
        let mut archive = Builder::new(BufWriter::new(file));
        for path in paths {
            let name = path.file_name().with_context(|| path.display().to_string())?;
            archive::append_file(&mut archive, &to.join(name), &path)?;
        }
        Ok(archive.into_inner()?.into_inner()?.sync_all()?)
    })
}

/// The tar of this name, made where it is not there yet.
fn layer(name: &str, what: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Layer> {
    let cache = cache::folder()?;
    let home = cache.join(format!("layer-{name}"));
    let (path, digest) = (home.join("layer.tar"), home.join("sha256"));
    // Two runs at once must not make the same.
    let _lock = Lock::take(&home)?;
    if !home.is_dir() {
        let task = Task::begin(what);
        let begun = cache.join(format!("layer-{name}.begun"));
        if begun.exists() {
            fs::remove_dir_all(&begun).with_context(|| begun.display().to_string())?;
        }
        fs::create_dir_all(&begun).with_context(|| begun.display().to_string())?;
        let tar = begun.join("layer.tar");
        make(&tar)?;
        let sha256 = archive::sha256_of_file(&tar)?;
        fs::write(begun.join("sha256"), sha256).with_context(|| begun.display().to_string())?;
        // All of it or nothing.
        fs::rename(&begun, &home).with_context(|| home.display().to_string())?;
        task.done();
    }
    let digest = fs::read_to_string(&digest).with_context(|| digest.display().to_string())?;
    Ok(Layer::Tar { path, digest })
}

/// Enough of a digest to tell one from another.
fn short(made_of: &str) -> String {
    archive::sha256(made_of.as_bytes()).chars().take(16).collect()
}
