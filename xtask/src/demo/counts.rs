//! The counts of the applications of `examples/`, as one of their sidecars tells them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::tools::Tools;

/// The Kubernetes namespace of the applications.
pub const APPLICATIONS_NAMESPACE: &str = "shop";
/// The CounterNamespace that they count in.
pub const COUNTERS_NAMESPACE: &str = "video-plays";
/// Counters, each with the application that writes it.
pub const COUNTERS: [(&str, &str); 4] = [("curl", "curl"), ("go", "go"), ("intro", "player"), ("python", "python")];
/// The application through whose sidecar we read: its image has wget.
const READER: &str = "deployment/player";

pub fn applications() -> impl Iterator<Item = &'static str> {
    COUNTERS.into_iter().map(|(_, application)| application)
}

/// Counts by the names of their counters, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts(pub BTreeMap<String, i64>);

impl Counts {
    pub fn of(&self, name: &str) -> Option<i64> {
        self.0.get(name).copied()
    }

    /// The counters whose count is not above what it was earlier, when one that is unknown was 0.
    pub fn not_above(&self, earlier: &Self) -> Vec<&'static str> {
        let has_risen = |name: &&str| self.of(name).is_some_and(|count| count > earlier.of(name).unwrap_or(0));
        COUNTERS.into_iter().map(|(name, _)| name).filter(|name| !has_risen(name)).collect()
    }
}

/// Asks for all of them.
pub fn read(tools: &Tools) -> Result<Counts> {
    let url = format!("http://127.0.0.1:7777/v1/namespaces/{COUNTERS_NAMESPACE}/counters:batchGet");
    let names = COUNTERS.map(|(name, _)| name);
    let request = serde_json::json!({ "counterNames": names }).to_string();
    let exec = ["exec", "--quiet", "--namespace", APPLICATIONS_NAMESPACE, READER, "--container", "player", "--"];
    // Not wget's own -T: Debian's static busybox dies of it.
    let wget = ["timeout", "5", "wget", "-q", "-O", "-", "--post-data", &request, &url];
    parse(&tools.kubectl(&[&exec[..], &wget].concat())?)
}

/// Reads a reply of batchGet: results in the request's order, each a count, as a string, or a status that says why there is none.
fn parse(reply: &str) -> Result<Counts> {
    let read: Value = serde_json::from_str(reply).with_context(|| format!("the sidecar's reply: {reply}"))?;
    let results = read["results"].as_array().with_context(|| format!("the sidecar's reply has no results: {reply}"))?;
    let mut counts = Counts::default();
    for result in results {
        let (name, count) = (&result["counterName"], &result["count"]);
        if let (Some(name), Some(count)) = (name.as_str(), count.as_str().and_then(|count| count.parse().ok())) {
            counts.0.insert(name.to_owned(), count);
        }
    }
    Ok(counts)
}

#[cfg(test)]
pub fn counts(of: &[(&str, i64)]) -> Counts {
    Counts(of.iter().map(|&(name, count)| (name.to_owned(), count)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_counts_as_strings_and_statuses_in_their_place() {
        let reply = r#"{"results": [
            {"counterName": "curl", "count": "9007199254740993", "asOf": "2026-01-31T12:00:00Z"},
            {"counterName": "go", "status": {"code": 14, "message": "no store"}},
            {"counterName": "intro", "count": "0"}]}"#;
        assert_eq!(parse(reply).unwrap(), counts(&[("curl", 9_007_199_254_740_993), ("intro", 0)]));
        assert_eq!(parse(r#"{"results": []}"#).unwrap(), Counts::default());
    }

    #[test]
    fn a_reply_that_is_none_is_shown() {
        for reply in ["", "wget: server returned error", r#"{"code": 5, "message": "no namespace"}"#] {
            let error = parse(reply).unwrap_err().to_string();
            assert!(error.contains(reply), "{error}");
        }
    }

    #[test]
    fn what_has_not_risen_is_named_and_what_was_unknown_was_nothing() {
        let later = counts(&[("curl", 5), ("go", 3), ("intro", 0)]);
        assert_eq!(later.not_above(&counts(&[("curl", 4), ("go", 3)])), ["go", "intro", "python"]);
    }

    #[test]
    fn every_counter_is_written_by_an_example() {
        let text = |path: &str| std::fs::read_to_string(crate::root().join("examples").join(path)).unwrap();
        for (name, application) in COUNTERS {
            let manifest = match application {
                "player" => text("kubernetes/application.yaml"),
                other => text(&format!("applications/{other}/deployment.yaml")),
            };
            assert!(manifest.contains(&format!("name: {application}\n")), "{application}");
            assert!(manifest.contains(&format!("namespace: {APPLICATIONS_NAMESPACE}\n")), "{application}");
            assert!(manifest.contains(COUNTERS_NAMESPACE), "{application}");
            let is_written = [format!("value: {name}}}"), format!("counters/{name}:add")];
            assert!(is_written.iter().any(|sign| manifest.contains(sign)), "{name}");
        }
    }
}
