//! Writes the CRDs' YAML to a folder, or with `--check` says which files there are not current.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tallyman_crds::generate::{self, File};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let check = arguments.iter().any(|argument| argument == "--check");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let files = generate::files()?;
    if check {
        let stale = stale(&folder, &files)?;
        for path in &stale {
            eprintln!("not current: {}", path.display());
        }
        return Ok(if stale.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    std::fs::create_dir_all(&folder)?;
    for path in stale(&folder, &files)? {
        let file = files.iter().find(|file| folder.join(&file.name) == path);
        match file {
            Some(file) => std::fs::write(&path, &file.text)?,
            None => std::fs::remove_file(&path)?,
        }
        println!("written: {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Files that are missing, differ, or are no longer generated.
fn stale(folder: &Path, files: &[File]) -> std::io::Result<Vec<PathBuf>> {
    let mut stale = Vec::new();
    for file in files {
        let path = folder.join(&file.name);
        if !path.exists() || std::fs::read_to_string(&path)? != file.text {
            stale.push(path);
        }
    }
    if folder.exists() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if !files.iter().any(|file| folder.join(&file.name) == path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}
