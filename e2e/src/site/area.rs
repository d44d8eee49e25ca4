//! A Kubernetes namespace of a scenario's own, and what is seen there.

use std::path::Path;
use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    Api, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams,
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::{Forward, Site};
use crate::packaging::{printed, tool};

/// Port of the sidecar's counter API, in its pod.
const COUNTER_API: u16 = 7777;

/// Part of a site.
pub struct Area<'a> {
    /// What it shares with others.
    pub site: &'a Site,
    /// The Kubernetes namespace.
    pub name: String,
}

impl Area<'_> {
    /// Applies an object in this area.
    pub async fn apply(&self, mut object: Value) {
        object["metadata"]["namespace"] = json!(self.name);
        self.site.apply(object).await;
    }

    /// Applies a CounterNamespace. Its counts go with it where the spec does not say otherwise: another run may use this cluster.
    pub async fn declare(&self, name: &str, mut spec: Value) {
        if spec["deletionPolicy"].is_null() {
            spec["deletionPolicy"] = json!("Delete");
        }
        let metadata = json!({"name": name});
        let object = json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterNamespace", "metadata": metadata, "spec": spec});
        self.apply(object).await;
    }

    pub(super) fn api(&self, kind: &str) -> Api<DynamicObject> {
        self.site.api(kind, Some(&self.name))
    }

    /// Pods.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.site.client.clone(), &self.name)
    }

    /// Creates an object, or says why the API server refuses it.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn try_create(&self, object: Value) -> Result<(), String> {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let api = self.api(&object.types.as_ref().unwrap().kind);
        api.create(&PostParams::default(), &object).await.map(drop).map_err(|error| error.to_string())
    }

    /// An object, if it is there.
    pub async fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let found = self.site.answered(async || self.api(kind).get_opt(name).await).await;
        found.map(|object| serde_json::to_value(object).unwrap())
    }

    /// An object, or that there is none, for [`wait_for`](Self::wait_for).
    pub async fn get(&self, kind: &str, name: &str) -> Result<Value, String> {
        self.find(kind, name).await.ok_or_else(|| format!("there is no {kind} {name}"))
    }

    /// Objects with these labels, `name=value`; all when empty.
    pub async fn list(&self, kind: &str, labels: &str) -> Vec<Value> {
        let parameters = ListParams::default().labels(labels);
        let list = self.site.answered(async || self.api(kind).list(&parameters).await).await;
        list.items.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
    }

    /// Merges a patch into an object, as `kubectl patch --type merge` does.
    pub async fn patch(&self, kind: &str, name: &str, patch: Value) {
        let patch = Patch::Merge(patch);
        self.site.answered(async || self.api(kind).patch(name, &PatchParams::default(), &patch).await).await;
    }

    /// Deletes an object, and waits until it is gone.
    pub async fn delete(&self, kind: &str, name: &str) {
        let uid = self.get(kind, name).await.unwrap()["metadata"]["uid"].clone();
        let ask = async || match self.api(kind).delete(name, &DeleteParams::default()).await {
            // Asked for by a request whose answer was lost.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            answer => answer.map(drop),
        };
        self.site.answered(ask).await;
        self.wait_for(&format!("{kind} {name} to go"), async || match self.find(kind, name).await {
            Some(object) if object["metadata"]["uid"] == uid => Err(object["metadata"].to_string()),
            _ => Ok(()),
        })
        .await;
    }

    /// Waits until it is so; until then `look` says what it sees instead.
    pub async fn wait_for<T>(&self, what: &str, look: impl AsyncFn() -> Result<T, String>) -> T {
        self.site.wait_for(&format!("{}: {what}", self.name), look).await
    }

    /// Waits until a CounterNamespace has a condition of this status for its newest generation.
    pub async fn wait_for_condition(&self, name: &str, kind: &str, status: &str) -> Value {
        self.wait_for(&format!("{name}: {kind}={status}"), async || {
            let object = self.get("CounterNamespace", name).await?;
            let condition = condition(&object, kind).cloned().unwrap_or_default();
            let is_current = condition["observedGeneration"] == object["metadata"]["generation"];
            if condition["status"] == status && is_current { Ok(condition) } else { Err(object["status"].to_string()) }
        })
        .await
    }

    /// Waits until a CounterNamespace is ready as its newest generation asks.
    pub async fn wait_until_ready(&self, name: &str) {
        self.wait_for_condition(name, "Ready", "True").await;
    }

    /// Waits until all pods of a Deployment or StatefulSet are as its newest generation asks, and ready; says how many.
    pub async fn wait_for_rollout(&self, kind: &str, name: &str) -> u64 {
        self.wait_for(&format!("{kind} {name} to be rolled out"), async || {
            let object = self.get(kind, name).await?;
            let (wanted, status) = (object["spec"]["replicas"].as_u64().unwrap_or(1), &object["status"]);
            let number = |field: &str| status[field].as_u64().unwrap_or(0);
            let is_done = status["observedGeneration"] == object["metadata"]["generation"]
                && ["updatedReplicas", "readyReplicas", "replicas"].iter().all(|field| number(field) == wanted);
            if is_done { Ok(wanted) } else { Err(status.to_string()) }
        })
        .await
    }

    /// The names of the pods with these labels, once those that are not ending are ready, at least one.
    pub async fn ready_pods(&self, labels: &str) -> Vec<String> {
        self.wait_for(&format!("pods of {labels} to be ready"), async || {
            let pods = self.list("Pod", labels).await;
            let living = || pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
            let is_ready = |pod: &Value| condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True");
            if living().count() > 0 && living().all(is_ready) {
                return Ok(living().map(|pod| text(&pod["metadata"]["name"])).collect());
            }
            Err(living().map(|pod| format!("{} {}\n", pod["metadata"]["name"], pod["status"])).collect())
        })
        .await
    }

    /// The pods with these labels and the instances of their containers, by which they are told from others of the same names, and from
    /// what they were before they were started again.
    pub async fn instances(&self, labels: &str) -> Vec<String> {
        let pods = self.list("Pod", labels).await;
        let mut instances: Vec<String> = pods.iter().map(instance).collect();
        instances.sort_unstable();
        instances
    }

    /// Leads to the counter API of a pod's sidecar.
    pub async fn counters_of(&self, pod: &str) -> Forward {
        self.forward(pod, COUNTER_API).await
    }

    /// Leads to a port of a pod.
    pub async fn forward(&self, pod: &str, port: u16) -> Forward {
        Forward::start(self.pods(), pod.to_owned(), port).await
    }

    /// What a container of a pod has printed.
    pub async fn log(&self, pod: &str, container: &str) -> Result<String, String> {
        let parameters = LogParams { container: Some(container.to_owned()), ..LogParams::default() };
        self.pods().logs(pod, &parameters).await.map_err(|error| error.to_string())
    }

    /// What a command prints that is run in a container and must end well.
    pub async fn exec(&self, pod: &str, container: &str, command: &[&str]) -> String {
        let parameters = AttachParams::default().container(container).stderr(true);
        let mut process = self.pods().exec(pod, command.to_vec(), &parameters).await.unwrap();
        let (mut out, mut complaints) = (String::new(), String::new());
        let (mut output, mut errors) = (process.stdout().unwrap(), process.stderr().unwrap());
        let status = process.take_status().unwrap();
        let (one, other) = tokio::join!(output.read_to_string(&mut out), errors.read_to_string(&mut complaints));
        one.and(other).unwrap();
        let status = status.await.unwrap();
        assert_eq!(status.status.as_deref(), Some("Success"), "{command:?}: {status:?}\n{out}{complaints}");
        out
    }

    /// What kubectl prints for somebody whose context is this area; it must end well.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        printed(self.site.tool("kubectl").args(["--namespace", &self.name]).args(arguments))
    }
}

impl Site {
    /// `kubectl` or `helm` as the administrator, at the root of the checkout.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = tool(name);
        command.env("KUBECONFIG", &self.kubeconfig);
        // Not the user's: what it remembers of this address may be of a cluster that had other types.
        let folder = self.kubeconfig.parent().unwrap_or(Path::new("."));
        command.env("KUBECACHEDIR", folder.join("kubectl-cache"));
        command
    }
}

fn instance(pod: &Value) -> String {
    let statuses = ["initContainerStatuses", "containerStatuses"].map(|field| &pod["status"][field]);
    let containers = statuses.into_iter().filter_map(Value::as_array).flatten();
    let restarts = containers.map(|container| format!(", {} {}", container["name"], container["restartCount"]));
    format!("{} {}{}", pod["metadata"]["name"], pod["metadata"]["uid"], restarts.collect::<String>())
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
