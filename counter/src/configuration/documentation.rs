//! Keeps `docs/configuration.md` true.

use std::collections::BTreeSet;

use serde_json::Value;

use super::NamespaceConfiguration;
use super::arbitrary::{BEST_EFFORT, EXAMPLE};
use super::bounds::{self, Number, Time};
use super::document::Span;

const PAGE: &str = include_str!("../../../docs/configuration.md");

/// The rows of the page's tables that begin with this field.
fn rows(field: &str) -> Vec<&'static str> {
    PAGE.lines().filter(|line| line.starts_with(&format!("| `{field}` |"))).collect()
}

/// The names in an answer to an unknown field, which lists those that are known.
fn known_fields(document: &str, pointer: &str) -> Vec<String> {
    let mut document: Value = serde_json::from_str(document).unwrap();
    document.pointer_mut(pointer).unwrap()["unknown"] = Value::Null;
    let invalid = NamespaceConfiguration::from_json(&document.to_string()).unwrap_err();
    let known = invalid.reason.split_once("expected").unwrap().1;
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn objects(value: &Value, at: &str, all: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            all.push(at.to_owned());
            object.iter().for_each(|(key, value)| objects(value, &format!("{at}/{key}"), all));
        }
        Value::Array(array) => {
            array.iter().enumerate().for_each(|(index, value)| objects(value, &format!("{at}/{index}"), all));
        }
        _ => {}
    }
}

#[test]
fn every_field_of_the_document_has_a_row() {
    let mut fields = BTreeSet::new();
    for document in [EXAMPLE, BEST_EFFORT] {
        let mut all = Vec::new();
        objects(&serde_json::from_str(document).unwrap(), "", &mut all);
        fields.extend(all.iter().flat_map(|pointer| known_fields(document, pointer)));
    }
    assert!(fields.contains("replicas") && fields.contains("ttl") && fields.contains("delete_after"), "{fields:?}");
    let undocumented: Vec<_> = fields.iter().filter(|field| rows(field).is_empty()).collect();
    assert_eq!(undocumented, Vec::<&String>::new());
}

#[test]
fn every_bound_and_default_stands_in_the_row_of_its_field() {
    let number = |Number { field, default, .. }: Number, range| (field, range, default.to_string());
    let time = |Time { field, default, .. }: Time, range| {
        (field, range, default.map_or("refused".to_owned(), |default| Span(default).to_string()))
    };
    let numbers = [
        bounds::NUM_QUEUES,
        bounds::COALESCE_MS,
        bounds::CAPACITY_BYTES,
        bounds::ROLLUP_BATCH_COUNT,
        bounds::BUCKETS_PER_ID,
        bounds::SECONDS_PER_BUCKET,
        bounds::SECONDS_PER_SLICE,
    ];
    let times = [
        bounds::TTL,
        bounds::ACCEPT_LIMIT,
        bounds::WRITE_TIMEOUT,
        bounds::MAX_CLOCK_SKEW,
        bounds::CLOSE_AFTER,
        bounds::DELETE_AFTER,
    ];
    let numbers = numbers.map(|n| number(n, format!("number, {}:", n.range())));
    let times = times.map(|t| time(t, format!("time, {}, in whole ", t.range())));
    for (field, range, default) in numbers.into_iter().chain(times) {
        let rows = rows(field);
        assert_eq!(rows.len(), 1, "{field}");
        assert!(rows[0].contains(&range), "no {range:?} in {}", rows[0]);
        assert!(rows[0].ends_with(&format!("| {default} |")), "no {default:?} in {}", rows[0]);
    }
}

#[test]
fn the_documents_on_the_page_are_right() {
    let documents: Vec<_> = PAGE.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let read: Vec<_> = documents.iter().map(|json| NamespaceConfiguration::from_json(json).unwrap()).collect();
    let names: Vec<_> = read.iter().map(|configuration| configuration.namespace.as_str()).collect();
    assert_eq!(names, ["video-plays", "likes"]);
    let refusal = PAGE.split("```text\n").nth(1).unwrap().split("\n```").next().unwrap();
    let wrong = EXAMPLE.replace("\"buckets_per_id\": 4", "\"buckets_per_id\": 0");
    assert_eq!(NamespaceConfiguration::from_json(&wrong).unwrap_err().to_string(), refusal);
}
