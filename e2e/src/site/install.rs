//! Installs what all scenarios share, as a user would.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::Site;
use crate::packaging::{printed, root};

/// The Kubernetes namespace of the development Cassandra.
pub const CASSANDRA_NAMESPACE: &str = "data";
/// The Kubernetes namespace of the operator.
pub const SYSTEM: &str = "tallyman-system";

/// A folder of archives that were built before, for those who try one scenario again and again.
const IMAGES: &str = "TALLYMAN_E2E_IMAGES";

/// The archives of all images of this checkout, built first.
pub fn images() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os(IMAGES) {
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        return files.filter(|file| file.extension().is_some_and(|extension| extension == "tar")).collect();
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["xtask", "images", "--release", "--examples", "--output", "json"]).current_dir(root());
    let file = |line: &str| {
        let image: Value = serde_json::from_str(line).unwrap();
        root().join(image["file"].as_str().unwrap())
    };
    printed(&mut build).lines().map(file).collect()
}

impl Site {
    /// Installs Cassandra, the charts, and a class; ready when this returns.
    pub async fn install(&self) {
        let run = |name: &str, arguments: &[&str]| printed(self.tool(name).args(arguments));
        run("kubectl", &["apply", "--server-side", "--kustomize", "examples/cassandra"]);
        let chart = |name: &str, more: &[&str]| {
            let folder = format!("charts/{name}");
            let install = ["upgrade", "--install", name, &folder, "--namespace", SYSTEM, "--create-namespace"];
            run("helm", &[&install[..], more].concat());
        };
        chart("tallyman-crds", &[]);
        chart("tallyman", &["--set", "class.secretNames={cassandra-admin}"]);
        self.apply(
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cassandra-admin", "namespace": SYSTEM},
            "stringData": {"username": "cassandra", "password": "cassandra"}}),
        )
        .await;
        self.apply(json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterClass", "metadata": {"name": "default"}, "spec": {
            "default": true,
            "cassandra": {"contactPoints": [format!("cassandra.{CASSANDRA_NAMESPACE}.svc:9042")], "localDatacenter": "dc1",
                "replication": {"dc1": 1}, "adminCredentialsSecretName": "cassandra-admin"},
            // Little is set aside, so that the pods of all scenarios find a place on one node.
            "defaults": {
                "rollupResources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
                "cacheResources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
                "sidecarResources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}}}}))
            .await;
        self.existing(CASSANDRA_NAMESPACE).wait_for_rollout("StatefulSet", "cassandra").await;
        self.existing(SYSTEM).wait_for_rollout("Deployment", "tallyman-operator").await;
    }
}
