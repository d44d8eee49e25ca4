//! `/mutate-pods`: a sidecar for a pod that is to be made.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::review::{Answer, Operation, Request};
use super::{Handler, Resources, SkippedPod};
use crate::inject::{self, Outcome};

/// Answers, and says what came of it for metrics.
pub(super) async fn pod(handler: &Handler, request: &Request) -> (&'static str, Answer) {
    // The containers of a pod that is there cannot change.
    if request.operation != Operation::Create || request.sub_resource.is_some() {
        return ("not_asked", Answer::default());
    }
    let metadata = ObjectMeta::deserialize(&request.object["metadata"]).unwrap_or_default();
    let counter_namespaces: BTreeSet<String> = inject::counter_namespaces(&metadata).into_iter().collect();
    let settings = handler.lookup.sidecar(&request.namespace, &counter_namespaces).await;
    match inject::inject(&request.object, &settings) {
        Outcome::Injected(injected) => {
            let mut warnings = injected.warnings;
            if let Some(resources) = handler.lookup.resources().await {
                warnings.extend(missing(&resources, &request.namespace, &counter_namespaces));
            }
            ("injected", Answer { patch: Some(injected.patch), warnings, denied: None })
        }
        Outcome::AlreadyCurrent => ("current", Answer::default()),
        Outcome::NotAsked => ("not_asked", Answer::default()),
        Outcome::Skipped(reason) => {
            let warning = format!("no Tallyman sidecar was injected: {reason}");
            if !request.dry_run {
                (handler.on_skipped)(skipped(&request.namespace, metadata, reason.to_string()));
            }
            ("skipped", Answer { warnings: vec![warning], ..Answer::default() })
        }
        Outcome::Refused(refusal) => ("refused", Answer { denied: Some(refusal.to_string()), ..Answer::default() }),
    }
}

fn skipped(kubernetes_namespace: &str, metadata: ObjectMeta, reason: String) -> SkippedPod {
    let owners = metadata.owner_references.unwrap_or_default();
    SkippedPod {
        kubernetes_namespace: kubernetes_namespace.to_owned(),
        name: metadata.name.or(metadata.generate_name).unwrap_or_default(),
        owner: owners.into_iter().find(|owner| owner.controller == Some(true)),
        reason,
    }
}

/// What does not exist yet: any order of apply is right, but a misspelt name is never going to exist.
fn missing(resources: &Resources, kubernetes_namespace: &str, counter_namespaces: &BTreeSet<String>) -> Vec<String> {
    let here =
        resources.namespaces.iter().filter(|known| known.metadata.namespace.as_deref() == Some(kubernetes_namespace));
    let known: BTreeSet<_> = here.filter_map(|known| known.metadata.name.as_deref()).collect();
    let missing = counter_namespaces.iter().filter(|name| !known.contains(name.as_str()));
    missing
        .map(|name| format!("there is no CounterNamespace {name} in Kubernetes namespace {kubernetes_namespace} yet; the sidecar serves it once there is"))
        .collect()
}
