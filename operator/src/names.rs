//! Names, labels, annotations, ports and paths that the parts of the control plane agree on, and with the data plane. Pure.
//!
//! Names of CounterNamespaces have at most 40 characters, so that every name here fits: StatefulSets are the tightest, as
//! their pods carry the name and a hash of ten characters in a label of 63.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::collections::BTreeMap;

/// Who the API server lists as the manager of the fields that we set.
pub const FIELD_MANAGER: &str = "tallyman-operator";
/// Keeps a CounterNamespace until what it has in Cassandra is gone; only with `deletionPolicy: Delete`.
pub const FINALIZER: &str = "tallyman.dev/cassandra";

/// On a CounterNamespace: its Cassandra is gone for good, and deletion is not to wait for it. Value `"true"`.
pub const ABANDON_CASSANDRA: &str = "tallyman.dev/abandon-cassandra";
/// On a CounterNamespace: make its dataset anew, empty, where it was provisioned and is not there any more. Value `"true"`.
pub const RECREATE_DATASET: &str = "tallyman.dev/recreate-dataset";
/// On a CounterNamespace: run the images, and the shape of pods, of the operator's own release, also after its upgrades. Value `"true"`.
pub const FOLLOW_RELEASE: &str = "tallyman.dev/follow-release";
/// On what we apply: a digest of what was applied, so that a field that is no longer built is noticed.
pub const APPLIED: &str = "tallyman.dev/applied";
/// On StatefulSets: the release that wrote the pod template.
pub const RELEASE: &str = "tallyman.dev/release";
/// On StatefulSets: a digest of what was asked of their pods, however this release would write it down.
pub const ASKED: &str = "tallyman.dev/asked";

/// On a pod: inject a sidecar. Value `"true"`; `"false"` opts out.
pub const INJECT: &str = "tallyman.dev/inject";
/// On a pod: the CounterNamespaces that its sidecar serves, separated by commas.
pub const COUNTER_NAMESPACES: &str = "tallyman.dev/counter-namespaces";
/// On a pod that was given a sidecar: the image and a digest of what was injected.
pub const INJECTED: &str = "tallyman.dev/injected";

/// On every object: the CounterNamespace it belongs to.
pub const COUNTER_NAMESPACE: &str = "tallyman.dev/counter-namespace";
/// On memcached objects: the number of the replica group, from 0.
pub const CACHE_REPLICA: &str = "tallyman.dev/cache-replica";

/// Value of `app.kubernetes.io/managed-by` on everything we apply.
pub const MANAGED_BY: &str = "tallyman-operator";

/// The container that is injected.
pub const SIDECAR_CONTAINER: &str = "tallyman-sidecar";

/// The counter API on a pod's loopback address.
pub const API_PORT: i32 = 7777;
/// Readiness, liveness and metrics of a sidecar, on the pod's address.
pub const SIDECAR_ADMIN_PORT: i32 = 7778;
/// Streams of touched counters, at a rollup server.
pub const ROLLUP_PORT: i32 = 7787;
/// Readiness, liveness and metrics of a rollup server.
pub const ROLLUP_ADMIN_PORT: i32 = 7788;
/// The webhook.
pub const WEBHOOK_PORT: i32 = 9443;
/// Readiness, liveness and metrics of the operator.
pub const OPERATOR_ADMIN_PORT: i32 = 7798;
/// memcached.
pub const MEMCACHED_PORT: i32 = 11211;

/// Where a pod has the documents of its namespaces, `<counter namespace>.json` each.
pub const NAMESPACES_DIR: &str = "/etc/tallyman/namespaces";
/// Where a pod has credentials and certificates.
pub const SECRETS_DIR: &str = "/etc/tallyman/secrets";

/// What an object is part of: value of `app.kubernetes.io/component`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Documents, credentials, certificates.
    Configuration,
    /// Rollup servers.
    Rollup,
    /// memcached servers.
    Cache,
}

impl Component {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Rollup => "rollup",
            Self::Cache => "cache",
        }
    }
}

/// The labels of an object of this CounterNamespace.
#[must_use]
pub fn labels(counter_namespace: &str, component: Component) -> BTreeMap<String, String> {
    let mut labels = selector_labels(counter_namespace, component);
    labels.insert("app.kubernetes.io/managed-by".to_owned(), MANAGED_BY.to_owned());
    labels
}

/// The labels that its pods are selected by, which can never change.
#[must_use]
pub fn selector_labels(counter_namespace: &str, component: Component) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "tallyman".to_owned()),
        ("app.kubernetes.io/component".to_owned(), component.as_str().to_owned()),
        (COUNTER_NAMESPACE.to_owned(), counter_namespace.to_owned()),
    ])
}

/// The selector of its pods.
#[must_use]
pub fn selector(counter_namespace: &str, component: Component) -> LabelSelector {
    LabelSelector { match_labels: Some(selector_labels(counter_namespace, component)), match_expressions: None }
}

/// The ConfigMap with the document of a CounterNamespace, under the key [`document_key`].
#[must_use]
pub fn config_map(counter_namespace: &str) -> String {
    format!("tallyman-{counter_namespace}")
}

/// The key of the document, and the name of its file.
#[must_use]
pub fn document_key(counter_namespace: &str) -> String {
    format!("{counter_namespace}.json")
}

/// The Secret that sidecars mount: the dataset's credentials, and a client's certificate for rollup servers.
#[must_use]
pub fn sidecar_secret(counter_namespace: &str) -> String {
    format!("tallyman-{counter_namespace}")
}

/// StatefulSet, headless Service, PodDisruptionBudget and NetworkPolicy of the rollup servers.
#[must_use]
pub fn rollup(counter_namespace: &str) -> String {
    format!("{counter_namespace}-rollup")
}

/// The Secret that rollup servers mount. With a dot, which no CounterNamespace's name has: no other's Secret can be called the same.
#[must_use]
pub fn rollup_secret(counter_namespace: &str) -> String {
    format!("{counter_namespace}.rollup")
}

/// The Secret with the authority that signs the certificates of the rollup servers and their clients. Mounted nowhere.
#[must_use]
pub fn rollup_authority(counter_namespace: &str) -> String {
    format!("{counter_namespace}.rollup-ca")
}

/// StatefulSet, headless Service and PodDisruptionBudget of one replica group of the cache.
#[must_use]
pub fn cache_replica(counter_namespace: &str, replica: i32) -> String {
    format!("{counter_namespace}-cache-{replica}")
}

/// NetworkPolicy of the cache.
#[must_use]
pub fn cache(counter_namespace: &str) -> String {
    format!("{counter_namespace}-cache")
}

/// The Cassandra role of a dataset.
#[must_use]
pub fn role(dataset: &str) -> String {
    format!("tallyman_{dataset}")
}

/// Key of a dataset's credentials in the Secrets, and name of the file.
#[must_use]
pub fn credentials_key(dataset: &str) -> String {
    format!("{dataset}.credentials")
}

/// Key of the certificates that Cassandra's are checked against, by dataset.
#[must_use]
pub fn cassandra_ca_key(dataset: &str) -> String {
    format!("{dataset}.ca.crt")
}

/// Keys of the certificate authority, the certificate and its key for rollup streams.
#[must_use]
pub fn rollup_tls_keys(counter_namespace: &str) -> [String; 3] {
    ["ca.crt", "tls.crt", "tls.key"].map(|name| format!("{counter_namespace}.rollup.{name}"))
}

/// The file of a key of the Secrets, where pods have them.
#[must_use]
pub fn secret_file(key: &str) -> String {
    format!("{SECRETS_DIR}/{key}")
}
