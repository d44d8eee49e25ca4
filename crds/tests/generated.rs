//! What is checked in under `crds/yaml/` is what the types say.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use kube::CustomResourceExt;
use serde_json::json;
use tallyman_crds::counter_namespace::{EventStore, Rollup};
use tallyman_crds::{CounterNamespace, generate};

#[test]
fn what_is_generated_and_checked_in_is_current() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (folder, files) in [
        ("crds/yaml", generate::files().unwrap()),
        ("charts/tallyman-crds/templates", generate::chart::templates().unwrap()),
        ("docs", vec![generate::reference::page().unwrap()]),
    ] {
        for file in files {
            let text = std::fs::read_to_string(root.join(folder).join(&file.name)).unwrap();
            assert!(text == file.text, "{folder}/{} is not current: run `cargo xtask generate`", file.name);
        }
    }
}

#[test]
fn the_printed_definitions_read_back_unchanged() {
    let printed: Vec<serde_json::Value> =
        generate::files().unwrap().iter().map(|file| serde_saphyr::from_str(&file.text).unwrap()).collect();
    let definitions = generate::crds().unwrap();
    assert_eq!(printed.len(), definitions.len());
    for (printed, definition) in printed.into_iter().zip(definitions) {
        let read: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
            serde_json::from_value(printed).unwrap();
        assert_eq!(read, definition);
    }
}

#[test]
fn every_field_of_the_schema_is_explained() {
    fn check(schema: &serde_json::Value, path: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            assert!(property["description"].as_str().is_some_and(|text| text.len() > 10), "{path}");
            check(property, &path);
            check(&property["items"], &path);
        }
    }
    for crd in generate::crds().unwrap() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        check(&schema["openAPIV3Schema"], &crd.spec.names.kind);
    }
}

#[test]
fn a_minimal_namespace_gets_the_same_defaults_from_the_schema_and_from_the_types() {
    let text = "{apiVersion: tallyman.dev/v1alpha1, kind: CounterNamespace, metadata: {name: plays}, \
                spec: {counterType: Eventual, eventStore: {}}}";
    let by_schema = &tallyman_crds::manifest::read_counter_namespaces(text, "f").unwrap()[0];
    let by_types: CounterNamespace = serde_json::from_value(json!({
        "apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterNamespace", "metadata": {"name": "plays"},
        "spec": {"counterType": "Eventual", "eventStore": {}},
    }))
    .unwrap();
    assert_eq!(by_schema, &by_types);
    assert_eq!(by_schema.spec.event_store, Some(EventStore::default()));
    assert_eq!(by_schema.spec.rollup, Rollup::default());
    assert_eq!(by_schema.dataset_or_default(), "plays");
}

#[test]
fn the_scale_subresource_finds_replicas_in_a_namespace_that_sets_none() {
    let crd = CounterNamespace::crd();
    let scale = crd.spec.versions[0].subresources.clone().unwrap().scale.unwrap();
    assert_eq!(scale.spec_replicas_path, ".spec.rollup.replicas");
    let text = "{apiVersion: tallyman.dev/v1alpha1, kind: CounterNamespace, metadata: {name: plays}, spec: {counterType: BestEffort}}";
    let namespace = &tallyman_crds::manifest::read_counter_namespaces(text, "f").unwrap()[0];
    let object = serde_json::to_value(namespace).unwrap();
    assert_eq!(object.pointer("/spec/rollup/replicas"), Some(&json!(2)));
}

#[test]
fn an_object_that_no_operator_has_seen_has_a_status_of_another_generation() {
    for crd in generate::crds().unwrap() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        if let Some(status) = schema.pointer("/openAPIV3Schema/properties/status") {
            assert_eq!(status["default"], json!({"observedGeneration": -1}), "{}", crd.spec.names.kind);
            assert_eq!(status["properties"]["observedGeneration"]["type"], "integer", "{}", crd.spec.names.kind);
        }
    }
    let text = "{apiVersion: tallyman.dev/v1alpha1, kind: CounterNamespace, metadata: {name: plays}, spec: {counterType: Eventual}}";
    assert_eq!(tallyman_crds::manifest::read_counter_namespaces(text, "f").unwrap()[0].status, None);
}
