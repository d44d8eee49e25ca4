//! The change that gives a pod its sidecar, as JSON patch.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation};
use serde_json::{Value, json};

use super::sidecar::{Sidecar, VOLUMES};
use crate::names;

/// What makes of `pod` the one with this sidecar, which comes first, so that other init containers can count; one that was
/// injected before goes.
pub(super) fn of(pod: &Value, sidecar: &Sidecar) -> Patch {
    let mut operations = Vec::new();
    operations.extend(removals(pod, "initContainers", &[names::SIDECAR_CONTAINER]));
    operations.extend(additions(pod, "initContainers", &[sidecar.container()], "0"));
    operations.extend(removals(pod, "volumes", &VOLUMES));
    operations.extend(additions(pod, "volumes", sidecar.volumes(), "-"));
    // There are annotations: one of them said what to serve.
    operations.push(add(["metadata", "annotations", names::INJECTED], json!(sidecar.stamp())));
    Patch(operations)
}

/// Removes what has one of these names from a list, from its end, so that indices stay right.
fn removals(pod: &Value, list: &str, names: &[&str]) -> Vec<PatchOperation> {
    let items = pod["spec"][list].as_array().into_iter().flatten().enumerate();
    let ours = items.filter(|(_, item)| item["name"].as_str().is_some_and(|name| names.contains(&name)));
    let removals = ours.map(|(index, _)| {
        let path = PointerBuf::from_tokens(["spec", list, &index.to_string()]);
        PatchOperation::Remove(RemoveOperation { path })
    });
    let mut removals: Vec<_> = removals.collect();
    removals.reverse();
    removals
}

/// Adds to a list at `position`, or the list if there is none.
fn additions(pod: &Value, list: &str, items: &[Value], position: &str) -> Vec<PatchOperation> {
    if pod["spec"][list].is_array() {
        return items.iter().map(|item| add(["spec", list, position], item.clone())).collect();
    }
    vec![add(["spec", list], json!(items))]
}

fn add<'a>(path: impl IntoIterator<Item = &'a str>, value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path), value })
}
