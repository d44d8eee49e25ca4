//! `/validate-counternamespaces`: what the schema cannot see, as it sees one object. Pure.
//!
//! A help to who applies, not the judge: what is known here may lag, and two may be applied at once. The controller judges by the
//! dataset's own record. So what is not known is let through with a warning, and what has to be possible to get out of a
//! muddle is too: changes of what is there already, and deletion.

use serde::Deserialize;
use tallyman_crds::{CounterClass, CounterNamespace, CounterType};

use super::Resources;
use super::review::{Answer, Operation, Request};
use crate::build::was_provisioned;

/// Answers, and says what came of it for metrics.
pub(super) fn answer(resources: Option<&Resources>, request: &Request) -> (&'static str, Answer) {
    if !matches!(request.operation, Operation::Create | Operation::Update) || request.sub_resource.is_some() {
        return ("allowed", Answer::default());
    }
    let answer = match (resources, CounterNamespace::deserialize(&request.object)) {
        (Some(resources), Ok(mut namespace)) => {
            namespace.metadata.namespace.get_or_insert_with(|| request.namespace.clone());
            judge(&namespace, request.operation == Operation::Create, resources)
        }
        (None, _) => warn(
            "the operator has just started: this was not checked against other CounterNamespaces; see its conditions",
        ),
        (_, Err(error)) => {
            warn(format!("this was not checked against other CounterNamespaces, as it cannot be read: {error}"))
        }
    };
    let outcome = if answer.denied.is_some() { "denied" } else { "allowed" };
    (outcome, answer)
}

fn warn(warning: impl Into<String>) -> Answer {
    Answer { warnings: vec![warning.into()], ..Answer::default() }
}

/// Judges a CounterNamespace that is to be made or changed, as the schema has let it through.
#[must_use]
pub fn judge(namespace: &CounterNamespace, is_new: bool, resources: &Resources) -> Answer {
    // Taking away its finalizers is a change too, and must never fail.
    if namespace.metadata.deletion_timestamp.is_some() {
        return Answer::default();
    }
    let mut answer = Answer::default();
    let class = match class_of(namespace, resources) {
        Ok(class) => class.metadata.name.as_deref(),
        Err(warning) => {
            answer.warnings.push(warning);
            return answer;
        }
    };
    if namespace.spec.counter_type == CounterType::BestEffort {
        return answer;
    }
    let dataset = namespace.dataset_or_default();
    let others = resources.namespaces.iter().filter(|other| {
        key(other) != key(namespace)
            && other.spec.counter_type != CounterType::BestEffort
            && other.dataset_or_default() == dataset
            && class_of(other, resources).is_ok_and(|other| other.metadata.name.as_deref() == class)
    });
    for other in others {
        let (place, name) = key(other);
        if place != namespace.metadata.namespace.as_deref() {
            // What is there already cannot change its dataset: a warning would say nothing new each time.
            // Nor is it the other's while that has never been provisioned: Cassandra's own record says whose it is.
            if is_new && was_provisioned(other) {
                answer.denied = Some(format!(
                    "spec.dataset: {dataset:?} belongs to CounterNamespace {} of Kubernetes namespace {}, and a dataset belongs to one Kubernetes namespace: set spec.dataset to another name, such as {:?}",
                    name.unwrap_or_default(),
                    place.unwrap_or_default(),
                    qualified(namespace, &dataset),
                ));
                return answer;
            }
            continue;
        }
        let differences = differences(namespace, other);
        if !differences.is_empty() {
            let message = format!(
                "CounterNamespaces that share dataset {dataset:?} must agree on how events are kept; {} says otherwise: {}",
                name.unwrap_or_default(),
                differences.join(", ")
            );
            // One of several has to be changed first.
            if is_new {
                answer.denied = Some(message);
                return answer;
            }
            answer.warnings.push(message);
        }
    }
    answer
}

fn key(namespace: &CounterNamespace) -> (Option<&str>, Option<&str>) {
    (namespace.metadata.namespace.as_deref(), namespace.metadata.name.as_deref())
}

/// A name for the dataset that says whose it is, within the 48 characters of a keyspace.
fn qualified(namespace: &CounterNamespace, dataset: &str) -> String {
    let place = namespace.metadata.namespace.as_deref().unwrap_or_default().replace('-', "_");
    let qualified = format!("{place}_{dataset}");
    let begins = if qualified.starts_with(|first: char| first.is_ascii_lowercase()) { "" } else { "d_" };
    format!("{begins}{qualified}").chars().take(48).collect()
}

/// The class of a CounterNamespace, or why nothing comes of it yet.
fn class_of<'a>(namespace: &CounterNamespace, resources: &'a Resources) -> Result<&'a CounterClass, String> {
    if let Some(name) = &namespace.spec.class_name {
        let found = resources.classes.iter().find(|class| class.metadata.name.as_ref() == Some(name));
        return found.map(AsRef::as_ref).ok_or_else(|| {
            format!("spec.className: there is no CounterClass {name:?}; nothing is provided until there is")
        });
    }
    let mut defaults = resources.classes.iter().filter(|class| class.spec.default);
    match (defaults.next(), defaults.next()) {
        (Some(class), None) => Ok(class),
        (None, _) => {
            Err("spec.className is not set, and no CounterClass is the default; nothing is provided until one is"
                .to_owned())
        }
        (Some(one), Some(two)) => {
            let name = |class: &CounterClass| class.metadata.name.clone().unwrap_or_default();
            Err(format!(
                "spec.className is not set, and several CounterClasses are the default, {} and {} among them; nothing is provided until one is",
                name(one),
                name(two)
            ))
        }
    }
}

/// Settings of slices that two do not agree on. What one of them leaves to the capacity plan is not known here.
fn differences(one: &CounterNamespace, other: &CounterNamespace) -> Vec<String> {
    let (one, other) = (one.spec.event_store_or_default(), other.spec.event_store_or_default());
    let mut found = Vec::new();
    let mut compare = |field: &str, one: String, other: String| {
        if one != other {
            found.push(format!("eventStore.{field} {other}, not {one}"));
        }
    };
    compare("acceptLimit", one.accept_limit.to_string(), other.accept_limit.to_string());
    compare("writeTimeout", one.write_timeout.to_string(), other.write_timeout.to_string());
    compare("maxClockSkew", one.max_clock_skew.to_string(), other.max_clock_skew.to_string());
    compare("retention.closeAfter", one.retention.close_after.to_string(), other.retention.close_after.to_string());
    compare("retention.deleteAfter", one.retention.delete_after.to_string(), other.retention.delete_after.to_string());
    if let (Some(one), Some(other)) = (one.buckets_per_id, other.buckets_per_id) {
        compare("bucketsPerId", one.to_string(), other.to_string());
    }
    if let (Some(one), Some(other)) = (one.bucket_width, other.bucket_width) {
        compare("bucketWidth", one.to_string(), other.to_string());
    }
    if let (Some(one), Some(other)) = (one.slice_width, other.slice_width) {
        compare("sliceWidth", one.to_string(), other.to_string());
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn namespace(place: &str, name: &str, spec: Value) -> CounterNamespace {
        let mut all = json!({"counterType": "Eventual"});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterNamespace",
            "metadata": {"namespace": place, "name": name}, "spec": all
        }))
        .unwrap()
    }

    fn class(name: &str, default: bool) -> CounterClass {
        serde_json::from_value(json!({
            "apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterClass", "metadata": {"name": name},
            "spec": {"default": default, "cassandra":
                {"contactPoints": ["cassandra:9042"], "localDatacenter": "dc1", "replication": {"dc1": 3}}}
        }))
        .unwrap()
    }

    fn resources(namespaces: &[CounterNamespace]) -> Resources {
        Resources {
            namespaces: namespaces.iter().cloned().map(Arc::new).collect(),
            classes: vec![Arc::new(class("usual", true)), Arc::new(class("other", false))],
        }
    }

    #[test]
    fn a_dataset_of_another_kubernetes_namespace_is_refused_with_a_name_to_take() {
        let mut other = namespace("shop", "likes", json!({}));
        let claims = namespace("my-blog", "likes", json!({}));
        assert_eq!(judge(&claims, true, &resources(&[other.clone()])), Answer::default(), "nobody has it yet");
        other.status = serde_json::from_value(json!({"slices": {"open": 1, "closed": 0}})).unwrap();
        let known = resources(&[other]);
        let denied = judge(&claims, true, &known).denied.unwrap();
        assert!(
            denied.contains("\"likes\" belongs to CounterNamespace likes of Kubernetes namespace shop"),
            "{denied}"
        );
        assert!(denied.contains("\"my_blog_likes\""), "{denied}");
        for allowed in [
            namespace("blog", "likes", json!({"dataset": "my_blog_likes"})),
            namespace("blog", "likes", json!({"className": "other"})),
            namespace("blog", "likes", json!({"counterType": "BestEffort"})),
            namespace("shop", "likes", json!({})),
        ] {
            assert_eq!(judge(&allowed, true, &known), Answer::default());
        }
    }

    #[test]
    fn siblings_must_agree_when_made_and_are_warned_when_changed() {
        let known = resources(&[namespace("shop", "likes", json!({"dataset": "shop"}))]);
        let sibling = namespace("shop", "plays", json!({"dataset": "shop", "eventStore": {"acceptLimit": "10s"}}));
        let denied = judge(&sibling, true, &known).denied.unwrap();
        assert!(denied.contains("likes says otherwise: eventStore.acceptLimit 5s, not 10s"), "{denied}");
        let changed = judge(&sibling, false, &known);
        assert_eq!((changed.denied, changed.warnings), (None, vec![denied]));
        let agreeing = namespace("shop", "plays", json!({"dataset": "shop", "eventStore": {"bucketsPerId": 4}}));
        assert_eq!(judge(&agreeing, true, &known), Answer::default());
    }

    #[test]
    fn a_class_that_is_not_there_is_warned_of() {
        let warned = judge(&namespace("shop", "likes", json!({"className": "missing"})), true, &resources(&[]));
        assert_eq!(warned.denied, None);
        assert!(warned.warnings[0].contains("\"missing\""));
        let none = Resources::default();
        assert!(
            judge(&namespace("shop", "likes", json!({})), true, &none).warnings[0]
                .contains("no CounterClass is the default")
        );
        let two = Resources { classes: vec![Arc::new(class("a", true)), Arc::new(class("b", true))], ..none };
        assert!(judge(&namespace("shop", "likes", json!({})), true, &two).warnings[0].contains("a and b"));
    }

    #[test]
    fn what_is_being_deleted_can_always_change() {
        let mut deleted = namespace("blog", "likes", json!({"className": "missing"}));
        deleted.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        assert_eq!(judge(&deleted, false, &resources(&[])), Answer::default());
    }

    #[test]
    fn a_name_to_take_is_a_keyspaces() {
        let long = namespace(&"1".repeat(63), &"a".repeat(40), json!({}));
        let name = qualified(&long, "likes");
        assert!(name.len() <= 48 && name.starts_with("d_1"), "{name}");
    }
}
