//! The chart's own objects, as they are for a corner: what people install is what is tested.

use serde_json::{Value, json};
use tallyman_cluster::Version;
use tallyman_e2e::control_plane::{Corner, OperatorProcess};
use tallyman_e2e::packaging::{documents, on, printed};

/// The chart's objects of these kinds for a release that is named as the corner, in the operators' Kubernetes namespace. Of its
/// Secrets, the operator may read `cassandra-admin`.
pub fn objects(corner: &Corner, kinds: &[&str], settings: &[&str]) -> Vec<Value> {
    let mut helm = on(&corner.plane.cluster, "helm");
    helm.args(["template", &corner.name, "charts/tallyman", "--namespace", &corner.system()]);
    // What is rendered must not depend on the cluster that this Helm was built for.
    helm.args(["--kube-version", Version::default().full(), "--set", "class.secretNames={cassandra-admin}"]);
    for setting in settings {
        helm.args(["--set", setting]);
    }
    let all = documents(&printed(&mut helm)).into_iter();
    all.filter(|object| kinds.contains(&object["kind"].as_str().unwrap())).collect()
}

/// The setting that has the operator look after the corner alone.
pub fn watching(corner: &Corner) -> String {
    format!("watchNamespaces={{{}}}", corner.name)
}

/// Applies the chart's webhook configurations. Their Service leads to `operator`, which is a process on this machine: by name, as
/// EndpointSlices refuse loopback addresses, and so on the operator's own port.
pub fn install_webhooks(corner: &Corner, operator: &OperatorProcess) {
    let (address, port) = (operator.webhook.ip().to_string(), operator.webhook.port());
    corner.apply(&json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "tallyman-webhook", "namespace": corner.system()},
        "spec": {"type": "ExternalName", "externalName": address, "ports": [{"port": port}]}}));
    let kinds = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
    let configurations = objects(corner, &kinds, &[&watching(corner)]);
    assert_eq!(configurations.len(), 2);
    for mut configuration in configurations {
        configuration["webhooks"][0]["clientConfig"]["service"]["port"] = json!(port);
        corner.apply(&configuration);
    }
}

/// The certificates that the API server trusts as the webhook's, base64 of PEM, in both configurations; `None` while they differ or
/// are not there.
pub fn trusted(corner: &Corner) -> Option<String> {
    let of = |kind: &str| {
        let object: Value = serde_json::from_str(&corner.kubectl(&["get", kind, &corner.name, "-o", "json"])).unwrap();
        object["webhooks"][0]["clientConfig"]["caBundle"].as_str().map(str::to_owned)
    };
    let mutating = of("mutatingwebhookconfiguration")?;
    (of("validatingwebhookconfiguration")? == mutating).then_some(mutating)
}
