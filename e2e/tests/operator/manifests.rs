//! `kubectl apply` itself says what is wrong with a manifest: no operator is needed for it.

use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::Value;
use tallyman_e2e::control_plane::Corner;
use tallyman_e2e::packaging::{documents, root, text};

/// At once: the API server is quicker than kubectl starts.
const KUBECTLS: usize = 4;

/// Runs `work` for each of `all`, some at a time.
fn each<T: Send>(all: Vec<T>, work: impl Fn(T) + Sync) {
    let left = Mutex::new(all);
    // In a statement of its own, so that the lock is free again before the work begins.
    let next = || left.lock().unwrap().pop();
    std::thread::scope(|scope| {
        for _ in 0..KUBECTLS {
            scope.spawn(|| {
                while let Some(one) = next() {
                    work(one);
                }
            });
        }
    });
}

/// The files of a folder of manifests, each with the field that its complaints must name.
fn files(folder: &str) -> Vec<(String, String, String)> {
    let folder: PathBuf = root().join("crds/tests/data").join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|file| {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let field = text.strip_prefix("# names: ").and_then(|text| text.lines().next()).unwrap_or_default().to_owned();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), text, field)
    });
    files.collect()
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn right_manifests_are_accepted_by_kubectl() {
    let corner = Corner::new("manifests-right");
    let files = files("valid");
    assert!(files.len() >= 10);
    each(files, |(file, text, _)| {
        // A class that stayed would be everybody's, and some of these say that they are the default.
        let output = corner.try_kubectl(&["-n", &corner.name, "apply", "--dry-run=server", "-f", "-"], &text);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    });
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn wrong_manifests_are_refused_by_kubectl_with_a_message_that_names_the_field() {
    let corner = Corner::new("manifests-wrong");
    let files = files("invalid");
    assert!(files.len() >= 40);
    each(files, |(file, text, field)| {
        let output = corner.try_kubectl(&["-n", &corner.name, "apply", "-f", "-"], &text);
        assert!(!output.status.success(), "{file} was let through");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!field.is_empty() && complaint.contains(&field), "{file} should name {field}: {complaint}");
    });
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn wrong_changes_are_refused_by_kubectl_with_a_message_that_names_the_field() {
    let corner = Corner::new("manifests-changes");
    let files = files("invalid-updates");
    assert!(files.len() >= 10);
    each(files, |(file, text, field)| {
        // A Kubernetes namespace for each, as they bear the same names; classes have none, and get a name of their own.
        let place = format!("{}-{file}", corner.name);
        corner.kubectl(&["create", "namespace", &place]);
        let text = text.replace("metadata: {name: default}", &format!("metadata: {{name: {place}}}"));
        let (old, new) = text.split_once("---\n").unwrap();
        let apply = |text: &str| corner.try_kubectl(&["-n", &place, "apply", "-f", "-"], text);
        let output = apply(old);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        let output = apply(new);
        assert!(!output.status.success(), "{file} was let through");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(!field.is_empty() && complaint.contains(&field), "{file} should name {field}: {complaint}");
        let output = corner.try_kubectl(&["-n", &place, "delete", "-f", "-"], old);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    });
}

/// The paths of all fields below `schema`, as `kubectl explain` takes them.
fn fields(schema: &Value, path: &str, into: &mut Vec<String>) {
    let below = if schema["type"] == "array" { &schema["items"] } else { schema };
    for (name, property) in below["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        fields(property, &path, into);
        into.push(path);
    }
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn kubectl_explains_every_field_that_can_be_set() {
    let corner = Corner::new("manifests-explain");
    let mut all = Vec::new();
    for file in std::fs::read_dir(root().join("crds/yaml")).unwrap() {
        for crd in documents(&text(file.unwrap().path())) {
            let singular = crd["spec"]["names"]["singular"].as_str().unwrap();
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
            let spec = format!("{singular}.spec");
            fields(schema, &spec, &mut all);
            all.push(spec);
        }
    }
    assert!(all.len() >= 40, "{all:?}");
    each(all, |path| {
        let explained = corner.kubectl(&["explain", &path]);
        let description = explained.split_once("DESCRIPTION:\n").map(|(_, text)| text.trim_start()).unwrap_or_default();
        let is_told = !description.is_empty() && !description.starts_with("<empty>");
        assert!(is_told, "{path}: {explained}");
    });
}
