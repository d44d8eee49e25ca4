//! The pods and pod templates of a resource.

use serde_json::Value;
use tallyman_operator::names;

/// A pod, or what pods are made from.
pub struct Pods<'a> {
    /// Kind of the resource.
    pub kind: String,
    /// Its name, for messages.
    pub name: String,
    /// Metadata and spec.
    pub template: &'a mut Value,
    /// Whether the resource has the label that its template is to have, and the template does not.
    pub is_mislabelled: bool,
}

/// All pods and pod templates of a resource, or of the resources of a list.
pub fn pods(resource: &mut Value) -> Vec<Pods<'_>> {
    let kind = resource["kind"].as_str().unwrap_or_default().to_owned();
    if kind.ends_with("List") {
        return resource.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().flat_map(pods).collect();
    }
    let path = match kind.as_str() {
        "Pod" => "",
        "PodTemplate" => "/template",
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => "/spec/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return Vec::new(),
    };
    let labelled = |value: &Value| value["metadata"]["labels"][names::INJECT].is_string();
    let is_labelled = labelled(resource);
    let metadata = &resource["metadata"];
    let name = metadata["name"].as_str().or(metadata["generateName"].as_str()).unwrap_or("without a name").to_owned();
    let template = resource.pointer_mut(path).filter(|template| template.is_object());
    let pods = template.map(|template| {
        let is_mislabelled = is_labelled && !labelled(template);
        Pods { kind, name, template, is_mislabelled }
    });
    pods.into_iter().collect()
}
