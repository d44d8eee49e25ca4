//! Rules of style that neither the compiler nor clippy knows: sizes and names of source files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A longer file says why at its top.
const LINES_MAX: usize = 600;
/// How that reason begins, and within how many lines it stands.
const REASON: &str = "Long because";
const REASON_WITHIN_LINES: usize = 5;
/// Names that say nothing of what is in a file.
const BANNED_NAMES: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "misc", "stuff"];
const SKIPPED_FOLDERS: [&str; 2] = ["target", "node_modules"];

/// Checks all Rust files below `root` and prints what is wrong; whether nothing is.
pub fn check(root: &Path) -> Result<bool> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    let mut is_good = true;
    for path in files {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for problem in problems(path.strip_prefix(root).unwrap_or(&path), &text) {
            eprintln!("{}: {problem}", path.display());
            is_good = false;
        }
    }
    Ok(is_good)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && !SKIPPED_FOLDERS.contains(&&*name) {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn problems(path: &Path, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    let has_reason = text.lines().take(REASON_WITHIN_LINES).any(|line| line.contains(REASON));
    if lines > LINES_MAX && !has_reason {
        problems.push(format!(
            "{lines} lines; split it, or say why not in a line `//! {REASON} …` at its top (limit {LINES_MAX})"
        ));
    }
    for name in path.with_extension("").iter().map(|name| name.to_string_lossy()) {
        if BANNED_NAMES.contains(&&*name) {
            problems.push(format!("`{name}` does not say what is in it"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_needs_a_reason_at_its_top() {
        let lines = |count: usize| "x\n".repeat(count);
        let path = Path::new("a/src/queue.rs");
        assert_eq!(problems(path, &lines(600)), [""; 0]);
        assert_eq!(problems(path, &lines(601)).len(), 1);
        assert_eq!(problems(path, &format!("//! Long because it is one table.\n{}", lines(600))), [""; 0]);
        assert_eq!(problems(path, &format!("{}//! Long because it is late.\n", lines(600))).len(), 1);
    }

    #[test]
    fn names_that_say_nothing_are_refused_for_files_and_folders() {
        assert_eq!(problems(Path::new("a/src/util.rs"), "").len(), 1);
        assert_eq!(problems(Path::new("a/tests/common/mod.rs"), "").len(), 1);
        assert_eq!(problems(Path::new("a/src/utility_curve.rs"), ""), [""; 0]);
    }
}
