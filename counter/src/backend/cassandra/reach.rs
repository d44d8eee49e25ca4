//! How a cluster is reached.

use std::path::PathBuf;

use crate::configuration;

/// Where a Cassandra cluster is, and who we are to it. Two datasets of the same reach can share a [`Cluster`](super::Cluster).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reach {
    /// Some nodes, as `host:port`.
    pub contact_points: Vec<String>,
    /// The datacenter whose quorum acknowledges; no other is asked.
    pub local_datacenter: String,
    /// A file with the lines `username=…` and `password=…`. It is read again for every connection, so that a changed password
    /// needs no restart.
    pub credentials_file: Option<PathBuf>,
    /// The certificate authority, in PEM, that the nodes' certificates come from, each for its node's address; without it, no TLS.
    pub tls_ca_file: Option<PathBuf>,
}

impl From<&configuration::Cassandra> for Reach {
    fn from(configured: &configuration::Cassandra) -> Self {
        Self {
            contact_points: configured.contact_points.clone(),
            local_datacenter: configured.local_datacenter.clone(),
            credentials_file: configured.credentials_file.clone(),
            tls_ca_file: configured.tls_ca_file.clone(),
        }
    }
}
