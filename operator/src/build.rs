//! From a CounterNamespace and its class to the Kubernetes objects, the data plane's configuration and what is wanted of
//! Cassandra. Pure: everything it needs is in its [`Inputs`], and the same inputs build the same objects to the byte.

pub use self::resources::requirements;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;
use tallyman_counter::backend::cassandra::schema::plan::Wanted;
use tallyman_counter::configuration::{InvalidDocument, NamespaceConfiguration};
use tallyman_crds::{CounterClass, CounterNamespace, CounterType};

use crate::capacity::Plan;
pub use crate::certificates::{KeyPair, Mutual as RollupTls};

mod asked;
mod cache;
mod config_map;
pub(crate) mod configuration;
mod context;
mod disruption;
mod network;
mod pod;
mod quantity;
mod resources;
mod rollup;
mod schema;
mod secrets;
mod service;
mod stateful_set;
#[cfg(test)]
mod tests;

use context::Context;

/// What is built from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The CounterNamespace; its name, Kubernetes namespace and uid are set.
    pub namespace: &'a CounterNamespace,
    /// Its class.
    pub class: &'a CounterClass,
    /// Its plan.
    pub plan: &'a Plan,
    /// The other CounterNamespaces of the dataset, oldest first.
    pub siblings: &'a [CounterNamespace],
    /// The images in use.
    pub images: &'a Images,
    /// What is secret.
    pub secrets: &'a Secrets,
}

/// Images to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Of the sidecar.
    pub sidecar: String,
    /// Of the rollup server.
    pub rollup: String,
    /// Of memcached.
    pub memcached: String,
}

impl Images {
    /// The images that belong to this release.
    #[must_use]
    pub fn of_release() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self {
            sidecar: format!("ghcr.io/tallyman/tallyman-sidecar:{version}"),
            rollup: format!("ghcr.io/tallyman/tallyman-rollup:{version}"),
            memcached: "memcached:1.6.39-alpine".to_owned(),
        }
    }
}

/// What only Secrets may hold.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The password of the dataset's role; `None` where the cluster asks for no credentials.
    pub password: Option<String>,
    /// The certificates that Cassandra's are checked against, PEM.
    pub cassandra_ca: Option<String>,
    /// For the streams between sidecars and rollup servers; `None` for BestEffort.
    pub rollup_tls: Option<RollupTls>,
}

/// What was built.
#[derive(Debug, Clone)]
pub struct Built {
    /// The objects, in the order in which they are to be applied: StatefulSets last.
    pub objects: Vec<Object>,
    /// What the ConfigMap says.
    pub configuration: NamespaceConfiguration,
    /// What is wanted of Cassandra; `None` for BestEffort.
    pub schema: Option<Wanted>,
}

/// A Kubernetes object of a CounterNamespace.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// The namespace's document.
    ConfigMap(Box<ConfigMap>),
    /// Credentials and certificates.
    Secret(Box<Secret>),
    /// A headless Service that gives pods their names.
    Service(Box<Service>),
    /// How many pods may be away at a time.
    PodDisruptionBudget(Box<PodDisruptionBudget>),
    /// Who may connect to pods.
    NetworkPolicy(Box<NetworkPolicy>),
    /// Rollup servers, or memcached servers.
    StatefulSet(Box<StatefulSet>),
}

impl Object {
    /// Its kind: `ConfigMap`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ConfigMap(_) => "ConfigMap",
            Self::Secret(_) => "Secret",
            Self::Service(_) => "Service",
            Self::PodDisruptionBudget(_) => "PodDisruptionBudget",
            Self::NetworkPolicy(_) => "NetworkPolicy",
            Self::StatefulSet(_) => "StatefulSet",
        }
    }

    /// Its name, Kubernetes namespace, labels, owner.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::ConfigMap(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::PodDisruptionBudget(object) => &object.metadata,
            Self::NetworkPolicy(object) => &object.metadata,
            Self::StatefulSet(object) => &object.metadata,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// As it is sent to the API server, with apiVersion and kind. Of a Secret, it says secrets.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let value = match self {
            Self::ConfigMap(object) => serde_json::to_value(object),
            Self::Secret(object) => serde_json::to_value(object),
            Self::Service(object) => serde_json::to_value(object),
            Self::PodDisruptionBudget(object) => serde_json::to_value(object),
            Self::NetworkPolicy(object) => serde_json::to_value(object),
            Self::StatefulSet(object) => serde_json::to_value(object),
        };
        // Maps with text for keys, lists, numbers: nothing that JSON has not.
        value.expect("Kubernetes' own types are JSON")
    }
}

/// Why nothing was built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The object is not one that an API server gave.
    #[error("{field} is missing: the API server sets it on every CounterNamespace")]
    Incomplete {
        /// The field.
        field: &'static str,
    },
    /// A field of the spec does not fit into the document.
    #[error("{field}: {value}: {allowed}")]
    Invalid {
        /// The field, `spec.…`.
        field: String,
        /// What it says.
        value: String,
        /// What it may say.
        allowed: String,
    },
    /// The document would be refused by sidecars and rollup servers.
    #[error("the configuration would be refused: {0}")]
    Document(#[from] InvalidDocument),
    /// A secret that the class or the type of counter asks for was not given.
    #[error("{0} is not there yet")]
    SecretMissing(&'static str),
    /// The CounterNamespaces of the dataset ask for different slices.
    #[error(transparent)]
    Disagreement(#[from] tallyman_counter::backend::cassandra::schema::datasets::Disagreement),
}

/// Builds everything.
///
/// # Errors
/// When a field that the API server sets is missing, a secret was not given, or the configuration would be refused.
pub fn build(inputs: &Inputs<'_>) -> Result<Built, Error> {
    let context = Context::of(inputs)?;
    let configuration = configuration::build(&context)?;
    let schema = schema::build(&context, &configuration)?;
    let mut objects = vec![config_map::build(&context, &configuration)];
    objects.extend(secrets::build(&context)?);
    if context.is_durable() {
        objects.extend(rollup::build(&context)?);
    }
    if context.has_own_cache() {
        objects.extend(cache::build(&context));
    }
    // StatefulSets last: what their pods mount and are reached by is there before them.
    objects.sort_by_key(|object| matches!(object, Object::StatefulSet(_)));
    Ok(Built { objects, configuration, schema })
}

/// The oldest CounterNamespace of the dataset that is kept in it, if that is not this one: the one to plan by, see
/// [`crate::capacity::plan_in_dataset`]. `siblings` are the others of the dataset, in any order.
#[must_use]
pub fn dataset_of<'a>(namespace: &CounterNamespace, siblings: &'a [CounterNamespace]) -> Option<&'a CounterNamespace> {
    let oldest = siblings.iter().filter(|sibling| is_durable(sibling)).min_by_key(|sibling| age(sibling))?;
    (!is_durable(namespace) || age(oldest) < age(namespace)).then_some(oldest)
}

/// What orders CounterNamespaces from old to new. Those of a file have no time yet, and are newer than all that have.
fn age(namespace: &CounterNamespace) -> (bool, Option<&Time>, Option<&String>) {
    let created = namespace.metadata.creation_timestamp.as_ref();
    (created.is_none(), created, namespace.metadata.name.as_ref())
}

fn is_durable(namespace: &CounterNamespace) -> bool {
    namespace.spec.counter_type != CounterType::BestEffort
}

/// Whether it has had its dataset, as its status says.
pub(crate) fn was_provisioned(namespace: &CounterNamespace) -> bool {
    namespace.status.as_ref().is_some_and(|status| status.slices.is_some())
}

/// Whether an annotation on it says `"true"`.
pub(crate) fn asks_for(namespace: &CounterNamespace, annotation: &str) -> bool {
    let annotations = namespace.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(annotation)).is_some_and(|value| value == "true")
}
