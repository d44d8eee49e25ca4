//! A stand-in for scheduler and kubelet, for tests without nodes: it binds pods to a node of its own, reports their containers as
//! running and ready, and lets deleted pods go. No container runs.
//!
//! Everything else is the real controllers' work: a StatefulSet becomes ready because its controller sees ready pods. It asks the API
//! server under a name of its own, [`StandinKubelet::USER`], so that audit logs tell its requests from others'.

mod report;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::error::{Error, Result};

const NODE: &str = "standin";
/// Pods that are reported at the same time.
const CONCURRENCY: u16 = 32;
/// When a request failed.
const RETRY: Duration = Duration::from_millis(200);
/// Addresses that nobody answers at. Loopback ones are refused in EndpointSlices.
const FIRST_POD_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

/// Reports pods as running until it is dropped.
#[derive(Debug)]
pub struct StandinKubelet {
    rules: Rules,
    again: mpsc::UnboundedSender<()>,
    task: JoinHandle<()>,
}

/// Which pods are ready: the last that fits a pod's labels decides.
type Rules = Arc<Mutex<Vec<(Labels, bool)>>>;
type Labels = Vec<(String, String)>;

struct Context {
    client: Client,
    rules: Rules,
    next_address: AtomicU32,
}

impl StandinKubelet {
    /// Who it is to the API server.
    pub const USER: &str = "standin-kubelet";

    /// Makes a node and starts to report pods. One at a time in a cluster.
    ///
    /// # Errors
    /// [`Error::StandinKubelet`] where the API server cannot be reached.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        let kubeconfig = cluster.user(Self::USER, &["system:masters"])?;
        let client = client(&kubeconfig).await.map_err(Error::StandinKubelet)?;
        make_node(&client).await.map_err(|error| Error::StandinKubelet(error.into()))?;
        let (again, triggers) = mpsc::unbounded();
        let rules = Rules::default();
        let context = Context {
            client: client.clone(),
            rules: Arc::clone(&rules),
            next_address: AtomicU32::new(FIRST_POD_ADDRESS.into()),
        };
        let pods = Controller::new(Api::<Pod>::all(client), watcher::Config::default())
            .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
            .reconcile_all_on(triggers)
            .run(report_pod, |_, _, _| Action::requeue(RETRY), Arc::new(context))
            .for_each(async |result| {
                if let Err(error) = result {
                    tracing::debug!(%error, "the stand-in for the kubelet tries again");
                }
            });
        Ok(Self { rules, again, task: tokio::spawn(pods) })
    }

    /// Says whether pods that have all these labels are ready, those that are there and those to come; no labels mean all pods. Pods
    /// that are not ready run all the same. Among what was said of a pod the last holds; at first all are ready.
    pub fn set_ready(&self, labels: &[(&str, &str)], is_ready: bool) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push((labels, is_ready));
        // It fails where the task has ended, which it does with the runtime only.
        let _ = self.again.unbounded_send(());
    }
}

impl Drop for StandinKubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn client(kubeconfig: &std::path::Path) -> std::result::Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The node object, without which controllers take its pods for orphans.
async fn make_node(client: &Client) -> kube::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let manager = PatchParams::apply(StandinKubelet::USER).force();
    let labels = json!({"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}});
    nodes.patch(NODE, &manager, &Patch::Apply(node)).await?;
    let ready =
        json!({"type": "Ready", "status": "True", "reason": "Standin", "message": "no node, a stand-in for one"});
    let capacity = json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
    let status = json!({"conditions": [ready], "capacity": capacity, "allocatable": capacity});
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await?;
    Ok(())
}

/// Does for one pod what is due.
async fn report_pod(pod: Arc<Pod>, context: Arc<Context>) -> kube::Result<Action> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let done = match node {
        None if report::may_be_bound(&pod) => bind(&pods, &name).await,
        Some(NODE) if pod.metadata.deletion_timestamp.is_some() => let_go(&pods, &pod).await,
        Some(NODE) => {
            let is_ready = is_ready(&context.rules.lock().unwrap_or_else(PoisonError::into_inner), &pod);
            let address = || Ipv4Addr::from(context.next_address.fetch_add(1, Ordering::Relaxed));
            match report::due(&pod, is_ready, address) {
                Some(status) => {
                    let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
                    pods.patch_status(&name, &PatchParams::default(), &patch).await.map(drop)
                }
                None => Ok(()),
            }
        }
        _ => Ok(()),
    };
    match done {
        // It is another pod by now, or none, or another has been quicker; we shall hear of it.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Action::await_change()),
        done => done.map(|()| Action::await_change()),
    }
}

async fn bind(pods: &Api<Pod>, name: &str) -> kube::Result<()> {
    let target = json!({"apiVersion": "v1", "kind": "Node", "name": NODE});
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target});
    pods.create_subresource::<Value, Value>("binding", name, &PostParams::default(), &binding).await.map(drop)
}

/// Ends a deleted pod's grace period, as a kubelet does whose containers have ended.
async fn let_go(pods: &Api<Pod>, pod: &Pod) -> kube::Result<()> {
    if pod.metadata.deletion_grace_period_seconds == Some(0) {
        // A finalizer holds it, which is not ours to remove.
        return Ok(());
    }
    let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
    let at_once = DeleteParams::default().grace_period(0).preconditions(preconditions);
    pods.delete(&pod.name_any(), &at_once).await.map(drop)
}

fn is_ready(rules: &[(Labels, bool)], pod: &Pod) -> bool {
    let fits = |labels: &Labels| labels.iter().all(|(key, value)| pod.labels().get(key) == Some(value));
    rules.iter().rev().find(|(labels, _)| fits(labels)).is_none_or(|(_, is_ready)| *is_ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(labels: &[(&str, &str)], is_ready: bool) -> (Labels, bool) {
        (labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(), is_ready)
    }

    #[test]
    fn the_last_rule_that_fits_a_pods_labels_decides_whether_it_is_ready() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"labels": {"app": "web", "tier": "front"}}})).unwrap();
        assert!(is_ready(&[], &pod));
        let mut rules = vec![rule(&[], false)];
        assert!(!is_ready(&rules, &pod));
        rules.push(rule(&[("app", "web")], true));
        assert!(is_ready(&rules, &pod));
        rules.push(rule(&[("app", "web"), ("tier", "back")], false));
        rules.push(rule(&[("zone", "a")], false));
        assert!(is_ready(&rules, &pod));
    }
}
