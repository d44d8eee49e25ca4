//! The webhook as the API server asks it: by the chart's configurations, and with the certificate that the operator makes.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tallyman_e2e::binaries::{Binaries, command};
use tallyman_e2e::control_plane::{Corner, OperatorProcess, merge};

use crate::chart;

const IMAGE: &str = "registry.example/sidecar:1";
const SECRET: &str = "tallyman-webhook-certificates";

/// A corner whose operator is asked about its pods and CounterNamespaces.
fn start(name: &str) -> (Corner, OperatorProcess) {
    start_with(name, &[])
}

/// The same, of an operator with further options.
fn start_with(name: &str, options: &[(&str, &str)]) -> (Corner, OperatorProcess) {
    let corner = Corner::new(name).with_class();
    let mut operator = corner.operator("a");
    operator.set("--sidecar-image", IMAGE);
    for (option, value) in options {
        operator.set(option, value);
    }
    chart::install_webhooks(&corner, &operator);
    operator.start();
    corner.wait_for("a webhook that can be reached", || operator.page("/readyz").contains("ok").then_some(()));
    corner.wait_for("an API server that trusts it", || chart::trusted(&corner));
    // It hears of its configuration a moment later than it has it.
    corner.wait_for("an API server that asks it", || {
        let output = apply(&corner, &pod("probe", json!({})), &["--dry-run=server", "-o", "json"]);
        String::from_utf8_lossy(&output.stdout).contains(IMAGE).then_some(())
    });
    (corner, operator)
}

fn pod(name: &str, more: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name,
            "labels": {"tallyman.dev/inject": "true"}, "annotations": {"tallyman.dev/counter-namespaces": "plays"}},
        "spec": {"containers": [{"name": "web", "image": "registry.example/web:1"}]}});
    merge(&mut pod, more);
    pod
}

fn apply(corner: &Corner, object: &Value, more: &[&str]) -> Output {
    let arguments = [&["-n", &corner.name, "apply", "--server-side", "-f", "-"], more].concat();
    corner.try_kubectl(&arguments, &object.to_string())
}

/// What `tallyman inject` makes of an object.
fn injected(object: &Value) -> Value {
    let mut inject = command(Binaries::built().tallyman());
    inject.args(["inject", "--sidecar-image", IMAGE, "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = inject.spawn().unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    tallyman_e2e::packaging::documents(&String::from_utf8(output.stdout).unwrap()).remove(0)
}

/// The sidecar of a pod, or of a pod template.
fn sidecar(pod: &Value) -> Option<Value> {
    let containers = pod["spec"]["initContainers"].as_array()?;
    containers.iter().find(|container| container["name"] == "tallyman-sidecar").cloned()
}

/// Whether `live` has all that `asked` has; the API server adds to it.
fn assert_holds(live: &Value, asked: &Value, path: &str) {
    match (live, asked) {
        (Value::Object(live), Value::Object(asked)) => {
            for (name, value) in asked {
                assert_holds(live.get(name).unwrap_or(&Value::Null), value, &format!("{path}.{name}"));
            }
        }
        (Value::Array(live), Value::Array(asked)) if live.first().is_some_and(Value::is_object) => {
            for value in asked {
                let found = live.iter().find(|known| known["name"] == value["name"]);
                assert_holds(found.unwrap_or(&Value::Null), value, &format!("{path}[{}]", value["name"]));
            }
        }
        (live, asked) => assert_eq!(live, asked, "{path}"),
    }
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_pod_that_asks_gets_the_sidecar_that_tallyman_inject_makes_and_one_that_opts_out_gets_none() {
    let (corner, mut operator) = start("webhook-inject");
    let asks = pod("asks", json!({}));
    let output = apply(&corner, &asks, &[]);
    assert!(output.status.success(), "{output:?}");
    let live = corner.get("pod", "asks").unwrap();
    let expected = injected(&asks);
    assert!(sidecar(&expected).is_some(), "{expected}");
    assert_holds(&live["spec"], &expected["spec"], "spec");
    assert_holds(&live["metadata"]["annotations"], &expected["metadata"]["annotations"], "annotations");
    // There is no such CounterNamespace yet.
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warning.contains("no CounterNamespace plays"), "{warning}");

    let template = pod("web", json!({"metadata": {"name": null, "labels": {"app": "web"}}}));
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}}, "serviceName": "web", "template": {
            "metadata": template["metadata"], "spec": template["spec"]}}});
    assert!(apply(&corner, &set, &[]).status.success());
    let live = corner.wait_for("the StatefulSet's pod", || corner.get("pod", "web-0"));
    assert_holds(&sidecar(&live).unwrap(), &sidecar(&injected(&set)["spec"]["template"]).unwrap(), "sidecar");

    for (name, label) in [("opts-out", json!("false")), ("asks-nothing", Value::Null)] {
        let asked = pod(name, json!({"metadata": {"labels": {"tallyman.dev/inject": label}}}));
        assert!(apply(&corner, &asked, &[]).status.success());
        assert_eq!(sidecar(&corner.get("pod", name).unwrap()), None);
    }
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn an_operator_that_is_told_to_end_answers_until_api_servers_have_heard_of_it() {
    let (corner, mut operator) = start_with("webhook-linger", &[("--webhook-linger", "5m")]);
    operator.pid().terminate().unwrap();
    corner.wait_for("it to go away", || operator.log().contains("going away").then_some(()));
    // On a connection that was there before, and on new ones.
    for number in 0..3 {
        let output = apply(&corner, &pod(&format!("late-{number}"), json!({})), &[]);
        assert!(output.status.success(), "{output:?}");
        assert!(sidecar(&corner.get("pod", &format!("late-{number}")).unwrap()).is_some());
    }
    // Longer than anybody waits here.
    operator.kill();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_pod_that_cannot_have_a_sidecar_runs_without_and_its_maker_hears_why() {
    let (corner, mut operator) = start("webhook-skip");
    let on_host = pod("on-host", json!({"spec": {"hostNetwork": true}}));
    let output = apply(&corner, &on_host, &[]);
    assert!(output.status.success(), "{output:?}");
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warning.contains("no Tallyman sidecar was injected") && warning.contains("hostNetwork"), "{warning}");
    assert_eq!(sidecar(&corner.get("pod", "on-host").unwrap()), None);

    let template = pod(
        "web",
        json!({"metadata": {"name": null, "labels": {"app": "web"}}, "spec": {"containers": [
        {"name": "web", "image": "registry.example/web:1", "ports": [{"containerPort": 7777}]}]}}),
    );
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {
        "selector": {"matchLabels": {"app": "web"}}, "serviceName": "web", "template": {
            "metadata": template["metadata"], "spec": template["spec"]}}});
    assert!(apply(&corner, &set, &[]).status.success());
    assert_eq!(sidecar(&corner.wait_for("the StatefulSet's pod", || corner.get("pod", "web-0"))), None);
    for (kind, name, reason) in [("Pod", "on-host", "hostNetwork"), ("StatefulSet", "web", "port 7777")] {
        corner.wait_for(&format!("an Event for {kind} {name}"), || {
            corner.list("events").into_iter().find(|event| {
                event["reason"] == "SidecarNotInjected"
                    && event["involvedObject"]["kind"] == kind
                    && event["involvedObject"]["name"] == name
                    && event["message"].as_str().unwrap().contains(reason)
            })
        });
    }
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_pod_with_an_annotation_that_makes_no_sense_is_refused_by_kubectl() {
    let (corner, mut operator) = start("webhook-refuse");
    for (annotations, complaint) in [
        (json!({"tallyman.dev/counter-namespaces": null}), "tallyman.dev/counter-namespaces is missing"),
        (json!({"tallyman.dev/counter-namespaces": "Plays!"}), "tallyman.dev/counter-namespaces: \"Plays!\""),
        (json!({"tallyman.dev/sidecar-memory": "much"}), "tallyman.dev/sidecar-memory: \"much\""),
        (json!({"tallyman.dev/sidecar-readiness": "maybe"}), "tallyman.dev/sidecar-readiness: \"maybe\""),
    ] {
        let output = apply(&corner, &pod("wrong", json!({"metadata": {"annotations": annotations}})), &[]);
        assert!(!output.status.success(), "{annotations}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(complaint), "{complaint}: {told}");
    }
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn status_tells_of_pods_with_no_sidecar_or_an_old_one() {
    let (corner, mut operator) = start("webhook-status");
    corner.apply(&corner.counter_namespace("plays", json!({"rollup": {"replicas": 1}})));
    corner.wait_until_ready("plays");
    assert!(apply(&corner, &pod("asks", json!({})), &[]).status.success());
    corner.wait_for_condition("plays", "SidecarsCurrent", "True", "");

    let on_host = pod("on-host", json!({"spec": {"hostNetwork": true}}));
    assert!(apply(&corner, &on_host, &[]).status.success());
    corner.wait_for_condition("plays", "SidecarsCurrent", "False", "SidecarsMissing");
    corner.kubectl(&["-n", &corner.name, "delete", "pod", "on-host"]);
    corner.wait_for_condition("plays", "SidecarsCurrent", "True", "");

    // What pods get is another image from now on.
    corner.apply(&corner.class(json!({"images": {"sidecar": "registry.example/sidecar:2"}})));
    corner.wait_for_condition("plays", "SidecarsCurrent", "False", "SidecarsOld");
    corner.kubectl(&["-n", &corner.name, "delete", "pod", "asks"]);
    assert!(apply(&corner, &pod("asks", json!({})), &[]).status.success());
    assert_eq!(sidecar(&corner.get("pod", "asks").unwrap()).unwrap()["image"], "registry.example/sidecar:2");
    corner.wait_for_condition("plays", "SidecarsCurrent", "True", "");
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_counter_namespace_that_does_not_go_with_another_is_refused_by_kubectl() {
    let (corner, mut operator) = start("webhook-validate");
    let here = |name: &str, spec: Value| {
        let mut spec = json!({"rollup": {"replicas": 1}, "dataset": "webhook_validate", "eventStore": spec});
        if name == "elsewhere" {
            merge(&mut spec, json!({"eventStore": null}));
        }
        corner.counter_namespace(name, spec)
    };
    corner.apply(&here("plays", json!({"acceptLimit": "5s"})));
    let disagrees = here("likes", json!({"acceptLimit": "7s"}));
    // What it judges by may be a second old.
    let told = corner.wait_for("a refusal", || {
        let output = apply(&corner, &disagrees, &["--dry-run=server"]);
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    });
    assert!(told.contains("must agree on how events are kept; plays says otherwise"), "{told}");
    assert!(told.contains("eventStore.acceptLimit 5s, not 7s"), "{told}");
    assert!(apply(&corner, &here("likes", json!({"acceptLimit": "5s"})), &[]).status.success());

    let no_class = corner.counter_namespace("views", json!({"className": "nobodys"}));
    let output = apply(&corner, &no_class, &[]);
    assert!(output.status.success(), "{output:?}");
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(warning.contains("there is no CounterClass \"nobodys\""), "{warning}");
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_dataset_of_another_kubernetes_namespace_is_refused_by_kubectl() {
    let other = Corner::new("webhook-dataset-b");
    let corner = Corner::new("webhook-dataset").with_class();
    let mut operator = corner.operator("a");
    operator.set("--watch-namespaces", &format!("{},{}", corner.name, other.name)).set("--sidecar-image", IMAGE);
    chart::install_webhooks(&corner, &operator);
    operator.start();
    corner.wait_for("an API server that trusts the webhook", || chart::trusted(&corner));
    let mut taken = corner.counter_namespace("plays", json!({"rollup": {"replicas": 1}, "dataset": "webhook_taken"}));
    taken["metadata"]["namespace"] = json!(other.name);
    corner.apply(&taken);
    let mut claims = taken.clone();
    claims["metadata"]["namespace"] = json!(corner.name);
    let told = corner.wait_for("a refusal", || {
        let output = apply(&corner, &claims, &["--dry-run=server"]);
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    });
    let belongs = format!("\"webhook_taken\" belongs to CounterNamespace plays of Kubernetes namespace {}", other.name);
    assert!(told.contains("spec.dataset") && told.contains(&belongs), "{told}");
    operator.terminate();
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn certificates_are_made_by_the_operator_and_come_back_when_they_are_deleted() {
    let (corner, mut operator) = start("webhook-certificates");
    let secret = || -> Option<Value> {
        let text =
            corner.kubectl(&["-n", &corner.system(), "get", "secret", SECRET, "-o", "json", "--ignore-not-found"]);
        serde_json::from_str(&text).ok()
    };
    let first = secret().unwrap();
    for key in ["ca.crt", "ca.key", "tls.crt", "tls.key"] {
        assert!(first["data"][key].is_string(), "{key}");
    }
    let trusted = chart::trusted(&corner).unwrap();
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        let nothing = r#"[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]"#;
        corner.kubectl(&["patch", kind, &corner.name, "--type=json", "-p", nothing]);
    }
    corner.wait_for("what was taken out of the configurations", || (chart::trusted(&corner)? == trusted).then_some(()));

    corner.kubectl(&["-n", &corner.system(), "delete", "secret", SECRET]);
    let second = corner.wait_for("a new certificate", secret);
    assert_ne!(first["data"]["ca.crt"], second["data"]["ca.crt"]);
    corner.wait_for("trust in the new one", || (chart::trusted(&corner)? != trusted).then_some(()));
    corner.wait_for("a pod with a sidecar by the new one", || {
        let output = apply(&corner, &pod("asks", json!({})), &["--dry-run=server", "-o", "json"]);
        String::from_utf8_lossy(&output.stdout).contains(IMAGE).then_some(())
    });
    operator.terminate();
}
