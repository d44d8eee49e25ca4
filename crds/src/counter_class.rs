//! CounterClass: the platform team's side, as StorageClass is for storage.
//!
//! Types, defaults, bounds and rules only. `region` cannot change, nor the datacenter it defaults to: it is part of
//! the key of every event. Contact points, credentials and the rest may: they say how the same data is reached.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resources::Resources;

/// The stores and images that CounterNamespaces of this class use.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(clippy::duplicated_attributes, reason = "each printer column has its own `type_`")]
#[kube(
    group = "tallyman.dev",
    version = "v1alpha1",
    kind = "CounterClass",
    plural = "counterclasses",
    category = "tallyman",
    status = "CounterClassStatus",
    derive = "PartialEq",
    cel,
    doc = "Where the counters of CounterNamespaces live: the Cassandra cluster, optionally shared memcached servers, images and defaults. Written by the platform team.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.default"),
    printcolumn(name = "Datacenter", type_ = "string", json_path = ".spec.cassandra.localDatacenter"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    printcolumn(name = "Contact-Points", type_ = "string", json_path = ".spec.cassandra.contactPoints", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("(has(self.region) ? self.region : self.cassandra.localDatacenter) == (has(oldSelf.region) ? oldSelf.region : oldSelf.cassandra.localDatacenter)")
        .message("region (cassandra.localDatacenter when absent) cannot change: it is part of the key of every event")
        .field_path(".region")
)]
pub struct CounterClassSpec {
    /// True makes this the class of CounterNamespaces that name none. Mark one at most.
    #[serde(default)]
    pub default: bool,
    /// Region of the events that are written here; `cassandra.localDatacenter` when absent. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 48), regex(pattern = "^[A-Za-z0-9][-_.A-Za-z0-9]*$"))]
    pub region: Option<String>,
    /// The Cassandra (or ScyllaDB) cluster.
    pub cassandra: Cassandra,
    /// memcached servers that all CounterNamespaces of this class share; each gets its own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Memcached")]
    pub memcached: Option<Memcached>,
    /// Images to run; those of the operator's release when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Images")]
    pub images: Option<Images>,
    /// What CounterNamespaces get that do not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Defaults")]
    pub defaults: Option<Defaults>,
}

/// A Cassandra (or ScyllaDB) cluster and how to reach it.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("self.localDatacenter in self.replication")
        .message("cassandra.replication must name cassandra.localDatacenter: reads and writes wait for a quorum there")
        .field_path(".replication")
)]
pub struct Cassandra {
    /// Nodes to connect to first, host:port each.
    #[schemars(length(min = 1, max = 64), inner(length(max = 262), regex(pattern = HOST_AND_PORT)))]
    pub contact_points: Vec<String>,
    /// The datacenter that reads and writes go to, as Cassandra names it.
    #[schemars(length(min = 1, max = 48), regex(pattern = "^[A-Za-z0-9][-_.A-Za-z0-9]*$"))]
    pub local_datacenter: String,
    /// Replicas in each datacenter, for keyspaces that do not exist yet; an existing one is never altered.
    #[schemars(extend(
        "minProperties" = 1,
        "maxProperties" = 16,
        "additionalProperties" = {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9}
    ))]
    pub replication: BTreeMap<String, i32>,
    /// Encrypts connections to the cluster; absent: no encryption.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "CassandraTls")]
    pub tls: Option<CassandraTls>,
    /// Secret in the operator's Kubernetes namespace with the keys `username` and `password` of a role that may create
    /// keyspaces, tables and roles; absent: the cluster asks for no credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 253), regex(pattern = SECRET_NAME))]
    pub admin_credentials_secret_name: Option<String>,
}

/// How connections to Cassandra are encrypted. The Secrets are in the operator's Kubernetes namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CassandraTls {
    /// Secret whose key `ca.crt` holds the certificates that the nodes' certificates are checked against.
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_NAME))]
    pub ca_secret_name: String,
}

/// Shared memcached servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Memcached {
    /// The copies of the whole cache.
    #[schemars(length(min = 1, max = 8))]
    pub replicas: Vec<MemcachedReplica>,
}

/// One copy of the whole cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemcachedReplica {
    /// Its servers, host:port each.
    #[schemars(length(min = 1, max = 256), inner(length(max = 262), regex(pattern = HOST_AND_PORT)))]
    pub shards: Vec<String>,
}

/// Images to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Images {
    /// Image of the sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 512), regex(pattern = IMAGE))]
    pub sidecar: Option<String>,
    /// Image of the rollup server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 512), regex(pattern = IMAGE))]
    pub rollup: Option<String>,
    /// Image of memcached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 512), regex(pattern = IMAGE))]
    pub memcached: Option<String>,
}

/// What CounterNamespaces get that do not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Defaults {
    /// CPU and memory of a sidecar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Resources")]
    pub sidecar_resources: Option<Resources>,
    /// CPU and memory of a rollup server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Resources")]
    pub rollup_resources: Option<Resources>,
    /// CPU and memory of a cache server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Resources")]
    pub cache_resources: Option<Resources>,
}

/// A host name or address (an IPv6 address in brackets) and a port from 1 to 65535.
pub(crate) const HOST_AND_PORT: &str = r"^([A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";
/// What names an image: a registry, a repository, a tag or a digest; the container runtime knows more.
const IMAGE: &str = "^[A-Za-z0-9][-_./:@A-Za-z0-9]*$";
const SECRET_NAME: &str = "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$";

/// What the operator found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CounterClassStatus {
    /// Generation of the resource that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// Ready: the Secrets are there and the Cassandra cluster answers. Reconciling while it is not, Stalled when waiting cannot
    /// help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl CounterClassSpec {
    /// The region, as set or the local datacenter.
    pub fn region_or_default(&self) -> &str {
        self.region.as_deref().unwrap_or(&self.cassandra.local_datacenter)
    }
}
