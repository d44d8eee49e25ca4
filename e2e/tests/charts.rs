//! The charts and the kustomize base: what they render, what they refuse, and what the operator may do once they are installed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tallyman_cluster::{Cluster, Place, Shape, Version};
use tallyman_e2e::packaging::{complaint, documents, on, printed, root, text, tool};

const CHART: &str = "charts/tallyman";
const CRDS: &str = "charts/tallyman-crds";
const NAMESPACE: &str = "tallyman-system";
/// The third byte of the address of these tests' clusters.
const ADDRESSES: u8 = 60;
/// Set to write the golden files rather than to compare with them.
const UPDATE: &str = "UPDATE_GOLDEN";

/// The names of the sets of values in `ci/`, each with a golden file.
fn sets_of_values() -> Vec<String> {
    let files = std::fs::read_dir(root().join(CHART).join("ci")).unwrap();
    let name = |file: std::io::Result<std::fs::DirEntry>| file.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> =
        files.map(|file| name(file).strip_suffix("-values.yaml").unwrap().to_owned()).collect();
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    names
}

fn golden(set: &str) -> String {
    format!("{CHART}/golden/{set}.yaml")
}

fn values_of(set: &str) -> String {
    format!("{CHART}/ci/{set}-values.yaml")
}

fn render(set: &str) -> String {
    let mut helm = tool("helm");
    // What is rendered without a cluster must not depend on the one that this Helm was built for.
    helm.args(["template", "tallyman", CHART, "--namespace", NAMESPACE, "--kube-version", Version::default().full()]);
    printed(helm.args(["--values", &values_of(set)]))
}

/// Kind, Kubernetes namespace and name.
fn key(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!("{} {}/{}", object["kind"], metadata["namespace"].as_str().unwrap_or_default(), metadata["name"])
}

#[test]
fn the_charts_have_the_version_of_the_programs() {
    for chart in [CHART, CRDS] {
        let chart = &documents(&text(format!("{chart}/Chart.yaml")))[0];
        for field in ["version", "appVersion"] {
            assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{}: {field}", chart["name"]);
        }
    }
}

#[test]
fn every_value_has_a_schema_and_every_schema_a_value() {
    fn compare(value: &Value, schema: &Value, path: &str) {
        let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else { return };
        assert_eq!(schema["additionalProperties"], false, "{path} takes values that nobody reads");
        if fields.is_empty() {
            return;
        }
        // Helm itself hands `global` to charts that are part of others.
        let properties: BTreeMap<_, _> = properties.iter().filter(|(name, _)| *name != "global").collect();
        assert!(properties.keys().copied().eq(fields.keys()), "{path}: {:?} {:?}", properties.keys(), fields.keys());
        for (name, value) in fields {
            compare(value, properties[name], &format!("{path}.{name}"));
        }
    }
    for chart in [CHART, CRDS] {
        let schema: Value = serde_json::from_str(&text(format!("{chart}/values.schema.json"))).unwrap();
        compare(&documents(&text(format!("{chart}/values.yaml")))[0], &schema, chart);
    }
}

#[test]
fn no_rule_has_a_wildcard_and_none_lets_the_operator_list_secrets() {
    let mut rules = 0;
    for set in sets_of_values() {
        for role in documents(&text(golden(&set))) {
            let kind = role["kind"].as_str().unwrap();
            if !["Role", "ClusterRole"].contains(&kind) {
                continue;
            }
            for rule in role["rules"].as_array().unwrap() {
                rules += 1;
                let all: BTreeSet<&str> = ["apiGroups", "resources", "verbs"]
                    .iter()
                    .flat_map(|field| rule[field].as_array().unwrap())
                    .map(|text| text.as_str().unwrap())
                    .collect();
                assert!(!all.contains("*"), "{set}: {rule}");
                assert!(!all.contains("secrets") || !(all.contains("list") || all.contains("watch")), "{set}: {rule}");
                if set == "watch-namespaces" && kind == "ClusterRole" && key(&role).contains("tallyman-operator") {
                    let cluster_wide = ["counterclasses", "counterclasses/status"];
                    let named = rule["resourceNames"].as_array().is_some_and(|names| !names.is_empty());
                    let resources = rule["resources"].as_array().unwrap();
                    assert!(
                        named || resources.iter().all(|one| cluster_wide.contains(&one.as_str().unwrap())),
                        "{rule}"
                    );
                }
            }
        }
    }
    assert!(rules > 50, "{rules}");
}

#[test]
fn every_rule_of_the_operator_says_which_step_needs_it() {
    for template in ["_helpers.tpl", "rbac.yaml"] {
        let template = text(format!("{CHART}/templates/{template}"));
        let lines: Vec<&str> = template.lines().collect();
        for (index, _) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("- apiGroups:")) {
            let above = lines[index - 1].trim_start();
            assert!(above.starts_with("# ") && above.ends_with(')'), "line {}: {above}", index + 1);
        }
    }
}

/// Metrics of the form `tallyman_…` in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_part = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
    text.split(|character| !is_part(character)).filter(|word| word.starts_with("tallyman_")).collect()
}

/// All Rust sources of the programs that export metrics.
fn sources() -> String {
    fn collect(folder: &std::path::Path, sources: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, sources);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut sources = String::new();
    for package in ["counter", "daemon", "operator", "rollup", "sidecar"] {
        collect(&root().join(package).join("src"), &mut sources);
    }
    sources
}

#[test]
fn alerts_and_dashboard_read_metrics_of_the_data_plane_that_it_exports() {
    let sources = sources();
    let mut checked = 0;
    for file in ["alerts.yaml", "dashboard.json"] {
        let file = text(format!("{CHART}/files/{file}"));
        // The operator's own are looked for on its page, where it runs.
        let own = |name: &&str| name.starts_with("tallyman_operator_") || *name == "tallyman_counternamespaces";
        for metric in metrics(&file).into_iter().filter(|name| !own(name)) {
            // What the registry appends to a name.
            let suffixes = ["", "_total", "_bytes", "_seconds", "_bucket"];
            let is_there = suffixes.iter().filter_map(|suffix| metric.strip_suffix(suffix));
            assert!(is_there.into_iter().any(|name| sources.contains(&format!("\"{name}\""))), "{metric}");
            checked += 1;
        }
    }
    assert!(checked >= 15, "{checked}");
}

#[test]
fn every_alert_has_a_section_in_the_page_on_failures() {
    let page = text("docs/failure-modes.md");
    let alerts = &documents(&text(format!("{CHART}/files/alerts.yaml")))[0];
    let rules = alerts["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
    for rule in rules {
        let section = format!("\n### {}\n", rule["alert"].as_str().unwrap());
        assert!(page.contains(&section), "no section {section}");
    }
}

#[test]
#[ignore = "builds helm: cargo xtask test"]
fn the_charts_pass_helm_lint() {
    for set in sets_of_values() {
        printed(tool("helm").args(["lint", "--strict", CHART, "--values", &values_of(&set)]));
    }
    printed(tool("helm").args(["lint", "--strict", CRDS]));
}

#[test]
#[ignore = "builds helm: cargo xtask test"]
fn the_chart_renders_what_its_golden_files_say() {
    for set in sets_of_values() {
        let rendered = render(&set);
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(root().join(golden(&set)), &rendered).unwrap();
        }
        assert!(
            text(golden(&set)) == rendered,
            "{set} renders something else; {UPDATE}=1 writes it, for a look at the difference"
        );
    }
}

#[test]
#[ignore = "builds helm: cargo xtask test"]
fn a_wrong_value_is_refused_by_its_name() {
    for (value, name) in [
        ("replicas=0", "replicas"),
        ("replica=2", "replica"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.digest=sha256:12", "digest"),
        ("watchNamespaces={Shop}", "watchNamespaces"),
        ("webhook.certificates=mine", "certificates"),
        ("webhook.injection.failurePolicy=Maybe", "failurePolicy"),
        ("webhook.timeoutSeconds=31", "timeoutSeconds"),
        ("leaderElection.leaseDuration=15", "leaseDuration"),
        ("class.create=true", "cassandra"),
        ("class.spec.cassandra.contactPoint=a", "contactPoint"),
        ("monitoring.rules.enabled=yes-please", "enabled"),
    ] {
        let mut helm = tool("helm");
        helm.args(["template", "tallyman", CHART, "--kube-version", Version::default().full(), "--set", value]);
        let complaint = complaint(&mut helm);
        assert!(
            complaint.contains("values don't meet the specifications") && complaint.contains(name),
            "{value}: {complaint}"
        );
    }
}

/// The objects by their keys, without what only Helm's own have.
fn substance(yaml: &str) -> BTreeMap<String, Value> {
    fn without_helm(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("helm.sh/chart");
                fields.remove("app.kubernetes.io/managed-by");
                fields.values_mut().for_each(without_helm);
            }
            Value::Array(items) => items.iter_mut().for_each(without_helm),
            _ => {}
        }
    }
    let objects = documents(yaml).into_iter().map(|mut object| {
        without_helm(&mut object);
        (key(&object), object)
    });
    objects.collect()
}

#[test]
#[ignore = "builds kubectl: cargo xtask test"]
fn the_kustomize_base_is_what_the_charts_render() {
    let base = substance(&printed(tool("kubectl").args(["kustomize", "deploy/kustomize/base"])));
    let mut expected = substance(&text(golden("default")));
    for file in ["crds/yaml/tallyman.dev.counterclasses.yaml", "crds/yaml/tallyman.dev.counternamespaces.yaml"] {
        expected.append(&mut substance(&text(file)));
    }
    expected.append(&mut substance(&text("deploy/kustomize/base/namespace.yaml")));
    assert!(base.keys().eq(expected.keys()), "{:?}\n{:?}", base.keys(), expected.keys());
    for (key, object) in &expected {
        assert_eq!(&base[key], object, "{key}");
    }
    let overlay = printed(tool("kubectl").args(["kustomize", "deploy/kustomize/overlays/example"]));
    assert!(overlay.contains("image: registry.example.internal/tallyman/tallyman-operator:"), "{overlay}");
}

fn cluster(version: Version) -> Cluster {
    Cluster::start(&Place::named("charts", ADDRESSES).unwrap(), &Shape::control_plane(version)).unwrap()
}

fn install(cluster: &Cluster, set: &str) {
    for (name, chart, values) in [("tallyman-crds", CRDS, None), ("tallyman", CHART, Some(values_of(set)))] {
        let mut helm = on(cluster, "helm");
        helm.args(["upgrade", "--install", name, chart, "--namespace", NAMESPACE, "--create-namespace"]);
        helm.args(values.iter().flat_map(|values| ["--values", values]));
        printed(&mut helm);
        if name == "tallyman-crds" {
            let crds = ["crd/counternamespaces.tallyman.dev", "crd/counterclasses.tallyman.dev"];
            printed(on(cluster, "kubectl").args(["wait", "--for=condition=Established", "--timeout=180s"]).args(crds));
        }
    }
}

/// Kinds of operators that are not there.
fn is_foreign(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap();
    version.starts_with("monitoring.coreos.com/") || version.starts_with("cert-manager.io/")
}

#[test]
#[ignore = "starts a Kubernetes control plane: cargo xtask test"]
fn the_api_server_takes_everything_that_is_rendered() {
    for version in Version::ALL {
        let cluster = cluster(version);
        install(&cluster, "default");
        for namespace in ["shop", "media"] {
            printed(on(&cluster, "kubectl").args(["create", "namespace", namespace]));
        }
        for set in sets_of_values() {
            let objects: Vec<Value> =
                documents(&text(golden(&set))).into_iter().filter(|object| !is_foreign(object)).collect();
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), list.to_string()).unwrap();
            let mut kubectl = on(&cluster, "kubectl");
            kubectl.args([
                "apply",
                "--server-side",
                "--dry-run=server",
                "--force-conflicts",
                "--validate=strict",
                "--filename",
            ]);
            let applied = printed(kubectl.arg(file.path()));
            assert_eq!(applied.lines().count(), objects.len(), "{set}: {applied}");
        }
        let overlay = printed(tool("kubectl").args(["kustomize", "deploy/kustomize/overlays/example"]));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), overlay).unwrap();
        let mut kubectl = on(&cluster, "kubectl");
        kubectl
            .args(["apply", "--server-side", "--dry-run=server", "--force-conflicts", "--filename"])
            .arg(file.path());
        printed(&mut kubectl);
    }
}

#[test]
#[ignore = "starts a Kubernetes control plane: cargo xtask test"]
fn the_operators_pods_are_admitted_where_pod_security_is_restricted() {
    let cluster = cluster(Version::default());
    printed(on(&cluster, "kubectl").args(["create", "namespace", "strict"]));
    let label = "pod-security.kubernetes.io/enforce=restricted";
    printed(on(&cluster, "kubectl").args(["label", "namespace", "strict", label]));
    printed(on(&cluster, "kubectl").args(["create", "serviceaccount", "tallyman-operator", "--namespace", "strict"]));
    for set in sets_of_values() {
        let objects = documents(&text(golden(&set)));
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator", "namespace": "strict"}});
        pod["spec"] = deployment["spec"]["template"]["spec"].clone();
        let file = tempfile::NamedTempFile::new().unwrap();
        let create = |pod: &Value| {
            std::fs::write(file.path(), pod.to_string()).unwrap();
            let mut kubectl = on(&cluster, "kubectl");
            kubectl.args(["create", "--dry-run=server", "--filename"]).arg(file.path());
            kubectl
        };
        printed(&mut create(&pod));
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
        assert!(complaint(&mut create(&pod)).contains("violates PodSecurity"));
    }
}

/// Whether the operator may do it, to a resource, a `resource/name` or a `resource#subresource`.
fn may(cluster: &Cluster, verb: &str, what: &str, namespace: &str) -> bool {
    let (resource, subresource) = what.split_once('#').unwrap_or((what, ""));
    let mut kubectl = on(cluster, "kubectl");
    kubectl.args(["auth", "can-i", verb, resource, "--subresource", subresource, "--namespace", namespace]);
    let output = kubectl.args(["--as", "system:serviceaccount:tallyman-system:tallyman-operator"]).output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    match answer.trim() {
        "yes" => true,
        "no" => false,
        _ => panic!("{verb} {what}: {answer}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
#[ignore = "starts a Kubernetes control plane: cargo xtask test"]
fn the_operator_may_do_what_its_steps_need_and_no_more() {
    let cluster = cluster(Version::default());
    for namespace in ["shop", "media", "elsewhere"] {
        printed(on(&cluster, "kubectl").args(["create", "namespace", namespace]));
    }
    let shared = [
        ("watch", "counterclasses.tallyman.dev", "shop", true),
        ("patch", "counterclasses.tallyman.dev#status", "shop", true),
        ("create", "counterclasses.tallyman.dev", "shop", false),
        ("watch", "counternamespaces.tallyman.dev", "shop", true),
        ("patch", "counternamespaces.tallyman.dev#status", "shop", true),
        ("delete", "counternamespaces.tallyman.dev", "shop", false),
        ("patch", "statefulsets.apps", "shop", true),
        ("create", "deployments.apps", "shop", false),
        ("delete", "pods", "shop", false),
        ("create", "pods#exec", "shop", false),
        ("get", "secrets", "shop", true),
        ("list", "secrets", "shop", false),
        ("watch", "secrets", "shop", false),
        ("list", "secrets", NAMESPACE, false),
        ("get", "secret/tallyman-operator-key", NAMESPACE, true),
        ("create", "events.events.k8s.io", "shop", true),
        ("update", "lease.coordination.k8s.io/tallyman-operator", NAMESPACE, true),
        ("update", "lease.coordination.k8s.io/other", NAMESPACE, false),
        ("update", "lease.coordination.k8s.io/tallyman-operator", "kube-system", false),
        ("patch", "mutatingwebhookconfigurations/tallyman", "shop", true),
        ("patch", "mutatingwebhookconfigurations/other", "shop", false),
        ("create", "clusterroles.rbac.authorization.k8s.io", "shop", false),
        ("get", "nodes", "shop", false),
    ];
    let narrow = [
        ("watch", "counternamespaces.tallyman.dev", "elsewhere", false),
        ("get", "secrets", "elsewhere", false),
        ("get", "secret/cassandra-admin", NAMESPACE, true),
        ("get", "secret/other-cluster-admin", NAMESPACE, true),
        ("get", "secret/somebody-elses", NAMESPACE, false),
        ("patch", "secret/cassandra-admin", NAMESPACE, false),
        ("patch", "secret/tallyman-operator-key", NAMESPACE, false),
        ("patch", "secret/tallyman-webhook-certificates", NAMESPACE, true),
        ("list", "pods", "elsewhere", false),
        ("create", "events.events.k8s.io", "default", false),
    ];
    install(&cluster, "default");
    for (verb, resource, namespace, expected) in shared {
        assert_eq!(may(&cluster, verb, resource, namespace), expected, "{verb} {resource} in {namespace}");
    }
    install(&cluster, "watch-namespaces");
    for (verb, resource, namespace, expected) in shared.into_iter().chain(narrow) {
        assert_eq!(may(&cluster, verb, resource, namespace), expected, "watching: {verb} {resource} in {namespace}");
    }
}

#[test]
#[ignore = "starts a Kubernetes control plane: cargo xtask test"]
fn the_types_are_upgraded_with_their_chart_and_outlive_it() {
    let cluster = cluster(Version::default());
    install(&cluster, "default");
    let mut upgrade = on(&cluster, "helm");
    upgrade.args(["upgrade", "tallyman-crds", CRDS, "--namespace", NAMESPACE, "--set", "labels.upgraded=yes"]);
    printed(&mut upgrade);
    let mut label = on(&cluster, "kubectl");
    label.args(["get", "crd", "counternamespaces.tallyman.dev", "--output", "jsonpath={.metadata.labels.upgraded}"]);
    assert_eq!(printed(&mut label), "yes");
    printed(on(&cluster, "kubectl").args(["apply", "--filename", "examples/namespaces/page-views.yaml"]));
    for release in ["tallyman", "tallyman-crds"] {
        printed(on(&cluster, "helm").args(["uninstall", release, "--namespace", NAMESPACE]));
    }
    printed(on(&cluster, "kubectl").args(["get", "counternamespace", "page-views"]));
    // Installed again, it takes the types over as they are.
    install(&cluster, "default");
}
