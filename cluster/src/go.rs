//! Builds programs written in Go, and gets a Go where there is none that is new enough.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tallyman_servers::debian::{self, Package};
use tallyman_servers::process::{last_lines, run};
use tallyman_servers::progress::Task;
use tallyman_servers::{Lock, cache};

use crate::error::{Error, Result};

/// What the newest of our programs needs, major and minor.
const NEEDED: (u32, u32) = (1, 26);
/// The Go that is fetched where it is missing.
const FETCHED: &str = "1.26.8";
/// By architecture as Rust names it: as Go names it, and the SHA-256 of the toolchain's archive.
const ARCHIVES: [(&str, &str, &str); 2] = [
    ("x86_64", "amd64", "30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7"),
    ("aarch64", "arm64", "02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99"),
];
const CURL: Package = Package { name: "curl", sign: "curl" };
const CERTIFICATES: Package = Package { name: "ca-certificates", sign: "/etc/ssl/certs/ca-certificates.crt" };
const UNZIP: Package = Package { name: "unzip", sign: "unzip" };

/// A program, and what it is built from.
pub(crate) enum Source<'a> {
    /// Files of a module, by name. It has its `go.sum`, so that every build is of the same code.
    Module(&'a [(&'a str, &'a str)]),
    /// A package that a module of ours requires, at the versions and sums that the module has.
    Dependency {
        /// `go.mod` and `go.sum`.
        module: &'a [(&'a str, &'a str)],
        /// The package's path.
        package: &'a str,
    },
    /// A folder that is a module of its own.
    Folder(&'a Path),
    /// A package of somebody else's module, `path@version`.
    Package(&'a str),
}

/// Builds `program` into the folder `bin`, with the settings `-X …` of its linker.
pub(crate) fn build(program: &str, source: &Source<'_>, settings: &str, bin: &Path, what: &str) -> Result<()> {
    let go = go()?;
    // What else goes on meanwhile, such as tests and builds of what is tested sooner, goes first.
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(&go);
    // A user's settings must not change what is built, nor whether.
    command.env("GOFLAGS", "").env("GOWORK", "off").env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
    let flags = ["-v", "-trimpath", "-buildvcs=false", "-ldflags", &format!("-s -w {settings}")].map(str::to_owned);
    fs::create_dir_all(bin).map_err(Error::file(bin))?;
    match source {
        Source::Module(files) | Source::Dependency { module: files, .. } => {
            let folder = bin.with_file_name("source");
            fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
            for (name, text) in *files {
                let path = folder.join(name);
                fs::write(&path, text).map_err(Error::file(&path))?;
            }
            command.arg("build").args(flags).arg("-mod=readonly").arg("-o").arg(bin.join(program)).current_dir(&folder);
            if let Source::Dependency { package, .. } = source {
                command.arg(package);
            }
        }
        Source::Folder(folder) => {
            command.arg("build").args(flags).arg("-mod=readonly").arg("-o").arg(bin.join(program)).current_dir(folder);
        }
        Source::Package(package) => {
            command.arg("install").args(flags).arg(package).env("GOBIN", bin);
        }
    }
    with_progress(command, what)
}

/// Builds the program of a folder that is a Go module of its own into the folder `bin`, an absolute path; the program's file. It is linked
/// statically. What has not changed since it was built last is not built again.
///
/// # Errors
/// Whatever keeps it from being built.
pub fn go_program(module: &Path, bin: &Path) -> Result<PathBuf> {
    let program = module.file_name().unwrap_or_default().to_string_lossy();
    build(&program, &Source::Folder(module), "", bin, &format!("building {} with Go", module.display()))?;
    Ok(bin.join(&*program))
}

/// Go names on its error stream the modules that it downloads and the packages that it compiles.
fn with_progress(mut command: Command, what: &str) -> Result<()> {
    let mut task = Task::begin(what);
    let failed = |source| tallyman_servers::Error::Program { program: "go".to_owned(), source };
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let mut printed = String::new();
    for line in child.stderr.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(failed)?;
        task.step("modules and packages");
        printed.push_str(&line);
        printed.push('\n');
    }
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        let output = last_lines(&printed);
        return Err(tallyman_servers::Error::Failed { what: what.to_owned(), status, output }.into());
    }
    task.done();
    Ok(())
}

/// A Go that is new enough: on the path, where its makers install it, or our own.
fn go() -> Result<PathBuf> {
    let candidates = debian::find("go").into_iter().chain(["/usr/local/go/bin/go".into()]);
    for go in candidates.filter(|go: &PathBuf| go.is_file()) {
        let output = Command::new(&go).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output();
        let failed = |source| tallyman_servers::Error::Program { program: go.display().to_string(), source };
        if is_new_enough(&String::from_utf8_lossy(&output.map_err(failed)?.stdout)) {
            return Ok(go);
        }
    }
    fetched()
}

/// Reads what `go env GOVERSION` prints: `go1.26.8`.
fn is_new_enough(printed: &str) -> bool {
    let mut numbers = printed.trim().trim_start_matches("go").split(['.', 'r', 'b', '-', ' ']);
    let mut number = || numbers.next()?.parse::<u32>().ok();
    matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) >= NEEDED)
}

/// Our own Go, from the Go module proxy, which has what is built with it, too.
fn fetched() -> Result<PathBuf> {
    let cache = cache::folder()?;
    let home = cache.join(format!("go-{FETCHED}"));
    let go = home.join("bin").join("go");
    let _lock = Lock::take(&home)?;
    if go.is_file() {
        return Ok(go);
    }
    let architecture = std::env::consts::ARCH;
    let Some((_, name, digest)) = ARCHIVES.iter().find(|(rust, ..)| *rust == architecture) else {
        let (major, minor) = NEEDED;
        let text =
            format!("go: not installed, and we know of none for {architecture}; install Go {major}.{minor} or later");
        return Err(tallyman_servers::Error::Missing(text).into());
    };
    debian::install(&[CURL, CERTIFICATES, UNZIP])?;
    let begun = cache.join(format!("go-{FETCHED}.begun"));
    remove(&begun)?;
    fs::create_dir_all(&begun).map_err(Error::file(&begun))?;
    let module = format!("golang.org/toolchain@v0.0.1-go{FETCHED}.linux-{name}");
    let url = format!("https://proxy.golang.org/{}.zip", module.replace('@', "/@v/"));
    let task = Task::begin(format!("fetching Go {FETCHED}, once (70 MB)"));
    let step = |what: &str, program: &str, arguments: &[&str]| {
        run(what, Command::new(program).args(arguments).current_dir(&begun))
    };
    step("fetching Go", "curl", &["--fail", "--silent", "--show-error", "--location", "--output", "go.zip", &url])?;
    let checked = format!("echo '{digest}  go.zip' | sha256sum --check --status");
    step("checking what was fetched as Go", "sh", &["-c", &checked])?;
    step("unpacking Go", "unzip", &["-q", "go.zip"])?;
    // Archives of modules know neither programs nor modules within modules.
    let mended = "chmod -R +x bin pkg/tool && find . -name _go.mod -execdir mv {} go.mod ';'";
    run("unpacking Go", Command::new("sh").args(["-c", mended]).current_dir(begun.join(&module)))?;
    fs::rename(begun.join(&module), &home).map_err(Error::file(&home))?;
    remove(&begun)?;
    task.done();
    Ok(go)
}

/// Removes a folder if it is there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file(folder)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_go_that_can_build_our_programs_is_taken() {
        assert!(is_new_enough("go1.26.8\n"));
        assert!(is_new_enough("go1.26\n"));
        assert!(is_new_enough("go1.27rc1\n"));
        assert!(is_new_enough("go2.0\n"));
        assert!(is_new_enough(&format!("go{FETCHED}")));
        assert!(!is_new_enough("go1.19.8"));
        assert!(!is_new_enough(""));
        assert!(!is_new_enough("devel +abc"));
    }

    #[test]
    #[ignore = "fetches Go: cargo xtask test"]
    fn a_go_of_our_own_is_fetched_and_builds_programs() {
        let go = fetched().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("main.go"), "package main\nfunc main() { println(\"well\") }\n").unwrap();
        let mut command = Command::new(go);
        command.args(["run", "main.go"]).current_dir(folder.path()).env("GOTOOLCHAIN", "local").env("GOFLAGS", "");
        let output = command.env("CGO_ENABLED", "0").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "well\n");
    }
}
