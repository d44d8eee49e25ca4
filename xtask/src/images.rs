//! The images of the product, built without a container engine: what `images/Dockerfile` describes, with the libraries of this machine in
//! place of a base image. With `--examples`, those of `examples/`, too.

mod archive;
mod examples;
mod kept;
mod programs;
mod root;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::process;
use crate::servers::Output;
use archive::{Image, Layer};

/// Packages with a program each, of the same name, that runs in a container.
const PROGRAMS: [&str; 4] = ["tallyman-operator", "tallyman-sidecar", "tallyman-rollup", "tallyman"];
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
    /// Build also what examples/ and the operator name besides: example applications, and stand-ins for the official images of
    /// Cassandra, memcached and busybox, from packages of Debian and Maven.
    #[arg(long)]
    examples: bool,
    /// Build this program's image and no other program's; may be given several times.
    #[arg(long = "program", value_name = "NAME", value_parser = PROGRAMS)]
    programs: Vec<String>,
    /// Tag of the programs' images, instead of the version.
    #[arg(long)]
    tag: Option<String>,
    /// Build the programs of another checkout of this repository, such as that of an earlier commit.
    #[arg(long, value_name = "DIR", requires = "tag", conflicts_with_all = ["release", "examples"])]
    checkout: Option<PathBuf>,
    /// Folder of the archives, `<program>.tar` each; created where it is missing.
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    out: PathBuf,
    /// How to print what was built, a line for each image. JSON: {"file", "reference", "id", "bytes"}.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

impl Options {
    /// All that a cluster without a registry needs, where it is usually put.
    pub fn everything() -> Self {
        let (out, output) = (PathBuf::from("target/images"), Output::Text);
        Self { release: true, examples: true, programs: Vec::new(), tag: None, checkout: None, out, output }
    }
}

/// An image that was built.
#[derive(Debug, Serialize)]
pub struct Built {
    /// Its archive.
    pub file: PathBuf,
    reference: String,
    id: String,
    bytes: u64,
}

/// Builds the images and prints a line for each.
pub fn run(options: &Options) -> Result<bool> {
    for image in build(options)? {
        let Built { file, reference, id, bytes } = &image;
        match options.output {
            Output::Text => {
                println!("{}  {reference}  sha256:{id}  {} MB", file.display(), bytes.div_ceil(1_000_000));
            }
            Output::Json => println!("{}", serde_json::to_string(&image)?),
        }
    }
    Ok(true)
}

/// Builds the images.
pub fn build(options: &Options) -> Result<Vec<Built>> {
    let mut images = Vec::new();
    std::fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
    let checkout = options.checkout.as_deref();
    let revision =
        process::program("git", ["rev-parse", "HEAD"]).folder(checkout.unwrap_or(Path::new("."))).output()?;
    let tag = options.tag.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"));
    let mut names = options.programs.clone();
    if names.is_empty() {
        names = PROGRAMS.map(str::to_owned).into();
    }
    for program in programs::build(&names, options.release, checkout)? {
        let name = program.file_name().and_then(|name| name.to_str()).context("a program without a name")?;
        images.push(write(&options.out, name, &image(name, &program, tag, revision.trim())?)?);
    }
    if options.examples {
        for (name, image) in examples::images(revision.trim())? {
            images.push(write(&options.out, name, &image)?);
        }
    }
    Ok(images)
}

fn write(folder: &Path, name: &str, image: &Image) -> Result<Built> {
    let path = folder.join(format!("{name}.tar"));
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    let id = image.write(BufWriter::new(&file)).with_context(|| path.display().to_string())?;
    let bytes = file.metadata().with_context(|| path.display().to_string())?.len();
    Ok(Built { file: path, reference: image.reference.clone(), id, bytes })
}

fn image(name: &str, program: &Path, tag: &str, revision: &str) -> Result<Image> {
    Ok(Image {
        reference: format!("{REPOSITORY}/{name}:{tag}"),
        entrypoint: vec![format!("{}/{name}", root::PROGRAMS)],
        command: Vec::new(),
        environment: vec![format!("PATH={}", root::PROGRAMS)],
        user: USER.to_owned(),
        labels: labels(name, tag, revision),
        layers: vec![Layer::Files(root::files(name, program)?)],
    })
}

fn labels(name: &str, version: &str, revision: &str) -> BTreeMap<String, String> {
    let labels =
        [("title", name), ("version", version), ("revision", revision), ("source", SOURCE), ("licenses", "Apache-2.0")];
    labels.map(|(label, value)| (format!("org.opencontainers.image.{label}"), value.to_owned())).into()
}
