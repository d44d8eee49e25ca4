//! What is watched in one Kubernetes namespace, or in all of them.

use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Api, Client, ResourceExt};
use tallyman_crds::CounterNamespace;
use tokio::sync::mpsc;

use super::error::Error;
use super::owned::Owned;
use super::{Guarded, seen};
use crate::{inject, names};

/// What is seen there.
pub struct Scope {
    /// The CounterNamespaces.
    pub namespaces: Store<Guarded>,
    /// What was applied for them.
    pub owned: Owned,
    /// The pods that ask for a sidecar.
    pub pods: Store<Pod>,
    triggers: mpsc::UnboundedSender<ObjectRef<Guarded>>,
}

type Watched = BoxStream<'static, Result<Guarded, watcher::Error>>;

/// What a scope's controller is fed with.
pub struct Feed {
    watched: Watched,
    reader: Store<Guarded>,
    triggers: mpsc::UnboundedReceiver<ObjectRef<Guarded>>,
}

impl Feed {
    /// Its parts.
    pub fn into_parts(self) -> (Watched, Store<Guarded>, mpsc::UnboundedReceiver<ObjectRef<Guarded>>) {
        (self.watched, self.reader, self.triggers)
    }
}

impl Scope {
    /// One for all Kubernetes namespaces when `names` is empty, else one for each.
    pub fn of(client: &Client, names: &[String]) -> Vec<(Self, Feed)> {
        if names.is_empty() {
            return vec![Self::one(client, None)];
        }
        names.iter().map(|name| Self::one(client, Some(name))).collect()
    }

    fn one(client: &Client, kubernetes_namespace: Option<&str>) -> (Self, Feed) {
        let (triggers, triggered) = mpsc::unbounded_channel();
        let api: Api<Guarded> = api(client, kubernetes_namespace);
        let (namespaces, writer) = reflector::store();
        let changes = predicates::generation.combine(predicates::annotations).combine(predicates::finalizers);
        let watched = watcher(api, watcher::Config::default())
            .default_backoff()
            .modify(|guarded: &mut Guarded| guarded.managed_fields_mut().clear())
            .reflect(writer)
            .touched_objects()
            // Our own writes to its status are no news.
            .predicate_filter(changes, PredicateConfig::default());
        let (owned, owners) = Owned::watch(client, kubernetes_namespace);
        tokio::spawn(follow(owners, triggers.clone()));
        let (pods, askers) = pods(client, kubernetes_namespace);
        tokio::spawn(follow(askers, triggers.clone()));
        let feed = Feed { watched: watched.boxed(), reader: namespaces.clone(), triggers: triggered };
        (Self { namespaces, owned, pods, triggers }, feed)
    }

    /// Waits until everything that there is was seen.
    ///
    /// # Errors
    /// [`Error::NotSeen`].
    pub async fn synced(&self) -> Result<(), Error> {
        seen("CounterNamespaces", self.namespaces()).await?;
        seen("pods", async { drop(self.pods.wait_until_ready().await) }).await?;
        seen("objects", self.owned.ready()).await
    }

    /// Waits until all CounterNamespaces that there are were seen.
    pub async fn namespaces(&self) {
        // An error says that the watch is gone, and then so is who waits.
        let _ = self.namespaces.wait_until_ready().await;
    }

    /// Has those reconciled that `is_meant` says yes to.
    pub fn trigger(&self, is_meant: impl Fn(&CounterNamespace) -> bool) {
        for guarded in self.namespaces.state() {
            if guarded.0.as_ref().is_ok_and(&is_meant) {
                // The controller that hears it is gone only with this.
                let _ = self.triggers.send(ObjectRef::from_obj(&*guarded));
            }
        }
    }
}

/// Ends when nobody hears it any more.
async fn follow(mut owners: BoxStream<'static, (String, String)>, triggers: mpsc::UnboundedSender<ObjectRef<Guarded>>) {
    loop {
        tokio::select! {
            owner = owners.next() => {
                let Some((kubernetes_namespace, name)) = owner else { return };
                if triggers.send(ObjectRef::new(&name).within(&kubernetes_namespace)).is_err() {
                    return;
                }
            }
            () = triggers.closed() => return,
        }
    }
}

fn pods(client: &Client, kubernetes_namespace: Option<&str>) -> (Store<Pod>, BoxStream<'static, (String, String)>) {
    let (reader, writer) = reflector::store();
    let asking = watcher::Config::default().labels(&format!("{}=true", names::INJECT));
    let changes = watcher(api(client, kubernetes_namespace), asking)
        .default_backoff()
        .modify(|pod: &mut Pod| {
            pod.managed_fields_mut().clear();
            pod.status = None;
        })
        .reflect(writer)
        .touched_objects()
        .predicate_filter(predicates::resource_version, PredicateConfig::default())
        .filter_map(|pod| async move { pod.ok() })
        .flat_map(|pod: Pod| {
            let kubernetes_namespace = pod.namespace().unwrap_or_default();
            let names = inject::counter_namespaces(&pod.metadata);
            futures::stream::iter(names.into_iter().map(move |name| (kubernetes_namespace.clone(), name)))
        });
    (reader, changes.boxed())
}

fn api<K>(client: &Client, kubernetes_namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match kubernetes_namespace {
        Some(kubernetes_namespace) => Api::namespaced(client.clone(), kubernetes_namespace),
        None => Api::all(client.clone()),
    }
}
