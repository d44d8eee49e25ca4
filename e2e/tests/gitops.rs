//! The examples: what Argo CD and Flux make of a CounterNamespace's status, and that everything applies.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use serde::Deserialize;
use serde_json::{Value, json};
use tallyman_cluster::{Cluster, Judge, Place, Shape};
use tallyman_e2e::packaging::{complaint, documents, on, printed, root, text};

const FOLDER: &str = "examples/gitops/argocd";
/// Kinds, and the names of their files.
const KINDS: [(&str, &str); 2] = [("CounterNamespace", "counternamespace"), ("CounterClass", "counterclass")];
/// The third byte of the address of these tests' cluster.
const ADDRESSES: u8 = 61;

/// A status, and what it is taken for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    name: String,
    argo: String,
    kstatus: String,
    generation: i64,
    #[serde(default)]
    is_being_deleted: bool,
    status: Option<Value>,
}

impl Case {
    fn object(&self, kind: &str) -> Value {
        let mut object = json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": kind, "spec": {},
            "metadata": {"name": "example", "namespace": "shop", "generation": self.generation}});
        if self.is_being_deleted {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-31T12:00:00Z");
        }
        if let Some(status) = &self.status {
            object["status"] = status.clone();
        }
        object
    }
}

fn cases(file: &str) -> Vec<Case> {
    let cases: Vec<Case> = serde_saphyr::from_str(&text(format!("{FOLDER}/tests/{file}.yaml"))).unwrap();
    assert!(cases.len() >= 7);
    cases
}

fn script(file: &str) -> String {
    format!("{FOLDER}/health-{file}.lua")
}

#[test]
fn argo_cds_configuration_has_the_scripts_as_they_are_beside_it() {
    let configuration = &documents(&text(format!("{FOLDER}/argocd-cm.yaml")))[0];
    for (kind, file) in KINDS {
        let inlined = &configuration["data"][format!("resource.customizations.health.tallyman.dev_{kind}")];
        assert_eq!(inlined, &json!(text(script(file))), "{kind}");
    }
}

#[test]
fn argo_cd_and_kstatus_do_not_contradict_each_other() {
    for (kind, file) in KINDS {
        for Case { name, argo, kstatus, .. } in cases(file) {
            assert!(kstatus != "Failed" || argo == "Degraded", "{kind}: {name}");
            assert!(argo != "Healthy" || kstatus == "Current", "{kind}: {name}");
        }
    }
}

#[test]
#[ignore = "builds what Argo CD and kstatus judge by: cargo xtask test"]
fn argo_cds_engine_and_kstatus_judge_each_status_as_expected() {
    let judge = Judge::new().unwrap();
    for (kind, file) in KINDS {
        let cases = cases(file);
        let objects: Vec<Value> = cases.iter().map(|case| case.object(kind)).collect();
        let by_argo = judge.argo(&root().join(script(file)), &objects).unwrap();
        let by_kstatus = judge.kstatus(&objects).unwrap();
        for (case, (argo, kstatus)) in cases.iter().zip(by_argo.iter().zip(&by_kstatus)) {
            assert_eq!((&argo.health, &kstatus.health), (&case.argo, &case.kstatus), "{kind}: {}", case.name);
        }
    }
}

#[test]
#[ignore = "starts a Kubernetes control plane: cargo xtask test"]
fn the_examples_apply_again_and_again_and_count_as_in_progress_before_an_operator_comes() {
    let cluster = Cluster::start(&Place::named("gitops", ADDRESSES).unwrap(), &Shape::default()).unwrap();
    let kubectl = |arguments: &[&str]| {
        let mut kubectl = on(&cluster, "kubectl");
        kubectl.args(arguments);
        kubectl
    };
    printed(&mut kubectl(&["create", "namespace", "tallyman-system"]));
    let apply = ["apply", "--server-side", "--kustomize", "examples/kubernetes"];
    // Before the types are there, what is known is applied, and the rest is refused until it is tried again.
    assert!(complaint(&mut kubectl(&apply)).contains("no matches for kind"));
    printed(&mut kubectl(&["apply", "--server-side", "--kustomize", "crds"]));
    let types = ["crd/counternamespaces.tallyman.dev", "crd/counterclasses.tallyman.dev"];
    printed(&mut kubectl(&[&["wait", "--for=condition=Established", "--timeout=180s"], &types[..]].concat()));
    let first = printed(&mut kubectl(&apply));
    assert!(first.contains("counternamespace.tallyman.dev/video-plays"), "{first}");
    let objects = |what: &[&str]| -> Vec<Value> {
        let list: Value = serde_json::from_str(&printed(&mut kubectl(what))).unwrap();
        list["items"].as_array().unwrap().clone()
    };
    // The status that the schema gives an object when it is read is written down with the first update.
    printed(&mut kubectl(&apply));
    let get = ["get", "counternamespaces", "--all-namespaces", "--output", "json"];
    let before = objects(&get);
    assert_eq!(before.len(), 3);
    printed(&mut kubectl(&apply));
    for (before, after) in before.iter().zip(objects(&get)) {
        assert_eq!(before["metadata"]["resourceVersion"], after["metadata"]["resourceVersion"]);
    }
    let judge = Judge::new().unwrap();
    let verdicts = judge
        .kstatus(&before)
        .unwrap()
        .into_iter()
        .chain(judge.argo(&root().join(script("counternamespace")), &before).unwrap());
    for verdict in verdicts {
        assert!(["InProgress", "Progressing"].contains(&&*verdict.health), "{verdict:?}");
    }
    // One after the other: neither changes what cannot be changed.
    for overlay in ["examples/overlays/development", "examples/overlays/production"] {
        printed(&mut kubectl(&["apply", "--server-side", "--kustomize", overlay]));
    }
}
