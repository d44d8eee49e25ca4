//! The objects that we apply, as watches show them: metadata alone, which is enough to notice a change and to prune.

use std::fmt::Debug;
use std::hash::Hash;

use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::Value;

use tallyman_crds::CounterNamespace;

use crate::build::Object;
use crate::names;

/// What kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Documents.
    ConfigMap,
    /// Credentials and certificates; not watched.
    Secret,
    /// Names of pods.
    Service,
    /// Rollup and memcached servers.
    StatefulSet,
    /// How many pods may be away.
    PodDisruptionBudget,
    /// Who may connect.
    NetworkPolicy,
}

impl Kind {
    /// Of an object.
    #[must_use]
    pub fn of(object: &Object) -> Self {
        match object {
            Object::ConfigMap(_) => Self::ConfigMap,
            Object::Secret(_) => Self::Secret,
            Object::Service(_) => Self::Service,
            Object::StatefulSet(_) => Self::StatefulSet,
            Object::PodDisruptionBudget(_) => Self::PodDisruptionBudget,
            Object::NetworkPolicy(_) => Self::NetworkPolicy,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::Service => "Service",
            Self::StatefulSet => "StatefulSet",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::NetworkPolicy => "NetworkPolicy",
        }
    }

    /// Where the API has it.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        match self {
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Self::Secret => ApiResource::erase::<Secret>(&()),
            Self::Service => ApiResource::erase::<Service>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::NetworkPolicy => ApiResource::erase::<NetworkPolicy>(&()),
        }
    }
}

/// An object as the API takes it.
///
/// # Errors
/// Never for what we build: plain structs with fixed field names.
pub fn to_value(object: &Object) -> Result<Value, serde_json::Error> {
    match object {
        Object::ConfigMap(object) => serde_json::to_value(object),
        Object::Secret(object) => serde_json::to_value(object),
        Object::Service(object) => serde_json::to_value(object),
        Object::StatefulSet(object) => serde_json::to_value(object),
        Object::PodDisruptionBudget(object) => serde_json::to_value(object),
        Object::NetworkPolicy(object) => serde_json::to_value(object),
    }
}

/// What is watched of one kind.
type Seen<K> = Store<PartialObjectMeta<K>>;

/// What is watched, in one Kubernetes namespace or in all.
pub struct Owned {
    config_maps: Seen<ConfigMap>,
    services: Seen<Service>,
    stateful_sets: Seen<StatefulSet>,
    disruption_budgets: Seen<PodDisruptionBudget>,
    network_policies: Seen<NetworkPolicy>,
}

/// The owner of an object that changed: Kubernetes namespace and name of a CounterNamespace.
pub type Owner = (String, String);

impl Owned {
    /// Begins to watch, in `kubernetes_namespace` or in all; the stream tells whose object changed, and has to be read for
    /// anything to be seen.
    #[must_use]
    pub fn watch(client: &Client, kubernetes_namespace: Option<&str>) -> (Self, BoxStream<'static, Owner>) {
        let (config_maps, first) = watch(client, kubernetes_namespace);
        let (services, second) = watch(client, kubernetes_namespace);
        let (stateful_sets, third) = watch(client, kubernetes_namespace);
        let (disruption_budgets, fourth) = watch(client, kubernetes_namespace);
        let (network_policies, fifth) = watch(client, kubernetes_namespace);
        let changes = futures::stream::select_all([first, second, third, fourth, fifth]);
        (Self { config_maps, services, stateful_sets, disruption_budgets, network_policies }, changes.boxed())
    }

    /// Waits until everything that there is was seen.
    pub async fn ready(&self) {
        // An error says that the watch is gone, and then so is who waits.
        let _ = self.config_maps.wait_until_ready().await;
        let _ = self.services.wait_until_ready().await;
        let _ = self.stateful_sets.wait_until_ready().await;
        let _ = self.disruption_budgets.wait_until_ready().await;
        let _ = self.network_policies.wait_until_ready().await;
    }

    /// The version of an object as last seen.
    #[must_use]
    pub fn resource_version(&self, kind: Kind, kubernetes_namespace: &str, name: &str) -> Option<String> {
        match kind {
            Kind::ConfigMap => version(&self.config_maps, kubernetes_namespace, name),
            Kind::Secret => None,
            Kind::Service => version(&self.services, kubernetes_namespace, name),
            Kind::StatefulSet => version(&self.stateful_sets, kubernetes_namespace, name),
            Kind::PodDisruptionBudget => version(&self.disruption_budgets, kubernetes_namespace, name),
            Kind::NetworkPolicy => version(&self.network_policies, kubernetes_namespace, name),
        }
    }

    /// Whether an object is there and belongs to this CounterNamespace, as last seen.
    #[must_use]
    pub fn has(&self, kind: Kind, owner: &CounterNamespace, name: &str) -> bool {
        let owned = self.of(&owner.namespace().unwrap_or_default(), owner.uid().as_deref().unwrap_or_default());
        owned.iter().any(|(known_kind, known, _)| *known_kind == kind && known == name)
    }

    /// The objects of an owner, but for Secrets: kind, name and uid.
    #[must_use]
    pub fn of(&self, kubernetes_namespace: &str, owner: &str) -> Vec<(Kind, String, String)> {
        let mut found = Vec::new();
        let mut add =
            |kind, names: Vec<(String, String)>| found.extend(names.into_iter().map(|(name, uid)| (kind, name, uid)));
        add(Kind::StatefulSet, owned(&self.stateful_sets, kubernetes_namespace, owner));
        add(Kind::PodDisruptionBudget, owned(&self.disruption_budgets, kubernetes_namespace, owner));
        add(Kind::NetworkPolicy, owned(&self.network_policies, kubernetes_namespace, owner));
        add(Kind::Service, owned(&self.services, kubernetes_namespace, owner));
        add(Kind::ConfigMap, owned(&self.config_maps, kubernetes_namespace, owner));
        found.sort_by(|one, other| one.1.cmp(&other.1));
        found
    }
}

fn watch<K>(client: &Client, kubernetes_namespace: Option<&str>) -> (Seen<K>, BoxStream<'static, Owner>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    let api: Api<PartialObjectMeta<K>> = match kubernetes_namespace {
        Some(kubernetes_namespace) => Api::namespaced(client.clone(), kubernetes_namespace),
        None => Api::all(client.clone()),
    };
    let (reader, writer) = reflector::store();
    let ours = watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={}", names::MANAGED_BY));
    let changes = watcher(api, ours)
        .default_backoff()
        // Kept for every object, and read by nobody.
        .modify(|object: &mut PartialObjectMeta<K>| {
            object.managed_fields_mut().clear();
            object.annotations_mut().clear();
        })
        .reflect(writer)
        .touched_objects()
        .filter_map(|object| async move {
            let object =
                object.inspect_err(|error| tracing::warn!(%error, "a watch failed; it is begun again")).ok()?;
            let owner = object.owner_references().iter().find(|owner| owner.kind == "CounterNamespace")?;
            Some((object.namespace().unwrap_or_default(), owner.name.clone()))
        });
    (reader, changes.boxed())
}

fn version<K>(seen: &Seen<K>, kubernetes_namespace: &str, name: &str) -> Option<String>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()>,
{
    seen.get(&ObjectRef::new(name).within(kubernetes_namespace))?.resource_version()
}

fn owned<K>(seen: &Seen<K>, kubernetes_namespace: &str, owner: &str) -> Vec<(String, String)>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()>,
{
    let is_owned = |object: &PartialObjectMeta<K>| {
        object.namespace().as_deref() == Some(kubernetes_namespace)
            && object.metadata.deletion_timestamp.is_none()
            && object.owner_references().iter().any(|reference| reference.uid == owner)
    };
    let found = seen.state_filter(is_owned);
    found.iter().map(|object| (object.name_any(), object.uid().unwrap_or_default())).collect()
}
