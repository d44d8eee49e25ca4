//! The sessions of README.md and docs/quick-start.md, run line by line: what they show is what one sees.

use std::path::PathBuf;
use std::process::Command;

use crate::process::eventually;
use crate::server::{Home, Server};

const PAGES: [&str; 2] = [include_str!("../../../README.md"), include_str!("../../../docs/quick-start.md")];
/// Where the pages have the server.
const ADDRESS: &str = "127.0.0.1:7777";
const ADMIN: &str = "127.0.0.1:7778";

/// A line that is typed, and what is to be seen then.
#[derive(Debug, PartialEq)]
struct Step {
    typed: String,
    shown: String,
}

/// The sessions of a page: its blocks marked `console`.
fn sessions(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let blocks = page.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    for line in blocks.flat_map(str::lines) {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(typed), _) => steps.push(Step { typed: typed.to_owned(), shown: String::new() }),
            (None, Some(step)) => step.shown += &format!("{line}\n"),
            (None, None) => panic!("a session begins with a line that is typed, not with {line:?}"),
        }
    }
    steps
}

/// Without what differs from run to run: times, and the ends of lines.
fn comparable(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.trim().split_inclusive(['"', ' ', '\n', '\t']) {
        let bare = word.trim_end_matches(['"', ' ', '\n', '\t']);
        let is_time = bare.len() >= 20 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T';
        words.push(if is_time { word.replace(bare, "TIME") } else { word.to_owned() });
    }
    words.concat()
}

fn run(step: &Step, server: &Server, home: &Home) -> String {
    let admin = server.banner["admin"].as_str().unwrap();
    let typed = step.typed.replace(ADDRESS, server.listen()).replace(ADMIN, admin);
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_tallyman"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &typed])
        .env("PATH", path)
        .env("TALLYMAN_ADDR", server.address())
        .current_dir(home.path("."))
        .output()
        .unwrap();
    // curl's progress is not shown in a terminal that shows the reply.
    let errors = String::from_utf8(output.stderr).unwrap();
    let errors: String =
        errors.lines().filter(|line| line.starts_with("error")).map(|line| format!("{line}\n")).collect();
    String::from_utf8(output.stdout).unwrap() + &errors
}

#[test]
fn the_pages_show_what_one_sees() {
    for page in PAGES {
        let steps = sessions(page);
        assert!(steps.iter().any(|step| step.typed.starts_with("curl")), "a page without a session to run");
        // With the repository's own example namespaces, as the pages have it; but where the session repeats a change by hand,
        // with time for a busy machine.
        let home = Home::new(&[]);
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/namespaces")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let mut text = std::fs::read_to_string(&path).unwrap();
            if name == "account-credits.yaml" {
                assert!(text.contains("acceptLimit: 1s"), "{text}");
                text = text.replace("acceptLimit: 1s", "acceptLimit: 1m");
            }
            home.write(&format!("namespaces/{name}"), &text);
        }
        let server = home.start(&[]);
        for step in steps {
            // Before some lines the page says to wait a moment; that moment is what this waits for.
            let last = std::cell::RefCell::new(String::new());
            let matches = || {
                let shown = run(&step, &server, &home);
                let is_right = comparable(&shown) == comparable(&step.shown);
                last.replace(shown);
                is_right
            };
            let is_read = !step.typed.contains("POST") && !step.typed.contains(" add ");
            if is_read {
                eventually(&format!("{step:?}"), || matches().then_some(()));
            } else {
                assert!(matches(), "{step:?} showed {}", last.borrow());
            }
        }
    }
}

#[test]
fn sessions_are_read_as_typed_and_shown_lines() {
    let page = "text\n```console\n$ one\nx\ny\n$ two\n```\nmore\n```sh\nthree\n```\n";
    let step = |typed: &str, shown: &str| Step { typed: typed.to_owned(), shown: shown.to_owned() };
    assert_eq!(sessions(page), [step("one", "x\ny\n"), step("two", "")]);
    assert_eq!(comparable(r#"{"a":"2025-01-31T12:00:00.5Z"}"#), r#"{"a":"TIME"}"#);
}
