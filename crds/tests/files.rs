//! Whole manifests, right and wrong ones, as files: `data/valid`, `data/invalid` and `data/invalid-updates`. What is wrong is said
//! with the field that the file's first line names. An API server is given the same files.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};

use tallyman_crds::manifest::{ManifestError, read_counter_classes, read_counter_namespaces};
use tallyman_crds::{CounterClass, CounterNamespace};

/// An object of either kind.
#[derive(Debug)]
enum Object {
    Class(Box<CounterClass>),
    Namespace(Box<CounterNamespace>),
}

fn read(text: &str) -> Result<Vec<Object>, ManifestError> {
    if text.contains("kind: CounterClass") {
        let classes = read_counter_classes(text, "f")?;
        return Ok(classes.into_iter().map(|class| Object::Class(Box::new(class))).collect());
    }
    let namespaces = read_counter_namespaces(text, "f")?;
    Ok(namespaces.into_iter().map(|namespace| Object::Namespace(Box::new(namespace))).collect())
}

/// The files of a folder, each with the field that its errors must name.
fn files(folder: &str) -> Vec<(PathBuf, String, Option<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.strip_prefix("# names: ").map(|text| text.lines().next().unwrap().to_owned());
        files.push((path, text, names));
    }
    files
}

#[test]
fn right_manifests_are_taken() {
    let files = files("valid");
    assert!(files.len() >= 10);
    for (path, text, _) in files {
        let read = read(&text);
        assert_eq!(read.as_ref().map(Vec::len).ok(), Some(1), "{}: {read:?}", path.display());
    }
}

#[test]
fn wrong_manifests_are_refused_and_the_field_is_named() {
    let files = files("invalid");
    assert!(files.len() >= 45);
    for (path, text, names) in files {
        let (path, names) = (path.display(), names.unwrap());
        let Err(ManifestError::Invalid(fields)) = read(&text) else { panic!("{path} was let through") };
        let is_named = fields.iter().any(|field| field.problem.path == names);
        assert!(is_named, "{path} should name {names}: {fields:?}");
    }
}

#[test]
fn wrong_changes_are_refused_and_the_field_is_named() {
    let files = files("invalid-updates");
    assert!(files.len() >= 10);
    for (path, text, names) in files {
        let (path, names) = (path.display(), names.unwrap());
        // Of one name both, so that an API server takes the second for a change of the first.
        let (old, new) = text.split_once("---\n").unwrap();
        let parsed = (read(old).unwrap().remove(0), parse(new));
        let errors = match &parsed {
            (Object::Class(old), Object::Class(new)) => new.validate_cel_update(old),
            (Object::Namespace(old), Object::Namespace(new)) => new.validate_cel_update(old),
            _ => panic!("{path} changes the kind"),
        };
        let errors = errors.expect_err(&path.to_string()).into_vec();
        let is_named = errors.iter().any(|error| error.field_path.trim_start_matches('.') == names);
        assert!(is_named, "{path} should name {names}: {errors:?}");
    }
}

/// A document that need not be right.
fn parse(text: &str) -> Object {
    if text.contains("kind: CounterClass") {
        return Object::Class(serde_saphyr::from_str(text).unwrap());
    }
    Object::Namespace(serde_saphyr::from_str(text).unwrap())
}
