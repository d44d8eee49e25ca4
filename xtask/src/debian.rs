//! Installs the Debian packages that tests and benchmarks need, where they are missing.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::process;

/// A package, and the program by which to tell that it is installed.
pub struct Package {
    pub name: &'static str,
    pub program: &'static str,
}

/// Installs those of the packages whose program is missing.
pub fn install(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> =
        packages.iter().filter(|package| !is_on_path(package.program)).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let wanted = missing.join(" ");
    ensure!(is_on_path("apt-get"), "{wanted}: not installed, and there is no apt-get here; install it yourself");
    eprintln!("installing {wanted}");
    let installed = apt_get(&["update", "-qq"])?
        && apt_get(&[&["install", "-qq", "-y", "--no-install-recommends"], &missing[..]].concat())?;
    ensure!(installed, "{wanted}: could not be installed; as root: apt-get install {wanted}");
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<bool> {
    process::program("apt-get", arguments).env("DEBIAN_FRONTEND", "noninteractive").output_to_stderr().succeeds()
}

/// Debian keeps servers in sbin folders, which are not on everybody's path.
fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| is_file(&folder.join(program)))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_on_the_path_only_when_there() {
        assert!(is_on_path("sh"));
        assert!(!is_on_path("no-such-program-here"));
    }

    #[test]
    fn nothing_is_installed_when_all_is_there() {
        install(&[Package { name: "no-such-package-here", program: "sh" }]).unwrap();
    }
}
