//! What would change among the objects of a CounterNamespace. Pure.

use serde_json::Value;
use tallyman_operator::build::Object;
use tallyman_operator::compare::{Difference, differences};
use tallyman_operator::names;

/// An object that would be created, changed or deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    pub kind: String,
    pub name: String,
    pub change: Change,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Create,
    /// It is there, and not this CounterNamespace's: it would be left alone, and the CounterNamespace be degraded.
    Conflict,
    Update(Vec<Difference>),
    Delete,
}

/// From what runs to what is built. Of live Secrets, only metadata is known and compared.
pub fn between(built: &[Object], live: &[Value]) -> Vec<Changed> {
    let mut changed = Vec::new();
    for object in built {
        let there = live.iter().find(|live| live["kind"] == object.kind() && live["metadata"]["name"] == object.name());
        let change = match there {
            None => Some(Change::Create),
            Some(there) => change(object, there),
        };
        changed.extend(change.map(|change| Changed {
            kind: object.kind().to_owned(),
            name: object.name().to_owned(),
            change,
        }));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for there in live.iter().filter(|live| is_ours(live)) {
        let (kind, name) = (text(&there["kind"]), text(&there["metadata"]["name"]));
        if !built.iter().any(|object| object.kind() == kind && object.name() == name) {
            changed.push(Changed { kind, name, change: Change::Delete });
        }
    }
    changed
}

fn is_ours(live: &Value) -> bool {
    live["metadata"]["labels"]["app.kubernetes.io/managed-by"] == names::MANAGED_BY
}

fn change(object: &Object, there: &Value) -> Option<Change> {
    if !is_ours(there) {
        return Some(Change::Conflict);
    }
    let mut desired = object.to_value();
    if matches!(object, Object::Secret(_)) {
        desired = serde_json::json!({"metadata": desired["metadata"]});
    }
    let mut found = differences(&desired, there);
    // The operator leaves the shape of pods alone while what was asked of them is the same.
    let asked = |value: &Value| value["metadata"]["annotations"][names::ASKED].clone();
    if matches!(object, Object::StatefulSet(_)) && asked(&desired) == asked(there) {
        found.retain(|difference| !difference.path.starts_with("spec.template"));
    }
    (!found.is_empty()).then_some(Change::Update(found))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSet;
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    use super::*;

    fn set(asked: &str, replicas: i32, image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "a", "labels": {"app.kubernetes.io/managed-by": names::MANAGED_BY},
                "annotations": {names::ASKED: asked}},
            "spec": {"replicas": replicas, "selector": {}, "serviceName": "a",
                "template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
    }

    fn object(value: Value) -> Object {
        Object::StatefulSet(Box::new(serde_json::from_value::<StatefulSet>(value).unwrap()))
    }

    #[test]
    fn what_is_missing_is_created_and_what_is_left_over_is_deleted() {
        let built = [object(set("1", 2, "i"))];
        let kinds =
            |live: &[Value]| between(&built, live).into_iter().map(|changed| changed.change).collect::<Vec<_>>();
        assert_eq!(kinds(&[]), [Change::Create]);
        assert_eq!(kinds(&[set("1", 2, "i")]), []);
        let mut other = set("1", 2, "i");
        other["metadata"]["name"] = json!("b");
        assert_eq!(kinds(&[set("1", 2, "i"), other.clone()]), [Change::Delete]);
        other["metadata"]["labels"] = json!({});
        assert_eq!(kinds(&[set("1", 2, "i"), other.clone()]), [], "what is not ours is not deleted");
        other["metadata"]["name"] = json!("a");
        assert_eq!(kinds(&[other]), [Change::Conflict]);
    }

    #[test]
    fn pods_change_only_if_something_else_is_asked_of_them() {
        let paths = |asked: &str| match between(&[object(set("1", 3, "new"))], &[set(asked, 2, "old")]).remove(0).change
        {
            Change::Update(found) => found.into_iter().map(|one| one.path).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(paths("1"), ["spec.replicas"]);
        assert_eq!(paths("0").last().unwrap(), "spec.template.spec.containers[name=c].image");
    }

    #[test]
    fn the_contents_of_secrets_are_not_compared() {
        let mut live = set("1", 1, "i");
        live["kind"] = json!("Secret");
        let secret: Secret =
            serde_json::from_value(json!({"metadata": live["metadata"], "data": {"a": "YQ=="}})).unwrap();
        assert_eq!(between(&[Object::Secret(Box::new(secret))], &[live]), []);
    }
}
