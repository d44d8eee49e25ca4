//! The documents' commands run, and what they say of the operator's rights is what is granted.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use tallyman_cluster::{Cluster, Place, Shape, Version};
use tallyman_e2e::packaging::{documents, on, text};

/// Pages with commands for a cluster, in the order in which somebody would follow them.
const PAGES: [&str; 6] = ["install", "quick-start-kubernetes", "gitops", "permissions", "upgrade", "failure-modes"];
/// The third byte of the address of these tests' cluster.
const ADDRESSES: u8 = 62;

/// The fenced blocks of a page in this language, `sh` and not `sh no-run`.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(opened) = line.strip_prefix("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if opened == language {
                blocks.push(block.join("\n"));
            }
        }
    }
    blocks
}

#[test]
fn blocks_are_told_apart_by_their_language() {
    let page = "a\n```sh\none\n```\n```sh no-run\ntwo\n```\n```yaml\nx: 1\n```\n```sh\nthree\nfour\n```\n";
    assert_eq!(blocks(page, "sh"), ["one", "three\nfour"]);
    assert_eq!(blocks(page, "yaml"), ["x: 1"]);
}

#[test]
#[ignore = "starts a Kubernetes control plane: cargo xtask test"]
fn every_command_of_the_pages_runs_as_it_is_written() {
    let shape = Shape { version: Version::default() };
    let cluster = Cluster::start(&Place::named("documentation", ADDRESSES).unwrap(), &shape).unwrap();
    for page in PAGES {
        let page_text = text(format!("docs/{page}.md"));
        let blocks = blocks(&page_text, "sh");
        assert!(!blocks.is_empty(), "{page} has no commands");
        for block in blocks {
            // The shell that people paste into: a line that fails ends the block.
            let mut shell = on(&cluster, "bash");
            shell.args(["-e", "-o", "pipefail", "-s"]);
            let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(block.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            assert!(output.status.success(), "docs/{page}.md:\n{block}\n{said}");
        }
    }
}

#[test]
fn every_rule_of_the_operator_has_a_row_in_the_page_on_permissions() {
    let page = text("docs/permissions.md");
    let mut rows = BTreeSet::new();
    for set in ["default", "watch-namespaces"] {
        let objects = documents(&text(format!("charts/tallyman/golden/{set}.yaml")));
        let is_operators =
            |object: &&Value| object["metadata"]["name"].as_str().unwrap().starts_with("tallyman-operator");
        for role in objects.iter().filter(is_operators) {
            for rule in role["rules"].as_array().into_iter().flatten() {
                let list = |field: &str| {
                    let names = rule[field].as_array().unwrap().iter();
                    let names = names.map(|name| name.as_str().filter(|name| !name.is_empty()).unwrap_or("core"));
                    names.collect::<Vec<_>>().join(", ")
                };
                rows.insert(format!("| {} | {} | {} | ", list("apiGroups"), list("resources"), list("verbs")));
            }
        }
    }
    assert!(rows.len() >= 20, "{}", rows.len());
    for row in &rows {
        assert!(page.contains(row.as_str()), "no row {row}");
    }
    // A row of a table of rules has four columns.
    let tables = page.split("\n## ").filter(|section| section.contains("| group | resources | verbs | why |"));
    let lines = tables.flat_map(str::lines).filter(|line| line.starts_with("| ") && !line.starts_with("| group "));
    for line in lines {
        assert!(rows.iter().any(|row| line.starts_with(row.as_str())), "a row of no rule: {line}");
    }
}
