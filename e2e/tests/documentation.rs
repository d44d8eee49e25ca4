//! The documents' commands run, and what they say of the operator's rights is what is granted.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;
use tallyman_cluster::{Cluster, Place, Shape};
use tallyman_e2e::packaging::{documents, on, text};

/// Pages with commands for a cluster, in the order in which somebody would follow them.
const PAGES: [&str; 6] = ["install", "quick-start-kubernetes", "gitops", "permissions", "upgrade", "failure-modes"];
/// The third byte of the address of these tests' cluster.
const ADDRESSES: u8 = 62;

/// A fenced block of commands.
#[derive(Debug, PartialEq)]
enum Block {
    /// `sh`: all of it must end well.
    Commands(String),
    /// `console`: a command behind `$ `, and what is printed; `…` stands for whatever is there.
    Dialogue { command: String, printed: String },
}

/// The blocks of a page, without those that need a node (`sh no-run`) and those in other languages.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match (language, block.as_slice()) {
            ("sh", block) => blocks.push(Block::Commands(block.join("\n"))),
            ("console", [command, printed @ ..]) => blocks.push(Block::Dialogue {
                command: command.strip_prefix("$ ").expect("a dialogue begins with a command").to_owned(),
                printed: printed.join("\n"),
            }),
            _ => {}
        }
    }
    blocks
}

/// Whether a text is as the page has it, where `…` stands for whatever is there.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut rest = Some(text);
    for part in pattern.split('…') {
        rest = rest.and_then(|rest| rest.split_once(part.trim())).map(|(_, rest)| rest);
    }
    rest.is_some()
}

#[test]
fn blocks_are_told_apart_by_their_language() {
    let page = "a\n```sh\none\n```\n```sh no-run\ntwo\n```\n```yaml\nx: 1\n```\n```console\n$ three\nfour\n```\n";
    let dialogue = Block::Dialogue { command: "three".to_owned(), printed: "four".to_owned() };
    assert_eq!(blocks(page), [Block::Commands("one".to_owned()), dialogue]);
}

#[test]
fn what_is_left_out_may_be_anything_and_the_rest_must_be_there_in_order() {
    assert!(is_like("error: a 17 b\n", "error: a … b"));
    assert!(!is_like("error: b 17 a\n", "error: a … b"));
    assert!(!is_like("", "error"));
}

#[test]
#[ignore = "starts a Kubernetes control plane: cargo xtask test"]
fn every_command_of_the_pages_runs_as_it_is_written() {
    let shape = Shape::default();
    let cluster = Cluster::start(&Place::named("documentation", ADDRESSES).unwrap(), &shape).unwrap();
    for page in PAGES {
        let page_text = text(format!("docs/{page}.md"));
        let blocks = blocks(&page_text);
        assert!(!blocks.is_empty(), "{page} has no commands");
        for block in blocks {
            let commands = match &block {
                Block::Commands(commands) | Block::Dialogue { command: commands, .. } => commands,
            };
            // The shell that people paste into: a line that fails ends the block.
            let mut shell = on(&cluster, "bash");
            shell.args(["-e", "-o", "pipefail", "-s"]);
            let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            let is_as_written = match &block {
                Block::Commands(_) => output.status.success(),
                Block::Dialogue { printed, .. } => is_like(&said, printed),
            };
            assert!(is_as_written, "docs/{page}.md:\n{block:?}\n{said}");
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
