//! The programs that are measured, each as users run it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What is built for a benchmark.
const PACKAGES: [&str; 3] = ["tallyman", "tallyman-sidecar", "tallyman-rollup"];

/// The programs, all in one folder.
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Those beside this program. Run by cargo, they are built first, so that no old ones are measured.
    pub fn built() -> Result<Self> {
        if let (Some(cargo), Some(here)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) {
            let built = Command::new(cargo)
                .args(["build", "--quiet", "--release"])
                .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
                .current_dir(here)
                .stdout(std::io::stderr())
                .status()?;
            ensure!(built.success(), "the programs to be measured cannot be built");
        }
        let own = std::env::current_exe()?;
        Self::in_folder(own.parent().context("this program is in no folder")?)
    }

    /// Those in a folder of the caller's choice.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        Ok(Self { folder: folder.canonicalize().with_context(|| format!("{} is no folder", folder.display()))? })
    }

    /// One of them.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let program = self.folder.join(name);
        ensure!(
            program.is_file(),
            "{} is not there; build it with the same profile: cargo build --release -p {name}",
            program.display()
        );
        Ok(program)
    }
}
