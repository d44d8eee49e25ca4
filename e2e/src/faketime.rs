//! Clocks of processes, set wrong by libfaketime.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tallyman_servers::debian::{self, Package};

const FAKETIME: Package = Package { name: "faketime", sign: "faketime" };

/// A process's wall clock, as far ahead (or behind) as a file says, which may change while it runs. Its monotonic clock is right.
#[derive(Debug, Clone)]
pub struct WrongClock {
    file: PathBuf,
}

impl WrongClock {
    /// A clock that is right until it is set; its file is in this folder.
    pub fn new(folder: &Path) -> Self {
        debian::install(&[FAKETIME]).unwrap();
        let clock = Self { file: folder.join("faketime") };
        clock.set(0);
        clock
    }

    /// Sets it so many seconds ahead, or behind.
    pub fn set(&self, seconds: i64) {
        // In one step, as it is read at any time.
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, format!("{seconds:+}s\n")).unwrap();
        std::fs::rename(beside, &self.file).unwrap();
    }

    /// What a process that has it is started with.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        vec![
            ("LD_PRELOAD".into(), library().into()),
            ("FAKETIME_TIMESTAMP_FILE".into(), self.file.clone().into()),
            ("FAKETIME_NO_CACHE".into(), "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
            ("DONT_FAKE_MONOTONIC".into(), "1".into()),
        ]
    }
}

/// The library for programs of several threads, in the folder of this machine's architecture.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.is_file()).expect("the package faketime brings libfaketimeMT.so.1")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    #[ignore = "installs faketime: cargo xtask test"]
    fn a_process_has_the_clock_that_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let clock = WrongClock::new(folder.path());
        let ahead = |seconds: i64| {
            clock.set(seconds);
            let date = Command::new("date").arg("+%s").envs(clock.environment()).output().unwrap();
            let told: i64 = String::from_utf8(date.stdout).unwrap().trim().parse().unwrap();
            told - crate::now_micros() / 1_000_000
        };
        assert!((-5..=5).contains(&ahead(0)));
        assert!((3_595..=3_605).contains(&ahead(3_600)));
        assert!((-35..=-25).contains(&ahead(-30)));
    }
}
