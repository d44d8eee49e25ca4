//! What is asked for and not there: a desired object beside the live one, which the API server has filled in. Pure.
//!
//! The live object may say more than what is asked for: defaults, what other managers of fields set, status. It is as desired if
//! everything that the desired one says is in it:
//! - An object's fields are looked at one by one. What is desired as null, `{}` or `[]` is not asked for at all, since the API
//!   server drops some of them. A field that is no longer built is therefore not seen here (see [`crate::names::APPLIED`]).
//! - A list whose elements the API server merges by a key (containers, volumes, ports …) has each desired element in it, in any
//!   order, and may have others. Every other list is equal element by element, and in length.
//!
//! Quantities are compared as text: what is built writes them as the API server does.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

/// A value that is asked for and is not there. Of a Secret, it says secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Where: `spec.template.spec.containers[name=rollup].image`.
    pub path: String,
    /// What is asked for.
    pub desired: Value,
    /// What is there; null where there is nothing.
    pub live: Value,
}

/// Fields by which the API server merges lists of objects, in the order in which they are looked for: mounts also have names,
/// which may come twice.
const KEYS: [&str; 3] = ["mountPath", "name", "containerPort"];

/// Everything that is asked for and is not there, in the order of the desired object.
#[must_use]
pub fn differences(desired: &Value, live: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(desired, live, &mut String::new(), &mut found);
    found
}

fn compare(desired: &Value, live: &Value, path: &mut String, found: &mut Vec<Difference>) {
    match (desired, live) {
        _ if asks_for_nothing(desired) => {}
        (Value::Object(desired), Value::Object(live)) => {
            for (name, value) in desired {
                let length = path.len();
                push_field(path, name);
                compare(value, live.get(name).unwrap_or(&Value::Null), path, found);
                path.truncate(length);
            }
        }
        (Value::Array(desired_items), Value::Array(live_items)) => match key_of(desired_items) {
            Some(key) => {
                for item in desired_items {
                    let length = path.len();
                    // Writing into a String does not fail.
                    let _ = write!(path, "[{key}={}]", shown_key(&item[key]));
                    let there = live_items.iter().find(|live| live[key] == item[key]);
                    compare_element(item, there.unwrap_or(&Value::Null), path, found);
                    path.truncate(length);
                }
            }
            None if desired_items.len() == live_items.len() => {
                for (index, (item, there)) in desired_items.iter().zip(live_items).enumerate() {
                    let length = path.len();
                    let _ = write!(path, "[{index}]");
                    compare_element(item, there, path, found);
                    path.truncate(length);
                }
            }
            None => differ(desired, live, path, found),
        },
        _ if same_scalar(desired, live) => {}
        _ => differ(desired, live, path, found),
    }
}

/// An element is there even where it is empty: `from: [{}]` and `from: []` say different things.
fn compare_element(desired: &Value, live: &Value, path: &mut String, found: &mut Vec<Difference>) {
    if asks_for_nothing(desired) && !asks_for_nothing(live) {
        return differ(desired, live, path, found);
    }
    compare(desired, live, path, found);
}

fn differ(desired: &Value, live: &Value, path: &str, found: &mut Vec<Difference>) {
    found.push(Difference { path: path.to_owned(), desired: desired.clone(), live: live.clone() });
}

fn asks_for_nothing(desired: &Value) -> bool {
    match desired {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The key that tells the elements of a list apart, where they have one.
fn key_of(items: &[Value]) -> Option<&'static str> {
    KEYS.into_iter().find(|key| {
        let values: Option<BTreeSet<String>> = items
            .iter()
            .map(|item| item.get(key).filter(|value| value.is_string() || value.is_number()).map(Value::to_string))
            .collect();
        values.is_some_and(|values| values.len() == items.len())
    })
}

/// Numbers are the same however they are written: `1` and `1.0`.
fn same_scalar(desired: &Value, live: &Value) -> bool {
    desired == live || (desired.is_number() && live.is_number() && desired.as_f64() == live.as_f64())
}

fn shown_key(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn push_field(path: &mut String, name: &str) {
    if name.contains(['.', '/', '[', '"']) {
        let _ = write!(path, "[{name:?}]");
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
    }
}

/// The object without what only the API server writes, for showing beside what is built.
#[must_use]
pub fn without_server_fields(live: &Value) -> Value {
    let mut value = live.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.retain(|name, _| !SERVER_METADATA.contains(&name.as_str()));
        }
    }
    value
}

/// What the API server writes into metadata.
const SERVER_METADATA: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    fn paths(desired: &Value, live: &Value) -> Vec<String> {
        differences(desired, live).into_iter().map(|difference| difference.path).collect()
    }

    #[test]
    fn what_the_server_and_others_add_is_no_difference() {
        let desired = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 2, "template": {"spec": {
            "containers": [{"name": "rollup", "image": "i"}], "volumes": []}}}});
        let live = json!({"metadata": {"labels": {"a": "b", "c": "d"}, "uid": "u"}, "spec": {"replicas": 2, "template": {"spec": {
            "containers": [{"name": "other"}, {"name": "rollup", "image": "i", "imagePullPolicy": "Always"}]}}}, "status": {}});
        assert_eq!(differences(&desired, &live), []);
        assert_eq!(differences(&desired, &live), []);
    }

    #[test]
    fn a_difference_has_its_path_and_both_values() {
        let desired = json!({"spec": {"containers": [{"name": "a", "image": "new"}], "args": ["x"]}});
        let live = json!({"spec": {"containers": [{"name": "b"}, {"name": "a", "image": "old"}], "args": ["y"]}});
        let found = differences(&desired, &live);
        let expected =
            Difference { path: "spec.containers[name=a].image".to_owned(), desired: json!("new"), live: json!("old") };
        assert_eq!(found[1], expected);
        assert_eq!(found[0].path, "spec.args[0]");
    }

    #[test]
    fn what_is_missing_differs_from_null() {
        let desired =
            json!({"metadata": {"annotations": {"tallyman.dev/asked": "1"}}, "list": [{"name": "a", "v": 1}]});
        let found = differences(&desired, &json!({"metadata": {}, "list": []}));
        assert_eq!(found[0].path, "list[name=a]");
        assert_eq!(found[1].path, "metadata.annotations");
        assert_eq!(found[1].live, Value::Null);
        let there = json!({"metadata": {"annotations": {"x": ""}}, "list": [{"name": "a", "v": 1}]});
        assert_eq!(paths(&desired, &there), ["metadata.annotations[\"tallyman.dev/asked\"]"]);
    }

    #[test]
    fn a_list_without_a_key_is_equal_in_order_and_length() {
        let desired = json!({"args": ["--a", "--b"]});
        assert_eq!(paths(&desired, &json!({"args": ["--b", "--a"]})), ["args[0]", "args[1]"]);
        assert_eq!(paths(&desired, &json!({"args": ["--a", "--b", "--c"]})), ["args"]);
        assert_eq!(paths(&desired, &json!({"args": "--a --b"})), ["args"]);
    }

    #[test]
    fn an_empty_element_of_a_list_is_asked_for() {
        let everybody = json!({"ingress": [{"from": [{"podSelector": {}}]}, {}]});
        assert_eq!(paths(&everybody, &everybody), [] as [&str; 0]);
        let narrower = json!({"ingress": [{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]}, {"from": [{}]}]});
        assert_eq!(paths(&everybody, &narrower), ["ingress[1]"]);
    }

    #[test]
    fn two_mounts_of_one_volume_are_told_apart_by_where_they_are() {
        let desired = json!([{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b", "readOnly": true}]);
        let live = json!([{"name": "v", "mountPath": "/b"}, {"name": "v", "mountPath": "/a"}]);
        assert_eq!(paths(&desired, &live), ["[mountPath=/b].readOnly"]);
    }

    #[test]
    fn numbers_are_the_same_however_they_are_written() {
        assert_eq!(differences(&json!({"n": 1}), &json!({"n": 1.0})), []);
        assert_eq!(paths(&json!({"n": 1}), &json!({"n": "1"})), ["n"]);
    }

    #[test]
    fn what_only_the_server_writes_is_left_out_to_show_an_object() {
        let live = json!({"metadata": {"name": "a", "uid": "u", "managedFields": []}, "spec": {}, "status": {"n": 1}});
        assert_eq!(without_server_fields(&live), json!({"metadata": {"name": "a"}, "spec": {}}));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            (0_i64..5).prop_map(Value::from),
            "[a-c]{1,2}".prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-d]|name", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// As another manager of fields, or the API server, adds to every object.
    fn with_more(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut more: Map<String, Value> =
                    fields.iter().map(|(name, value)| (name.clone(), with_more(value))).collect();
                // An empty object in a list is not the same with something in it.
                if !more.is_empty() {
                    more.insert("added".to_owned(), Value::from("by the server"));
                }
                Value::Object(more)
            }
            Value::Array(items) => items.iter().map(with_more).collect(),
            other => other.clone(),
        }
    }

    /// The first leaf that says something, changed.
    fn with_one_change(value: &mut Value) -> bool {
        match value {
            Value::Object(fields) => {
                // A changed name is another element.
                fields.iter_mut().any(|(name, value)| name != "name" && with_one_change(value))
            }
            Value::Array(items) => items.iter_mut().any(with_one_change),
            Value::Null => false,
            leaf => {
                *leaf = Value::from("changed");
                true
            }
        }
    }

    proptest! {
        #[test]
        fn every_object_is_applied_once_it_is_there(value in values()) {
            prop_assert_eq!(differences(&value, &value), []);
        }

        #[test]
        fn what_is_added_to_the_live_object_is_no_difference(value in values()) {
            prop_assert_eq!(differences(&value, &with_more(&value)), []);
        }

        #[test]
        fn one_change_is_one_difference(value in values()) {
            let mut changed = value.clone();
            if with_one_change(&mut changed) {
                let found = differences(&value, &changed);
                prop_assert_eq!(found.len(), 1, "{:?}", found);
                prop_assert_eq!(&found[0].live, &Value::from("changed"));
            }
        }
    }
}
