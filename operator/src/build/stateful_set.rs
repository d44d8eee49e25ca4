//! StatefulSets: pods of fixed names, all started and replaced without waiting for each other's order.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::Object;
use crate::names;

pub struct Parts {
    pub metadata: ObjectMeta,
    /// Digest of what was asked of the pods.
    pub asked: String,
    pub replicas: i32,
    pub selector: LabelSelector,
    pub pod: PodSpec,
}

pub fn build(parts: Parts) -> Object {
    let Parts { mut metadata, asked, replicas, selector, pod } = parts;
    metadata.annotations = Some(BTreeMap::from([(names::ASKED.to_owned(), asked)]));
    let template = ObjectMeta { labels: metadata.labels.clone(), ..ObjectMeta::default() };
    Object::StatefulSet(Box::new(StatefulSet {
        spec: Some(StatefulSetSpec {
            service_name: metadata.name.clone(),
            replicas: Some(replicas),
            pod_management_policy: Some("Parallel".to_owned()),
            selector,
            template: PodTemplateSpec { metadata: Some(template), spec: Some(pod) },
            ..StatefulSetSpec::default()
        }),
        metadata,
        status: None,
    }))
}
