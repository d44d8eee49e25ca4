//! The binaries under test, built once per run in the profile of the test itself.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Where the built binaries are.
#[derive(Debug)]
pub struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// Those of this checkout, built first.
    pub fn built() -> &'static Self {
        static BUILT: OnceLock<Binaries> = OnceLock::new();
        BUILT.get_or_init(|| {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
            let packages =
                ["-p", "tallyman", "-p", "tallyman-sidecar", "-p", "tallyman-rollup", "-p", "tallyman-operator"];
            let mut build = Command::new(cargo);
            // The root of the checkout that runs, which is not always the one that was compiled: they may share a target folder.
            let here =
                std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
            let built =
                build.args(["build", "--quiet"]).args(profile).args(packages).current_dir(here.join("..")).status();
            assert!(built.unwrap().success(), "the binaries under test cannot be built");
            // target/PROFILE/deps/TEST
            let test = std::env::current_exe().unwrap();
            Self { folder: test.ancestors().nth(2).unwrap().to_owned() }
        })
    }

    /// `tallyman`.
    pub fn tallyman(&self) -> PathBuf {
        self.folder.join("tallyman")
    }

    /// `tallyman-sidecar`.
    pub fn sidecar(&self) -> PathBuf {
        self.folder.join("tallyman-sidecar")
    }

    /// `tallyman-operator`.
    pub fn operator(&self) -> PathBuf {
        self.folder.join("tallyman-operator")
    }

    /// `tallyman-rollup`.
    pub fn rollup(&self) -> PathBuf {
        self.folder.join("tallyman-rollup")
    }
}

/// A program that takes its options from its arguments alone.
pub fn command(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("TALLYMAN_") || name == "POD_NAME" {
            command.env_remove(&*name);
        }
    }
    command
}
