//! Writes what is generated from the resource types (the CRDs' YAML, the templates of their chart, their reference), or with
//! `--check` says which files are not current.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tallyman_crds::generate::{self, File, chart, reference};

/// A folder with generated files.
struct Folder {
    path: PathBuf,
    files: Vec<File>,
    /// Whether it holds nothing else, so that what is no longer generated goes.
    is_ours: bool,
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let is_check = std::env::args().skip(1).any(|argument| argument == "--check");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = |path: &str, files, is_ours| Folder { path: root.join(path), files, is_ours };
    let folders = [
        folder("crds/yaml", generate::files()?, true),
        folder("charts/tallyman-crds/templates", chart::templates()?, false),
        folder("docs", vec![reference::page()?], false),
    ];
    let mut is_current = true;
    for folder in &folders {
        let stale = stale(folder)?;
        is_current &= stale.is_empty();
        if is_check {
            stale.iter().for_each(|path| eprintln!("not current: {}", path.display()));
        } else {
            write(folder, &stale)?;
        }
    }
    Ok(if is_current || !is_check { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(folder: &Folder, stale: &[PathBuf]) -> std::io::Result<()> {
    std::fs::create_dir_all(&folder.path)?;
    for path in stale {
        match folder.files.iter().find(|file| folder.path.join(&file.name) == *path) {
            Some(file) => std::fs::write(path, &file.text)?,
            None => std::fs::remove_file(path)?,
        }
        println!("written: {}", path.display());
    }
    Ok(())
}

/// Files that are missing, differ, or are no longer generated.
fn stale(folder: &Folder) -> std::io::Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for file in &folder.files {
        let path = folder.path.join(&file.name);
        if !path.exists() || std::fs::read_to_string(&path)? != file.text {
            stale.push(path);
        }
    }
    if folder.is_ours && folder.path.exists() {
        for entry in std::fs::read_dir(&folder.path)? {
            let path = entry?.path();
            if !folder.files.iter().any(|file| folder.path.join(&file.name) == path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}
