//! `physical_storage`: which fields go with which type, and how servers and datasets are named. Pure.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use super::super::document::{Id, PhysicalStorage, StorageType};
use super::super::invalid::At;
use super::super::{CacheStorage, Cassandra, DatasetStorage, InvalidDocument};

const CACHE_TYPES: &str = "MEMCACHED or MEMORY";
const DATASET_TYPES: &str = "CASSANDRA, EMBEDDED or MEMORY";

/// The longest dataset name, that of a Cassandra keyspace.
const DATASET_LENGTH_MAX: usize = 48;

/// Cassandra's own keyspaces, which no dataset may be.
pub const RESERVED_DATASETS: [&str; 7] = [
    "system",
    "system_auth",
    "system_distributed",
    "system_schema",
    "system_traces",
    "system_views",
    "system_virtual_schema",
];

/// Words that are names in CQL only where they are quoted: those of `ReservedKeywords` in Cassandra 5, and those its grammar
/// reserves besides.
#[rustfmt::skip]
pub const RESERVED_WORDS: [&str; 62] = [
    "add", "allow", "alter", "and", "apply", "asc", "authorize", "batch", "begin", "by", "columnfamily", "create",
    "default", "delete", "desc", "describe", "drop", "entries", "execute", "from", "full", "grant", "if", "in",
    "index", "infinity", "insert", "into", "is", "keyspace", "limit", "materialized", "mbean", "mbeans", "modify",
    "nan", "norecursive", "not", "null", "of", "on", "or", "order", "primary", "rename", "replace", "revoke", "schema",
    "select", "set", "table", "to", "token", "truncate", "unlogged", "unset", "update", "use", "using", "view",
    "where", "with",
];

/// Where CACHE is.
pub fn cache(at: &At, storage: PhysicalStorage) -> Result<CacheStorage, InvalidDocument> {
    let storage_type = at.required("type", storage.storage_type, CACHE_TYPES)?;
    match storage_type {
        StorageType::Memcached => {
            forbid_all_but(at, &storage, storage_type, &["cluster", "replicas"])?;
            Ok(CacheStorage::Memcached {
                cluster: at.text("cluster", storage.cluster)?,
                replicas: replicas(at, storage.replicas)?,
            })
        }
        StorageType::Memory => {
            forbid_all_but(at, &storage, storage_type, &[])?;
            Ok(CacheStorage::Memory)
        }
        StorageType::Cassandra | StorageType::Embedded => Err(wrong_type(at, storage_type, Id::Cache, CACHE_TYPES)),
    }
}

/// Where COUNTER_ROLLUP or EVENT_STORAGE is.
pub fn dataset(at: &At, id: Id, storage: PhysicalStorage) -> Result<DatasetStorage, InvalidDocument> {
    let storage_type = at.required("type", storage.storage_type, DATASET_TYPES)?;
    match storage_type {
        StorageType::Cassandra => {
            let fields = ["cluster", "dataset", "contact_points", "local_datacenter", "credentials_file", "tls"];
            forbid_all_but(at, &storage, storage_type, &fields)?;
            let contact_points = at.required("contact_points", storage.contact_points, "at least one host:port")?;
            if contact_points.is_empty() {
                return Err(at.field("contact_points").refuse("an empty list", "at least one host:port"));
            }
            Ok(DatasetStorage::Cassandra(Cassandra {
                cluster: at.text("cluster", storage.cluster)?,
                dataset: keyspace_name(at, storage.dataset)?,
                contact_points: endpoints(&at.field("contact_points"), contact_points)?,
                local_datacenter: at.text("local_datacenter", storage.local_datacenter)?,
                credentials_file: match storage.credentials_file {
                    Some(file) => Some(PathBuf::from(at.text("credentials_file", Some(file))?)),
                    None => None,
                },
                tls_ca_file: match storage.tls {
                    Some(tls) => Some(PathBuf::from(at.field("tls").text("ca_file", tls.ca_file)?)),
                    None => None,
                },
            }))
        }
        StorageType::Embedded => {
            forbid_all_but(at, &storage, storage_type, &["dataset"])?;
            Ok(DatasetStorage::Embedded { dataset: dataset_name(at, storage.dataset)? })
        }
        StorageType::Memory => {
            forbid_all_but(at, &storage, storage_type, &["dataset"])?;
            Ok(DatasetStorage::Memory { dataset: dataset_name(at, storage.dataset)? })
        }
        StorageType::Memcached => Err(wrong_type(at, storage_type, id, DATASET_TYPES)),
    }
}

/// Events are where rollups are: a slice is dropped only once its dataset's rollup rows cover it, and one quorum answers
/// for both. Credentials and TLS that are left out for events are those of the rollups, never none at all.
pub fn same_dataset(at: &At, events: &mut DatasetStorage, rollups: &DatasetStorage) -> Result<(), InvalidDocument> {
    let same = |field: &str, events: &str, rollups: &str| {
        if events == rollups {
            return Ok(());
        }
        let allowed = format!("{rollups:?}, that of COUNTER_ROLLUP");
        Err(at.field(field).refuse(format_args!("{events:?}"), allowed))
    };
    match (events, rollups) {
        (DatasetStorage::Cassandra(events), DatasetStorage::Cassandra(rollups)) => {
            same("cluster", &events.cluster, &rollups.cluster)?;
            same("dataset", &events.dataset, &rollups.dataset)?;
            same("local_datacenter", &events.local_datacenter, &rollups.local_datacenter)?;
            events.credentials_file = events.credentials_file.take().or_else(|| rollups.credentials_file.clone());
            events.tls_ca_file = events.tls_ca_file.take().or_else(|| rollups.tls_ca_file.clone());
            Ok(())
        }
        (DatasetStorage::Embedded { dataset: events }, DatasetStorage::Embedded { dataset: rollups })
        | (DatasetStorage::Memory { dataset: events }, DatasetStorage::Memory { dataset: rollups }) => {
            same("dataset", events, rollups)
        }
        (events, rollups) => same("type", type_of(events).as_str(), type_of(rollups).as_str()),
    }
}

fn type_of(storage: &DatasetStorage) -> StorageType {
    match storage {
        DatasetStorage::Cassandra(_) => StorageType::Cassandra,
        DatasetStorage::Embedded { .. } => StorageType::Embedded,
        DatasetStorage::Memory { .. } => StorageType::Memory,
    }
}

/// The servers of a list, each named once; `seen` are those of the lists before. A server that stood in two replicas would
/// count an add twice.
pub fn servers(at: &At, servers: Vec<String>, seen: &mut BTreeSet<String>) -> Result<Vec<String>, InvalidDocument> {
    let servers = endpoints(at, servers)?;
    for (index, server) in servers.iter().enumerate() {
        if !seen.insert(server.clone()) {
            return Err(at.index(index).refuse(format_args!("{server:?}, a second time,"), "every server once"));
        }
    }
    Ok(servers)
}

/// A list of `host:port`.
fn endpoints(at: &At, endpoints: Vec<String>) -> Result<Vec<String>, InvalidDocument> {
    match endpoints.iter().position(|endpoint| !is_endpoint(endpoint)) {
        None => Ok(endpoints),
        Some(index) => Err(at.index(index).refuse(
            format_args!("{:?}", endpoints[index]),
            "host:port with a host name, an IPv4 address or an IPv6 address in brackets, and a port from 1 to 65535",
        )),
    }
}

fn is_endpoint(endpoint: &str) -> bool {
    let Some((host, port)) = endpoint.rsplit_once(':') else { return false };
    let port_is_one = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let host_is_one = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            host.len() <= 253
                && host.split('.').all(|label| {
                    let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                    inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
                })
        }
    };
    port_is_one && host_is_one
}

/// One list of shards per replica.
fn replicas(at: &At, replicas: Option<Vec<Vec<String>>>) -> Result<Vec<Vec<String>>, InvalidDocument> {
    let allowed = "at least one replica, each a list of at least one host:port";
    let replicas = at.required("replicas", replicas, allowed)?;
    let at = at.field("replicas");
    if replicas.is_empty() {
        return Err(at.refuse("an empty list", allowed));
    }
    let mut seen = BTreeSet::new();
    let mut checked = Vec::with_capacity(replicas.len());
    for (index, shards) in replicas.into_iter().enumerate() {
        if shards.is_empty() {
            return Err(at.index(index).refuse("an empty list", allowed));
        }
        checked.push(servers(&at.index(index), shards, &mut seen)?);
    }
    Ok(checked)
}

/// A keyspace that statements name as it is.
fn keyspace_name(at: &At, name: Option<String>) -> Result<String, InvalidDocument> {
    let name = dataset_name(at, name)?;
    if RESERVED_WORDS.contains(&name.as_str()) {
        return Err(at.field("dataset").refuse(format_args!("{name:?}"), "any but the words that CQL reserves"));
    }
    Ok(name)
}

/// A dataset names a keyspace or a folder: what both take without quoting.
fn dataset_name(at: &At, name: Option<String>) -> Result<String, InvalidDocument> {
    let allowed = format!("1 to {DATASET_LENGTH_MAX} lowercase letters, digits and '_', a letter first");
    let name = at.required("dataset", name, &allowed)?;
    let inner = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !inner || name.len() > DATASET_LENGTH_MAX || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Err(at.field("dataset").refuse(format_args!("{name:?}"), allowed));
    }
    if RESERVED_DATASETS.contains(&name.as_str()) {
        return Err(at.field("dataset").refuse(format_args!("{name:?}"), "any but Cassandra's own keyspaces"));
    }
    Ok(name)
}

fn wrong_type(at: &At, storage_type: StorageType, id: Id, allowed: &str) -> InvalidDocument {
    at.field("type").refuse(storage_type.as_str(), format_args!("{allowed} for {}", id.as_str()))
}

fn forbid_all_but(
    at: &At,
    storage: &PhysicalStorage,
    storage_type: StorageType,
    fields: &[&str],
) -> Result<(), InvalidDocument> {
    let PhysicalStorage {
        storage_type: _,
        cluster,
        dataset,
        contact_points,
        local_datacenter,
        credentials_file,
        tls,
        replicas,
    } = storage;
    let given = [
        ("cluster", cluster.is_some()),
        ("dataset", dataset.is_some()),
        ("contact_points", contact_points.is_some()),
        ("local_datacenter", local_datacenter.is_some()),
        ("credentials_file", credentials_file.is_some()),
        ("tls", tls.is_some()),
        ("replicas", replicas.is_some()),
    ];
    for (field, given) in given {
        let value = (given && !fields.contains(&field)).then_some(&());
        let why = format!("{} has no such field (allowed: type {})", storage_type.as_str(), fields.join(" "));
        at.forbidden(field, value, why)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for endpoint in ["a:1", "127.0.0.1:9042", "rollup-0.rollup.ns.svc:7787", "[::1]:65535", "my_host:80"] {
            assert!(is_endpoint(endpoint), "{endpoint}");
        }
        for endpoint in [
            "",
            "a",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:x",
            "::1:80",
            "[::g]:80",
            "a b:1",
            "http://a:1",
            "a..b:1",
            "-a:1",
        ] {
            assert!(!is_endpoint(endpoint), "{endpoint}");
        }
    }

    #[test]
    fn a_dataset_is_named_as_a_keyspace_is_without_quotes() {
        let read = |name: &str| dataset_name(&At::root(), Some(name.to_owned()));
        for name in ["a", "system_of_mine", "my_dataset_1", &"x".repeat(48)] {
            assert!(read(name).is_ok(), "{name}");
        }
        for name in ["system", "system_auth", "", "A", "1a", "_a", "a-b", "../a", "ä", &"x".repeat(49)] {
            assert!(read(name).is_err(), "{name}");
        }
    }
}
