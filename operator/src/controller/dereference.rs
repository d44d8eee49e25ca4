//! Everything outside a CounterNamespace that its reconcile depends on, read: its class, the other namespaces of its dataset,
//! the Secrets we keep for it, the images it was given, the pods that should have its sidecar.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, ResourceExt};
use tallyman_crds::counter_namespace::ImagesStatus;
use tallyman_crds::{CounterClass, CounterNamespace, CounterType};

use super::classes::ClassState;
use super::error::{Error, full_name};
use super::{Context, Scope};
use crate::cassandra::Access;
use crate::certificates::KeyPair;
use crate::{inject, names};

/// What a namespace's class is.
#[derive(Debug)]
pub enum ClassFound {
    /// It can be used.
    Usable {
        /// The class.
        class: Arc<CounterClass>,
        /// How its cluster is reached.
        access: Access,
    },
    /// There is none of this name.
    Missing(String),
    /// None is named, and none is marked as default.
    NoDefault,
    /// None is named, and several are marked as default.
    SeveralDefaults(Vec<String>),
    /// It is there and cannot be used yet, and why.
    Unusable(String),
}

/// A pod that asks for this namespace's sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sidecar {
    /// It has the one it should have.
    Current,
    /// It has another one.
    Old,
    /// It has none.
    Missing,
}

/// What was found.
pub struct Dereferenced {
    /// The class.
    pub class: ClassFound,
    /// The class's name, as far as it is decided.
    pub class_name: Option<String>,
    /// Other namespaces of the same dataset and class, wherever they are.
    pub siblings: Vec<Arc<CounterNamespace>>,
    /// What we issued earlier for rollup streams, as far as it is there.
    pub rollup_tls: IssuedTls,
    /// The images in use, where some are.
    pub pinned: ImagesStatus,
    /// Its pods.
    pub sidecars: Vec<Sidecar>,
}

/// Certificates as their Secrets hold them.
#[derive(Default)]
pub struct IssuedTls {
    /// The authority.
    pub authority: Option<KeyPair>,
    /// Of rollup servers.
    pub server: Option<KeyPair>,
    /// Of sidecars.
    pub client: Option<KeyPair>,
}

/// Reads it all.
///
/// # Errors
/// When the Kubernetes API does not answer.
pub async fn dereference(
    context: &Context,
    scope: &Scope,
    namespace: &CounterNamespace,
) -> Result<Dereferenced, Error> {
    let pinned_class = namespace.status.as_ref().and_then(|status| status.class_name.clone());
    let asked = namespace.spec.class_name.clone().or(pinned_class);
    let class = match asked {
        Some(name) => context.classes.get(&name).map_or(ClassFound::Missing(name), ClassFound::from),
        None => default_class(context),
    };
    let class_name = match &class {
        ClassFound::Usable { class, .. } => class.metadata.name.clone(),
        ClassFound::Missing(name) => Some(name.clone()),
        _ => None,
    };
    let is_durable = namespace.spec.counter_type != CounterType::BestEffort;
    let siblings = if is_durable { siblings(context, namespace, class_name.as_deref()) } else { Vec::new() };
    let rollup_tls = if is_durable { issued(context, namespace).await? } else { IssuedTls::default() };
    let sidecars = sidecars(context, scope, namespace);
    Ok(Dereferenced { class, class_name, siblings, rollup_tls, pinned: pinned(context, namespace).await?, sidecars })
}

impl From<ClassState> for ClassFound {
    fn from(state: ClassState) -> Self {
        match state {
            ClassState::Usable { class, access } => Self::Usable { class, access },
            ClassState::Unusable { message, .. } => Self::Unusable(message),
        }
    }
}

fn default_class(context: &Context) -> ClassFound {
    let mut defaults = context.classes.defaults();
    match defaults.len() {
        0 => ClassFound::NoDefault,
        1 => ClassFound::from(defaults.remove(0).1),
        _ => ClassFound::SeveralDefaults(defaults.into_iter().map(|(name, _)| name).collect()),
    }
}

fn siblings(context: &Context, namespace: &CounterNamespace, class: Option<&str>) -> Vec<Arc<CounterNamespace>> {
    let dataset = namespace.dataset_or_default();
    let is_sibling = |other: &CounterNamespace| {
        other.metadata.uid != namespace.metadata.uid
            && other.spec.counter_type != CounterType::BestEffort
            && other.metadata.deletion_timestamp.is_none()
            && other.dataset_or_default() == dataset
            && context.class_of(other).as_deref() == class
    };
    context.namespaces(is_sibling)
}

async fn issued(context: &Context, namespace: &CounterNamespace) -> Result<IssuedTls, Error> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let api: Api<Secret> =
        Api::namespaced(context.client.clone(), namespace.metadata.namespace.as_deref().unwrap_or_default());
    let read = async |secret: String| {
        let doing = format!("read Secret {secret} for {}", full_name(namespace));
        api.get_opt(&secret).await.map_err(Error::doing(doing)).map(|secret| secret.and_then(|secret| secret.data))
    };
    let authority = read(names::rollup_authority(name)).await?;
    let server = read(names::rollup_secret(name)).await?;
    let client = read(names::sidecar_secret(name)).await?;
    let [_, certificate, key] = names::rollup_tls_keys(name);
    Ok(IssuedTls {
        authority: key_pair(authority.as_ref(), "ca.crt", "ca.key"),
        server: key_pair(server.as_ref(), &certificate, &key),
        client: key_pair(client.as_ref(), &certificate, &key),
    })
}

fn key_pair(data: Option<&BTreeMap<String, ByteString>>, certificate: &str, key: &str) -> Option<KeyPair> {
    let text = |name: &str| data?.get(name).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
    Some(KeyPair { certificate: text(certificate)?, key: text(key)? })
}

/// The images that were pinned: as the status says, and where it was lost (a restored backup has none), as the servers run.
async fn pinned(context: &Context, namespace: &CounterNamespace) -> Result<ImagesStatus, Error> {
    if let Some(images) = namespace.status.as_ref().and_then(|status| status.images.clone()) {
        return Ok(images);
    }
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let kubernetes_namespace = namespace.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<StatefulSet> = Api::namespaced(context.client.clone(), kubernetes_namespace);
    let image = async |stateful_set: String| {
        let doing = format!("read StatefulSet {stateful_set}");
        let found = api.get_opt(&stateful_set).await.map_err(Error::doing(doing))?;
        let is_ours = |set: &StatefulSet| {
            set.metadata
                .owner_references
                .iter()
                .flatten()
                .any(|owner| Some(&owner.uid) == namespace.metadata.uid.as_ref())
        };
        let pod = found.filter(is_ours).and_then(|set| set.spec).and_then(|spec| spec.template.spec);
        Ok::<_, Error>(pod.and_then(|pod| pod.containers.into_iter().next()).and_then(|container| container.image))
    };
    Ok(ImagesStatus {
        sidecar: None,
        rollup: image(names::rollup(name)).await?,
        memcached: image(names::cache_replica(name, 0)).await?,
    })
}

fn sidecars(context: &Context, scope: &Scope, namespace: &CounterNamespace) -> Vec<Sidecar> {
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let asks = |pod: &Pod| {
        pod.metadata.namespace == namespace.metadata.namespace
            && inject::counter_namespaces(&pod.metadata).iter().any(|known| known == name)
    };
    let pods = scope.pods.state();
    let pods = pods.iter().filter(|pod| asks(pod) && pod.metadata.deletion_timestamp.is_none());
    let settings = |pod: &Pod| {
        let names = inject::counter_namespaces(&pod.metadata);
        let beside = context.namespaces(|other| {
            other.metadata.namespace == namespace.metadata.namespace && names.contains(&other.name_any())
        });
        let mut classes: Vec<_> = beside.iter().map(|other| (other.name_any(), context.class_of(other))).collect();
        classes.sort();
        let classes: Vec<_> = classes.into_iter().filter_map(|(_, class)| context.classes.get(&class?)).collect();
        let usable = classes.iter().filter_map(|state| match state {
            ClassState::Usable { class, .. } => Some(&**class),
            ClassState::Unusable { .. } => None,
        });
        context.settings.injection.of_classes(usable)
    };
    pods.filter_map(|pod| match inject::state_of(pod, &settings(pod)) {
        inject::State::NotAsked => None,
        inject::State::Current => Some(Sidecar::Current),
        inject::State::Old { .. } => Some(Sidecar::Old),
        inject::State::Missing { .. } => Some(Sidecar::Missing),
    })
    .collect()
}
