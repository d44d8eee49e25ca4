//! From a CounterNamespace and its class to the Kubernetes objects, the data plane's configuration and what is wanted of
//! Cassandra. Pure: everything it needs is in its [`Inputs`], and the same inputs build the same objects to the byte.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use tallyman_counter::backend::cassandra::schema::plan::Wanted;
use tallyman_counter::configuration::{InvalidDocument, NamespaceConfiguration};
use tallyman_crds::{CounterClass, CounterNamespace};

use crate::capacity::Plan;

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
        let version = tallyman_daemon::VERSION;
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

/// The authority of a CounterNamespace and what it signed.
#[derive(Clone, PartialEq, Eq)]
pub struct RollupTls {
    /// Who signs; mounted nowhere.
    pub authority: KeyPair,
    /// The rollup servers'.
    pub server: KeyPair,
    /// The sidecars'.
    pub client: KeyPair,
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
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
    #[error("{0} is not there")]
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
    let _ = inputs;
    unimplemented!()
}
