//! The images of the product, built without a container engine: what `images/Dockerfile` describes, with the libraries of this machine in
//! place of a base image.

mod archive;
mod root;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process;
use archive::Image;

/// Packages with a program each, of the same name, that runs in a container.
const PROGRAMS: [&str; 3] = ["tallyman-operator", "tallyman-sidecar", "tallyman-rollup"];
/// Registry and organisation of the released images.
const REPOSITORY: &str = "ghcr.io/tallyman";
const SOURCE: &str = "https://github.com/tallyman/tallyman";
/// Who the programs run as.
const USER: &str = "65532:65532";

/// What to build, and where to.
#[derive(clap::Args)]
pub struct Options {
    /// Build the programs optimised.
    #[arg(long)]
    release: bool,
    /// Folder of the archives, `<program>.tar` each; created where it is missing.
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    out: PathBuf,
}

/// Builds all images and prints a line for each: its file, reference and id.
pub fn run(options: &Options) -> Result<bool> {
    std::fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
    let revision = process::program("git", ["rev-parse", "HEAD"]).output()?;
    for program in built(options.release)? {
        let name = program.file_name().and_then(|name| name.to_str()).context("a program without a name")?;
        let image = image(name, &program, revision.trim())?;
        let path = options.out.join(format!("{name}.tar"));
        std::fs::write(&path, image.archive()?).with_context(|| path.display().to_string())?;
        println!("{}  {}  sha256:{}", path.display(), image.reference, image.id()?);
    }
    Ok(true)
}

/// Builds the programs; their files.
fn built(is_release: bool) -> Result<Vec<PathBuf>> {
    let packages = PROGRAMS.iter().flat_map(|program| ["-p", program]);
    let mut arguments = vec!["build", "--message-format", "json-render-diagnostics", "--bins"];
    arguments.extend(packages);
    if is_release {
        arguments.push("--release");
    }
    let messages = process::cargo(arguments).output()?;
    let mut programs = Vec::new();
    for message in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(message).context("a message of cargo")?;
        let name = message["target"]["name"].as_str().unwrap_or_default();
        if let Some(file) = message["executable"].as_str().filter(|_| PROGRAMS.contains(&name)) {
            programs.push(PathBuf::from(file));
        }
    }
    anyhow::ensure!(programs.len() == PROGRAMS.len(), "cargo built {programs:?} where {PROGRAMS:?} were asked for");
    Ok(programs)
}

fn image(name: &str, program: &Path, revision: &str) -> Result<Image> {
    let version = env!("CARGO_PKG_VERSION");
    let label = |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    Ok(Image {
        reference: format!("{REPOSITORY}/{name}:{version}"),
        entrypoint: format!("{}/{name}", root::PROGRAMS),
        user: USER.to_owned(),
        labels: [
            label("title", name),
            label("version", version),
            label("revision", revision),
            label("source", SOURCE),
            label("licenses", "Apache-2.0"),
        ]
        .into(),
        files: root::files(name, program)?,
    })
}
