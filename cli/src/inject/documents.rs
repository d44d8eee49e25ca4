//! A YAML text of several documents, taken apart so that those that are not changed stay as they are.
//!
//! Read as `kubectl` reads: by YAML 1.1, where `yes` is true and `0644` octal. What is written reads the same by 1.1 and 1.2.

use serde_json::Value;
use serde_saphyr::{Error, options, ser_options};

/// Begins a document, at the beginning of a line and nowhere else, not even within a text.
const MARKER: &str = "---";
/// Lines longer than this would be folded, which nobody needs to read.
const FOLD_NEVER: usize = 1 << 20;

/// A document, with the marker that begins it.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    text: &'a str,
}

/// The documents of a text, in order, which put together are the text.
pub fn split(text: &str) -> impl Iterator<Item = Document<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len();
        let mut offset = 0;
        for line in rest.split_inclusive('\n') {
            if offset > 0 && is_marker(line) {
                end = offset;
                break;
            }
            offset += line.len();
        }
        let (document, after) = rest.split_at(end);
        rest = after;
        Some(Document { text: document })
    })
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix(MARKER).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Whether a line says nothing: a comment, a directive, a marker by itself.
fn is_silent(line: &str) -> bool {
    let line = if is_marker(line) { &line[MARKER.len()..] } else { line };
    let line = line.trim();
    line.is_empty() || line.starts_with(['#', '%']) || line == "..."
}

impl<'a> Document<'a> {
    /// As it stands in the text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// What it says; `None` if nothing.
    pub fn read(&self) -> Result<Option<Value>, Error> {
        if self.text.lines().all(is_silent) {
            return Ok(None);
        }
        let options = options! { legacy_octal_numbers: true, with_snippet: false };
        serde_saphyr::from_str_with_options(self.text, options).map(Some)
    }

    /// The document with another value: the marker and the comments above it stay.
    pub fn with(&self, value: &Value) -> Result<String, serde_saphyr::ser_error::Error> {
        let mut text: String = self.text.split_inclusive('\n').take_while(|line| is_silent(line)).collect();
        if text.is_empty() && self.text.starts_with(MARKER) {
            text = format!("{MARKER}\n");
        }
        let options = ser_options! { folded_wrap_chars: FOLD_NEVER };
        text.push_str(&serde_saphyr::to_string_with_options(value, options)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_falls_apart_at_markers_alone_and_together_is_the_text() {
        let text = "# first\na: 1\n--- # second\nb: |\n  ---\n  x\n---\n---\nc: ---x\n";
        let documents: Vec<_> = split(text).collect();
        assert_eq!(documents.iter().map(Document::text).collect::<String>(), text);
        let values: Vec<_> = documents.iter().map(|document| document.read().unwrap()).collect();
        assert_eq!(values, [Some(json!({"a": 1})), Some(json!({"b": "---\nx\n"})), None, Some(json!({"c": "---x"}))]);
    }

    #[test]
    fn numbers_and_truths_are_read_as_kubectl_does() {
        let text = "mode: 0644\nyes_it_is: yes\nport: \"8080\"\nbig: 9007199254740993\n";
        let value = split(text).next().unwrap().read().unwrap().unwrap();
        assert_eq!(value, json!({"mode": 420, "yes_it_is": true, "port": "8080", "big": 9_007_199_254_740_993_i64}));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let mut texts: Vec<String> = [
            "yes",
            "no",
            "on",
            "off",
            "y",
            "n",
            "true",
            "null",
            "~",
            "",
            " ",
            "0644",
            "0o17",
            "1e3",
            "1_000",
            "0x1F",
            "12:30:45",
            "2026-01-01",
            "- x",
            "# x",
            "a: b",
            "a #b",
            "'",
            "\"",
            "|",
            ">",
            "&a",
            "*a",
            "!x",
            "%x",
            "@x",
            "`x",
            "{",
            "[",
            "?",
            ":",
            "=",
            "<<",
            ".inf",
            ".nan",
            "+1",
            "a\nb",
            "a\nb\n",
            "a\n\n",
            "\na",
            " a\nb",
            "a\tb",
            "\ta\nb",
            "a \nb",
            "\u{7f}",
            "\u{85}",
            "é",
            "a\r\nb",
            "---",
            "...",
            "--- a\nb",
        ]
        .map(str::to_owned)
        .into();
        texts.push("long ".repeat(100));
        texts.push(format!("{}\n{}", "x".repeat(200), " y".repeat(200)));
        let value = json!({"texts": texts, "keys": {"yes": 1, "1": 2, "": 3}, "empty": [{}, [], null], "number": -1.5});
        let document = Document { text: "---\n# kept\na: 1 # lost\n" };
        let written = document.with(&value).unwrap();
        assert!(written.starts_with("---\n# kept\n") && !written.contains("lost"));
        let read: Vec<_> = split(&written).map(|document| document.read().unwrap().unwrap()).collect();
        assert_eq!(read, [value]);
    }
}
