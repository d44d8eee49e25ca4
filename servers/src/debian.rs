//! Installs the Debian packages that tests, benchmarks and servers need, where they are missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cache;
use crate::error::{Error, Result};
use crate::state::Lock;

/// A package, and a file by which to tell that it is installed.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// A program on the path, or a file if it begins with a slash.
    pub sign: &'static str,
}

/// Installs those of the packages that are missing. Whoever installs some at the same time waits, and finds what this call has installed.
///
/// # Errors
/// [`Error::Missing`] where they cannot be installed.
pub fn install(packages: &[Package]) -> Result<()> {
    install_by(apt_get, packages, &cache::folder()?.join("debian-packages"))
}

fn install_by(apt_get: impl Fn(&[&str]) -> Result<bool>, packages: &[Package], place: &Path) -> Result<()> {
    // Before looking: a file is there before its package and what that needs are all set up.
    let _lock = Lock::take(place)?;
    let missing: Vec<&str> =
        packages.iter().filter(|package| !is_there(package.sign)).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    if find("apt-get").is_none() {
        return Err(Error::Missing(format!(
            "{wanted}: not installed, and there is no apt-get here; install it yourself"
        )));
    }
    eprintln!("installing {wanted}");
    let installed = apt_get(&["update", "-qq"])?
        && apt_get(&[&["install", "-qq", "-y", "--no-install-recommends", "--no-remove"], &missing[..]].concat())?;
    if installed {
        return Ok(());
    }
    Err(Error::Missing(format!("{wanted}: could not be installed; as root: apt-get install {wanted}")))
}

fn apt_get(arguments: &[&str]) -> Result<bool> {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    // Standard output stays free for results.
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    let status = status.map_err(|source| Error::Program { program: "apt-get".to_owned(), source })?;
    Ok(status.success())
}

fn is_there(sign: &str) -> bool {
    if sign.starts_with('/') { is_file(sign.as_ref()) } else { find(sign).is_some() }
}

/// A program's path. Debian keeps servers in sbin folders, which are not on everybody's path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| is_file(path))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn programs_and_files_are_found_only_when_there() {
        assert!(is_there("sh"));
        assert!(is_there("/bin/sh"));
        assert!(!is_there("no-such-program-here"));
        assert!(!is_there("/no-such-file-here"));
    }

    #[test]
    fn nothing_is_installed_when_all_is_there() {
        install(&[Package { name: "no-such-package-here", sign: "sh" }]).unwrap();
    }

    #[test]
    fn one_at_a_time_installs_packages() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("packages");
        let called = AtomicU32::new(0);
        let apt_get = |_: &[&str]| {
            called.fetch_add(1, Ordering::Relaxed);
            let lock = std::fs::File::open(folder.path().join("packages.lock")).unwrap();
            assert!(lock.try_lock().is_err(), "another could install some, too");
            Ok(true)
        };
        let packages = [Package { name: "no-such-package-here", sign: "/no-such-file-here" }];
        install_by(apt_get, &packages, &place).unwrap();
        assert_eq!(called.into_inner(), 2, "update and install");
    }
}
