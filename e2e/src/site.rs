//! A whole site: Kubernetes with a node, a development Cassandra, and Tallyman as its charts install it. Scenarios share it, each in
//! an area of its own.
//!
//! The cluster is one of our own, or the one that `TALLYMAN_E2E_KUBECONFIG` leads to, whose nodes must have the images of this
//! checkout or be able to pull them.

mod area;
mod forward;
mod history;
mod install;
mod previous;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tallyman_cluster::{Cluster, Place, Shape, Version};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use self::area::{Area, condition};
pub use self::forward::Forward;
pub use self::history::{History, version};
pub use self::install::{CASSANDRA_NAMESPACE, SYSTEM, images};
pub use self::previous::Previous;
use crate::{PATIENCE, now};

/// The cluster to test on, where it is not one of our own.
const KUBECONFIG: &str = "TALLYMAN_E2E_KUBECONFIG";
/// The Kubernetes of a cluster of our own: `1.34` or `1.36`.
const VERSION: &str = "TALLYMAN_KUBERNETES";
/// The last byte of the address of the tests' node.
const NODE: u8 = 64;
const POLL: Duration = Duration::from_millis(100);
/// Who applies things here, to the API server.
const FIELD_MANAGER: &str = "e2e";

/// What scenarios share.
pub struct Site {
    /// The administrator's.
    pub client: Client,
    /// The administrator's, for tools.
    pub kubeconfig: PathBuf,
    /// Held by those that count on nobody else's disturbances, and alone by those that disturb.
    peace: RwLock<()>,
    /// Ends with the site.
    cluster: Option<Cluster>,
}

impl Site {
    /// A cluster in which nothing is installed yet.
    /// `is_whole`: all scenarios will be played, and what they need is built first.
    pub async fn open(is_whole: bool) -> Self {
        let (cluster, kubeconfig) = match std::env::var_os(KUBECONFIG).filter(|path| !path.is_empty()) {
            Some(path) => (None, PathBuf::from(path)),
            None => {
                let version = std::env::var(VERSION).map_or_else(|_| Version::default(), |text| text.parse().unwrap());
                let place = Place::of_node("e2e-site", NODE).unwrap();
                // Built before anything waits for anything: the scenarios would have to share the machine with the compiler.
                let images = images();
                if is_whole {
                    drop(Previous::built());
                }
                let cluster = Cluster::start(&place, &Shape::with_node(version)).unwrap();
                cluster.load_images(&images).unwrap();
                let kubeconfig = cluster.kubeconfig();
                (Some(cluster), kubeconfig)
            }
        };
        let config = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        Self { client, kubeconfig, peace: RwLock::new(()), cluster }
    }

    /// While this is held, nobody disturbs what all share.
    pub async fn in_peace(&self) -> RwLockReadGuard<'_, ()> {
        self.peace.read().await
    }

    /// While this is held, nobody else is there to be disturbed.
    pub async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.peace.write().await
    }

    /// A new Kubernetes namespace of a scenario's own, in which Pod Security's strictest standard is enforced.
    pub async fn area(&self, name: &str) -> Area<'_> {
        self.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}))
            .await;
        let area = Area { site: self, name: name.to_owned() };
        // Pods need it, and a controller makes it.
        area.wait_for("the default ServiceAccount", async || area.get("ServiceAccount", "default").await).await;
        area
    }

    /// Has all that is in an area go. CounterNamespaces go before what they are looked after with; they are waited for, as their tables are
    /// work for the operator and Cassandra that others would feel.
    pub async fn close(&self, area: &str) {
        let api = self.api("CounterNamespace", Some(area));
        self.answered(async || api.delete_collection(&DeleteParams::default(), &ListParams::default()).await).await;
        self.wait_for(&format!("the CounterNamespaces of {area} to go"), async || {
            let left = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{:?}", left.iter().map(|left| &left.data["status"]).collect::<Vec<_>>()))
            }
        })
        .await;
        // A scenario that ran to its end may have removed what it needed itself.
        let _ = self.api("Namespace", None).delete(area, &DeleteParams::default()).await;
    }

    /// What is in a Kubernetes namespace that a scenario does not own.
    pub fn existing(&self, name: &str) -> Area<'_> {
        Area { site: self, name: name.to_owned() }
    }

    /// Applies an object as GitOps does: server-side.
    pub async fn apply(&self, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let kind = object.types.as_ref().unwrap().kind.clone();
        let name = object.metadata.name.clone().unwrap();
        let api = self.api(&kind, object.metadata.namespace.as_deref());
        let how = PatchParams::apply(FIELD_MANAGER).force();
        // What is asked for right after its type was installed may be unknown for a moment, and a webhook may not be up yet.
        self.wait_for(&format!("{kind} {name} to be applied"), async || {
            api.patch(&name, &how, &Patch::Apply(&object)).await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// What the class `default` says.
    pub async fn find_class(&self) -> Value {
        let class = self.api("CounterClass", None).get("default").await.unwrap();
        class.data["spec"].clone()
    }

    /// Objects of a kind, in a Kubernetes namespace or outside of all.
    pub(crate) fn api(&self, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = match kind {
            "StatefulSet" | "Deployment" => ("apps", "v1"),
            "Job" => ("batch", "v1"),
            "NetworkPolicy" => ("networking.k8s.io", "v1"),
            "PodDisruptionBudget" => ("policy", "v1"),
            "CounterNamespace" | "CounterClass" => ("tallyman.dev", "v1alpha1"),
            _ => ("", "v1"),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// What the API server answers, also where a busy machine keeps it from answering at first.
    pub async fn answered<T>(&self, ask: impl AsyncFn() -> kube::Result<T>) -> T {
        self.wait_for("an answer of the API server", async || ask().await.map_err(|error| error.to_string())).await
    }

    /// Waits until it is so; until then `look` says what it sees instead.
    pub async fn wait_for<T>(&self, what: &str, look: impl AsyncFn() -> Result<T, String>) -> T {
        let started = now();
        loop {
            match look().await {
                Ok(found) => return found,
                Err(seen) if started.elapsed() > PATIENCE => panic!("waited in vain for {what}: {seen}"),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Brings further images to the node of a cluster of our own.
    pub fn load_images(&self, archives: &[PathBuf]) {
        let cluster = self.cluster.as_ref().expect("images can be brought to a cluster of our own only");
        cluster.load_images(archives).unwrap();
    }

    /// Whether the cluster is one of our own: it has one node, whose containers we see.
    pub fn is_our_own(&self) -> bool {
        self.cluster.is_some()
    }
}
