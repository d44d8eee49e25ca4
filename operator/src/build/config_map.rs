//! The ConfigMap with the namespace's document, which sidecars and rollup servers mount.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use tallyman_counter::configuration::NamespaceConfiguration;

use super::Object;
use super::context::Context;
use crate::names::{self, Component};

pub fn build(context: &Context<'_>, configuration: &NamespaceConfiguration) -> Object {
    let document = configuration.to_json() + "\n";
    Object::ConfigMap(Box::new(ConfigMap {
        metadata: context.metadata(names::config_map(context.name), Component::Configuration),
        data: Some(BTreeMap::from([(names::document_key(context.name), document)])),
        ..ConfigMap::default()
    }))
}
