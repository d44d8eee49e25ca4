//! The examples of docs/capacity.md are what the command prints; `UPDATE_GOLDEN=1` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use tallyman_crds::manifest::read_counter_namespaces;

use super::planned::{Planned, Surroundings};
use super::report::Report;

/// What is printed before the objects.
fn head(yaml: &str) -> String {
    let namespace = read_counter_namespaces(yaml, "capacity.md").unwrap().remove(0);
    let surroundings = Surroundings { kubernetes_namespace: "default", siblings: Vec::new(), classes: &[], live: None };
    let planned = Planned::new(&namespace, &surroundings).unwrap();
    let text = Report { planned: &planned, differences: None, schema: None }.text().unwrap();
    text.split("---\n").next().unwrap().to_owned()
}

/// The document with its examples' output as it is now, and the number of examples.
fn renewed(document: &str) -> (String, usize) {
    let (mut renewed, mut examples, mut yaml) = (String::new(), 0, None);
    let mut parts = document.split("```");
    renewed.push_str(parts.next().unwrap());
    while let (Some(block), Some(after)) = (parts.next(), parts.next()) {
        let block = if let Some(manifest) = block.strip_prefix("yaml\n") {
            yaml = Some(manifest);
            block.to_owned()
        } else if block.starts_with("text\n") {
            examples += 1;
            format!("text\n{}", head(yaml.take().expect("a manifest before the output")))
        } else {
            block.to_owned()
        };
        write!(renewed, "```{block}```{after}").unwrap();
    }
    (renewed, examples)
}

#[test]
fn the_examples_of_the_capacity_page_are_what_the_command_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/capacity.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (renewed, examples) = renewed(&document);
    assert_eq!(examples, 3);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &renewed).unwrap();
        return;
    }
    assert!(document == renewed, "{} is out of date: UPDATE_GOLDEN=1 writes it anew", path.display());
}
