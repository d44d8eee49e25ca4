//! Manifests are read as `kubectl apply` would take them, and what is wrong is said with place, value and remedy.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use tallyman_crds::manifest::{ManifestError, read_counter_classes, read_counter_namespaces, read_manifests};
use tallyman_crds::{CounterType, Duration};

fn errors(text: &str) -> Vec<String> {
    match read_counter_namespaces(text, "plays.yaml") {
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
        Ok(namespaces) => panic!("was let through: {namespaces:?}"),
    }
}

fn document(spec: &str) -> String {
    format!("apiVersion: tallyman.dev/v1alpha1\nkind: CounterNamespace\nmetadata: {{name: plays}}\nspec: {spec}\n")
}

#[test]
fn the_examples_are_one_of_each_type_and_read_without_complaint() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/namespaces");
    let mut types = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let namespaces = read_counter_namespaces(&text, &path.display().to_string()).unwrap();
        assert_eq!(namespaces.len(), 1);
        assert_eq!(path.file_stem().unwrap().to_str(), namespaces[0].metadata.name.as_deref());
        types.push(format!("{:?}", namespaces[0].spec.counter_type));
    }
    types.sort();
    assert_eq!(types, ["Accurate", "BestEffort", "Eventual"]);
}

#[test]
fn several_documents_are_read_and_empty_ones_skipped() {
    let text = format!(
        "---\n# nothing\n---\n{}---\n{}",
        document("{counterType: Eventual, rollup: {coalesce: 500ms}, eventStore: {acceptLimit: 1s}}"),
        document("{counterType: BestEffort, ttl: 90s}").replace("plays", "views"),
    );
    let namespaces = read_counter_namespaces(&text, "f").unwrap();
    assert_eq!(namespaces.len(), 2);
    assert_eq!(namespaces[0].spec.counter_type, CounterType::Eventual);
    assert_eq!(namespaces[0].spec.rollup.coalesce, Duration::from_millis(500));
    assert_eq!(namespaces[0].spec.event_store_or_default().accept_limit, Duration::from_secs(1));
    assert_eq!(namespaces[1].spec.ttl_or_default(), Duration::from_secs(90));
    assert!(read_counter_namespaces("# nothing\n", "f").unwrap().is_empty());
}

#[test]
fn the_whole_example_of_the_documentation_is_read() {
    let spec = "
  counterType: Eventual
  cardinality: Low
  className: default
  workload: {writesPerSecond: 2000, readsPerSecond: 500, counters: 100000}
  dataset: video_plays
  eventStore: {acceptLimit: 5s, bucketsPerId: 4, bucketWidth: 10m, sliceWidth: 24h, retention: {closeAfter: 144h, deleteAfter: 168h}}
  rollup: {replicas: 2, numQueues: 8, coalesce: 10s, queueCapacity: 16Mi, batchCount: 32, resources: {}}
  cache: {replicas: 2, shards: 1, memory: 256Mi, resources: {}}
  deletionPolicy: Retain
  paused: false";
    assert_eq!(read_counter_namespaces(&document(spec), "f").unwrap().len(), 1);
}

#[test]
fn what_kubectl_prints_is_read_as_what_was_applied() {
    let applied = document("{counterType: Eventual}");
    let printed = applied.replace(
        "{name: plays}",
        "{name: plays, namespace: web, creationTimestamp: null, uid: x, generation: 3, labels: {app: web}}",
    ) + "status: {observedGeneration: 3, conditions: []}\n";
    let printed = printed.replace("Eventual", "Eventual, dataset: null, workload:");
    let read = |text: &str| read_counter_namespaces(text, "f").unwrap().remove(0);
    assert_eq!(read(&printed).spec, read(&applied).spec);
    assert_eq!(read(&printed).status, None);
}

#[test]
fn a_typo_is_named_with_what_was_meant() {
    assert_eq!(
        errors(&document("{counterType: Eventual, eventStore: {accept_limit: 1s}}")),
        [
            "plays.yaml: document 1 (plays): spec.eventStore.accept_limit: \"1s\": unknown field; did you mean acceptLimit?"
        ]
    );
    let [error] = &errors(&document("{counterType: Eventual, cash: {}}"))[..] else { panic!() };
    assert!(error.contains("spec.cash: {}: unknown field; known here are cache, cardinality,"), "{error}");
    let text = document("{counterType: Eventual}").replace("{name: plays}", "{name: plays, lables: {}}");
    let [error] = &errors(&text)[..] else { panic!() };
    assert!(error.contains("metadata.lables: {}: unknown field; known here are annotations,"), "{error}");
}

#[test]
fn values_out_of_bounds_are_all_reported_with_what_is_allowed() {
    assert_eq!(
        errors(&document(
            "{counterType: Eventuel, rollup: {replicas: 0, coalesce: 1d}, cache: {memory: 256MB}, paused: 'no'}"
        )),
        [
            "plays.yaml: document 1 (plays): spec.cache.memory: \"256MB\": must be an amount of bytes such as 16Mi, 1G or 4096 (suffixes Ki, Mi, Gi, Ti, k, M, G, T)",
            "plays.yaml: document 1 (plays): spec.counterType: \"Eventuel\": must be one of BestEffort, Eventual, Accurate",
            "plays.yaml: document 1 (plays): spec.paused: \"no\": must be true or false",
            "plays.yaml: document 1 (plays): spec.rollup.coalesce: \"1d\": must be a duration in hours, minutes, seconds and milliseconds, in this order, such as 10s, 1h30m or 500ms",
            "plays.yaml: document 1 (plays): spec.rollup.replicas: 0: must be a whole number from 1 to 256",
        ]
    );
}

#[test]
fn a_width_that_is_no_whole_second_is_refused() {
    assert_eq!(
        errors(&document("{counterType: Eventual, eventStore: {bucketWidth: 1500ms}}")),
        [
            "plays.yaml: document 1 (plays): spec.eventStore.bucketWidth: \"1500ms\": must be a duration in hours, minutes and whole seconds, in this order, such as 10s, 10m or 1h30m"
        ]
    );
}

#[test]
fn a_broken_rule_is_reported_with_the_value_of_its_field() {
    assert_eq!(
        errors(&document("{counterType: Eventual, ttl: 1h}")),
        [
            "plays.yaml: document 1 (plays): spec.ttl: \"1h\": ttl is for counterType BestEffort only; Eventual and Accurate counters do not expire"
        ]
    );
}

#[test]
fn other_kinds_and_versions_are_refused_in_one_line_each() {
    let other = document("{}").replace("kind: CounterNamespace", "kind: Deployment");
    let old = document("{}").replace("v1alpha1", "v1");
    assert_eq!(
        errors(&format!("{other}---\n{old}---\nspec: {{}}\n---\n3\n")),
        [
            "plays.yaml: document 1 (plays): kind: \"Deployment\": must be one of CounterNamespace",
            "plays.yaml: document 2 (plays): apiVersion: \"tallyman.dev/v1\": must be one of tallyman.dev/v1alpha1",
            "plays.yaml: document 2 (plays): metadata.name: \"plays\": comes twice; document 1 has this name too",
            "plays.yaml: document 3: apiVersion: is required: tallyman.dev/v1alpha1",
            "plays.yaml: document 3: kind: is required: CounterNamespace",
            "plays.yaml: document 4: document: 3: must be a CounterNamespace: fields apiVersion, kind, metadata and spec",
        ]
    );
}

#[test]
fn required_fields_and_unique_names_are_asked_for() {
    assert_eq!(
        errors(&document("{}")),
        ["plays.yaml: document 1 (plays): spec.counterType: is required: one of BestEffort, Eventual, Accurate"]
    );
    let nameless = document("{counterType: Eventual}").replace("{name: plays}", "{}");
    assert_eq!(errors(&nameless), ["plays.yaml: document 1: metadata.name: is required: a text"]);
    let twice = format!("{0}---\n{0}", document("{counterType: Eventual}"));
    assert_eq!(
        errors(&twice),
        ["plays.yaml: document 2 (plays): metadata.name: \"plays\": comes twice; document 1 has this name too"]
    );
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    let error = read_counter_namespaces("a: [1\nb: 2", "plays.yaml").unwrap_err();
    assert!(matches!(error, ManifestError::Yaml { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with("plays.yaml: not valid YAML: ") && text.contains("line "), "{text}");
    let twice = document("{counterType: Eventual, paused: true, paused: false}");
    assert!(matches!(read_counter_namespaces(&twice, "f"), Err(ManifestError::Yaml { .. })));
}

const CLASS: &str = "apiVersion: tallyman.dev/v1alpha1\nkind: CounterClass\nmetadata: {name: plays}\nspec:\n  \
    cassandra: {contactPoints: [\"c:9042\"], localDatacenter: dc1, replication: {dc1: 3}}\n";

#[test]
fn classes_and_namespaces_of_one_text_are_told_apart() {
    let text = format!("{CLASS}---\n{}", document("{counterType: Eventual}"));
    let manifests = read_manifests(&text, "both.yaml").unwrap();
    assert_eq!((manifests.namespaces.len(), manifests.classes.len()), (1, 1));
    assert_eq!(manifests.classes[0].spec.region_or_default(), "dc1");
    assert_eq!(read_counter_classes(CLASS, "class.yaml").unwrap(), manifests.classes);
    assert!(read_counter_classes(&text, "class.yaml").unwrap_err().to_string().contains("must be one of CounterClass"));
    assert_eq!(errors(CLASS).len(), 1);
}

#[test]
fn a_class_is_held_to_its_schema_and_rules() {
    let error = |from: &str, to: &str| read_manifests(&CLASS.replace(from, to), "c.yaml").unwrap_err().to_string();
    assert!(error("dc1: 3", "dc2: 3").contains("cassandra.replication must name cassandra.localDatacenter"));
    assert!(error("replication", "replicas").contains("spec.cassandra.replicas"));
    assert!(error("CounterClass", "Deployment").contains("must be one of CounterNamespace, CounterClass"));
}
