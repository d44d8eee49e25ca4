//! Documents of namespaces in Cassandra.

use crate::documents::durable;

/// Where a durable namespace is kept.
#[derive(Debug, Clone)]
pub struct Keyspace {
    pub contact_point: String,
    pub local_datacenter: String,
    pub dataset: String,
    pub credentials_file: Option<String>,
}

/// Accurate counters, that converge soon.
pub fn accurate(namespace: &str, keyspace: &Keyspace) -> String {
    let Keyspace { contact_point, local_datacenter, dataset, credentials_file } = keyspace;
    let credentials = credentials_file.as_ref().map(|file| format!(r#", "credentials_file": "{file}""#));
    let storage = format!(
        r#"{{"type": "CASSANDRA", "cluster": "test", "dataset": "{dataset}", "contact_points": ["{contact_point}"],
             "local_datacenter": "{local_datacenter}"{}}}"#,
        credentials.unwrap_or_default()
    );
    durable(namespace, "ACCURATE", &storage)
}
