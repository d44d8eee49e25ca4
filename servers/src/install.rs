//! What servers are made of: Debian packages, a Java, and Cassandra's jars from Maven's repository, all got on first use.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cache;
use crate::cassandra::{AGENT, JVM_OPTIONS, LOGBACK};
use crate::debian::{self, Package};
use crate::error::{Error, Result};
use crate::process::last_lines;
use crate::progress::Task;

/// The Cassandra that is installed.
pub(crate) const CASSANDRA_VERSION: &str = "5.0.2";
/// The Java that it runs on; 17 is the newest that Cassandra 5.0 supports.
const JAVA_VERSION: &str = "17";
/// Its sign is never there: whether it is wanted, [`java`] has found out.
const JAVA_PACKAGE: Package = Package { name: "openjdk-17-jre-headless", sign: "/no-sign" };
const MAVEN: Package = Package { name: "maven", sign: "mvn" };
const MEMCACHED: Package = Package { name: "memcached", sign: "memcached" };

/// An installed Cassandra.
#[derive(Debug, Clone)]
pub(crate) struct Cassandra {
    /// The program `java`.
    pub java: PathBuf,
    /// Folder of the jars.
    pub lib: PathBuf,
}

/// What an image of Cassandra is made of, beside a Java 17.
#[derive(Debug, Clone)]
pub struct CassandraParts {
    /// Its version.
    pub version: &'static str,
    /// Folder of its jars.
    pub lib: PathBuf,
    /// The jar among them that its JVM has as an agent.
    pub agent: &'static str,
    /// Further options of its JVM.
    pub jvm_options: &'static [&'static str],
    /// A `logback.xml` for the class path.
    pub logback: &'static str,
}

/// The parts of an installed Cassandra; its jars are fetched on first use.
///
/// # Errors
/// Whatever keeps them from being fetched.
pub fn cassandra_parts() -> Result<CassandraParts> {
    let lib = jars()?;
    Ok(CassandraParts { version: CASSANDRA_VERSION, lib, agent: AGENT, jvm_options: JVM_OPTIONS, logback: LOGBACK })
}

/// Finds or installs memcached.
pub(crate) fn memcached() -> Result<PathBuf> {
    debian::install(&[MEMCACHED])?;
    debian::find(MEMCACHED.sign).ok_or_else(|| Error::Missing("memcached was installed and is not found".to_owned()))
}

/// Finds or installs Cassandra and its Java.
pub(crate) fn cassandra() -> Result<Cassandra> {
    let java = match java()? {
        Some(java) => java,
        None => {
            debian::install(&[JAVA_PACKAGE])?;
            let missing = || Error::Missing(format!("{} was installed and no Java 17 is found", JAVA_PACKAGE.name));
            java()?.ok_or_else(missing)?
        }
    };
    Ok(Cassandra { java, lib: jars()? })
}

/// A Java of the right version: where `JAVA_HOME` says, on the path, or where Debian keeps them side by side.
fn java() -> Result<Option<PathBuf>> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin").join("java"));
    let debian = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let debian = debian.map(|entry| entry.path().join("bin").join("java"));
    let candidates = home.into_iter().chain(debian::find("java")).chain(debian);
    for java in candidates.filter(|java| java.is_file()) {
        let output = Command::new(&java).arg("-version").stdin(Stdio::null()).output();
        let output = output.map_err(|source| Error::Program { program: java.display().to_string(), source })?;
        if is_right_version(&String::from_utf8_lossy(&output.stderr)) {
            return Ok(Some(java));
        }
    }
    Ok(None)
}

/// Reads what `java -version` prints: `openjdk version "17.0.15" 2025-04-15`.
fn is_right_version(printed: &str) -> bool {
    let version = printed.split('"').nth(1).unwrap_or_default();
    version.split(['.', '-', '+']).next() == Some(JAVA_VERSION)
}

/// The folder of Cassandra's jars, in the cache under its version.
fn jars() -> Result<PathBuf> {
    let cache = cache::folder()?;
    fs::create_dir_all(&cache).map_err(Error::file(&cache))?;
    let home = cache.join(format!("cassandra-{CASSANDRA_VERSION}"));
    let lib = home.join("lib");
    if lib.is_dir() {
        return Ok(lib);
    }
    // Two runs at once must not fetch into each other.
    let lock = cache.join("cassandra.lock");
    let lock_file = File::create(&lock).map_err(Error::file(&lock))?;
    lock_file.lock().map_err(Error::file(&lock))?;
    if !lib.is_dir() {
        debian::install(&[MAVEN])?;
        let begun = cache.join(format!("cassandra-{CASSANDRA_VERSION}.begun"));
        if begun.exists() {
            fs::remove_dir_all(&begun).map_err(Error::file(&begun))?;
        }
        fs::create_dir_all(&begun).map_err(Error::file(&begun))?;
        fetch(&begun)?;
        // All of it or nothing.
        fs::rename(&begun, &home).map_err(Error::file(&home))?;
    }
    Ok(lib)
}

fn fetch(folder: &Path) -> Result<()> {
    let pom = folder.join("pom.xml");
    let text = format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>dev.tallyman</groupId><artifactId>servers</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId><version>{CASSANDRA_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"#
    );
    fs::write(&pom, text).map_err(Error::file(&pom))?;
    let mut task = Task::begin(format!("fetching Apache Cassandra {CASSANDRA_VERSION} with Maven, once (64 MB)"));
    let failed = |source| Error::Program { program: "mvn".to_owned(), source };
    let mut maven = Command::new("mvn")
        .args(["--batch-mode", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut printed = String::new();
    for line in maven.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(failed)?;
        if line.contains("Downloaded from") {
            task.step("files");
        }
        printed.push_str(&line);
        printed.push('\n');
    }
    let status = maven.wait().map_err(failed)?;
    if !status.success() {
        return Err(Error::Failed { what: "mvn".to_owned(), status, output: last_lines(&printed) });
    }
    task.done();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_java_is_taken() {
        assert!(is_right_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"));
        assert!(is_right_version("openjdk version \"17\" 2021-09-14"));
        assert!(!is_right_version("openjdk version \"21.0.1\" 2023-10-17"));
        assert!(!is_right_version("openjdk version \"1.8.0_17\""));
        assert!(!is_right_version("no java here"));
    }
}
