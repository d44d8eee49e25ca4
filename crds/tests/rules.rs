//! Every CEL rule lets through what it should and refuses what it should, with a message that names the field.
//! The cases are data, `data/rules.yaml`, and a test holds them complete.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;

use kube::CustomResourceExt;
use kube::core::cel::ValidationErrors;
use serde::Deserialize;
use serde_json::{Value, json};
use tallyman_crds::manifest::{ManifestError, read_counter_namespaces};
use tallyman_crds::{CounterClass, CounterNamespace};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    kind: String,
    message: String,
    old: Option<Object>,
    valid: Vec<Object>,
    invalid: Vec<Object>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    name: Option<String>,
    spec: Value,
    /// Messages of further rules that this object cannot but break too.
    #[serde(default)]
    also: Vec<String>,
}

impl Object {
    fn document(&self, kind: &str) -> Value {
        json!({
            "apiVersion": "tallyman.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": self.name.as_deref().unwrap_or("n")},
            "spec": self.spec,
        })
    }
}

fn cases() -> Vec<Case> {
    serde_saphyr::from_str(include_str!("data/rules.yaml")).unwrap()
}

/// Messages of the rules that refuse the object.
fn refusals(kind: &str, object: &Object, old: Option<&Object>) -> BTreeSet<String> {
    let new = object.document(kind);
    let old = old.map(|old| old.document(kind));
    let result = match kind {
        "CounterNamespace" => {
            let parse = |value| serde_json::from_value::<CounterNamespace>(value).unwrap();
            outcome(parse(new), old.map(parse), CounterNamespace::validate_cel, CounterNamespace::validate_cel_update)
        }
        "CounterClass" => {
            let parse = |value| serde_json::from_value::<CounterClass>(value).unwrap();
            outcome(parse(new), old.map(parse), CounterClass::validate_cel, CounterClass::validate_cel_update)
        }
        other => panic!("no such kind: {other}"),
    };
    result.err().into_iter().flat_map(ValidationErrors::into_vec).map(|error| error.message).collect()
}

fn outcome<T>(
    new: T,
    old: Option<T>,
    create: impl Fn(&T) -> Result<(), ValidationErrors>,
    update: impl Fn(&T, &T) -> Result<(), ValidationErrors>,
) -> Result<(), ValidationErrors> {
    match old {
        Some(old) => update(&new, &old),
        None => create(&new),
    }
}

#[test]
fn every_rule_lets_through_what_it_should_and_refuses_what_it_should() {
    for case in cases() {
        for object in &case.valid {
            let refusals = refusals(&case.kind, object, case.old.as_ref());
            assert!(refusals.is_empty(), "{}: {} was refused: {refusals:?}", case.message, object.spec);
        }
        for object in &case.invalid {
            let expected: BTreeSet<String> = object.also.iter().chain([&case.message]).cloned().collect();
            assert_eq!(refusals(&case.kind, object, case.old.as_ref()), expected, "{}", object.spec);
        }
    }
}

#[test]
fn manifests_are_held_to_the_same_rules_as_the_cluster() {
    for case in cases().iter().filter(|case| case.kind == "CounterNamespace" && case.old.is_none()) {
        for object in &case.valid {
            let text = object.document(&case.kind).to_string();
            assert_eq!(read_counter_namespaces(&text, "f").map(|read| read.len()).unwrap(), 1, "{text}");
        }
        for object in &case.invalid {
            let text = object.document(&case.kind).to_string();
            let Err(ManifestError::Invalid(fields)) = read_counter_namespaces(&text, "f") else {
                panic!("was let through: {text}");
            };
            let field = fields.iter().find(|field| field.problem.message == case.message);
            let field = field.unwrap_or_else(|| panic!("{text}: {fields:?}"));
            let last = field.problem.path.rsplit('.').next().unwrap();
            assert!(case.message.contains(last), "{:?} does not name {}", case.message, field.problem.path);
        }
    }
}

fn collect_messages(schema: &Value, messages: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                messages.insert(rule["message"].as_str().unwrap().to_owned());
            }
            map.values().for_each(|value| collect_messages(value, messages));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_messages(value, messages)),
        _ => {}
    }
}

#[test]
fn every_rule_has_cases_and_every_case_a_rule() {
    let mut rules = BTreeSet::new();
    for crd in [CounterNamespace::crd(), CounterClass::crd()] {
        collect_messages(&serde_json::to_value(crd).unwrap(), &mut rules);
    }
    let covered: BTreeSet<String> = cases()
        .into_iter()
        .filter(|case| !case.valid.is_empty() && !case.invalid.is_empty())
        .map(|case| case.message)
        .collect();
    assert_eq!(rules, covered);
}
