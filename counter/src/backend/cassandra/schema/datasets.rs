//! From namespace documents to what they ask of their datasets. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use crate::backend::cassandra::Reach;
use crate::configuration::{Cassandra, Counting, DatasetStorage, NamespaceConfiguration, Retention, TimePartition};
use crate::model::NamespaceName;

/// What the namespaces of a dataset ask for, as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// The cluster's name, for messages.
    pub cluster: String,
    /// The dataset's keyspace.
    pub keyspace: String,
    /// The region of its slices.
    pub region: String,
    /// The datacenter whose quorum acknowledges.
    pub local_datacenter: String,
    /// `host:port` of some nodes, those of every namespace.
    pub contact_points: Vec<String>,
    /// The file with user name and password that sidecars and rollup servers log in with.
    pub credentials_file: Option<PathBuf>,
    /// The certificate authority of the nodes' certificates; without it, no TLS.
    pub tls_ca_file: Option<PathBuf>,
    /// For slices that are not created yet.
    pub time_partition: TimePartition,
    /// When slices are closed and dropped.
    pub retention: Retention,
    /// Its namespaces.
    pub namespaces: Vec<NamespaceName>,
}

impl Requested {
    /// How its cluster is reached with these credentials.
    #[must_use]
    pub fn reach(&self, credentials_file: Option<PathBuf>) -> Reach {
        Reach {
            contact_points: self.contact_points.clone(),
            local_datacenter: self.local_datacenter.clone(),
            credentials_file,
            tls_ca_file: self.tls_ca_file.clone(),
        }
    }
}

/// Two namespaces that share a dataset and ask for different things.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "namespaces {first} and {second} share dataset {dataset} and differ in {field}: {first_value} and {second_value}; slices are the dataset's, so that its namespaces have to agree"
)]
pub struct Disagreement {
    /// The dataset.
    pub dataset: String,
    /// One of them.
    pub first: NamespaceName,
    /// The other.
    pub second: NamespaceName,
    /// What they differ in: a field of the document.
    pub field: &'static str,
    /// What the one says.
    pub first_value: String,
    /// What the other says.
    pub second_value: String,
}

/// What namespaces ask of Cassandra.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requests {
    /// The datasets whose namespaces agree, by cluster and keyspace.
    pub datasets: Vec<Requested>,
    /// For each of the others, the first disagreement.
    pub disagreements: Vec<Disagreement>,
}

/// The datasets in Cassandra that these namespaces ask for. Namespaces that are kept elsewhere ask for nothing.
#[must_use]
pub fn requested<'a>(namespaces: impl IntoIterator<Item = &'a NamespaceConfiguration>) -> Requests {
    let mut datasets: BTreeMap<(String, String), Result<Requested, Disagreement>> = BTreeMap::new();
    for configuration in namespaces {
        let Counting::Durable(durable) = &configuration.counting else { continue };
        let DatasetStorage::Cassandra(cassandra) = &durable.events else { continue };
        let one = request(configuration, cassandra, durable.time_partition, durable.retention);
        match datasets.entry((one.cluster.clone(), one.keyspace.clone())) {
            Entry::Vacant(vacant) => drop(vacant.insert(Ok(one))),
            Entry::Occupied(mut occupied) => {
                if let Ok(known) = occupied.get_mut()
                    && let Err(disagreement) = join(known, one)
                {
                    drop(occupied.insert(Err(disagreement)));
                }
            }
        }
    }
    let mut requests = Requests::default();
    for dataset in datasets.into_values() {
        match dataset {
            Ok(dataset) => requests.datasets.push(dataset),
            Err(disagreement) => requests.disagreements.push(disagreement),
        }
    }
    requests
}

fn request(
    configuration: &NamespaceConfiguration,
    cassandra: &Cassandra,
    time_partition: TimePartition,
    retention: Retention,
) -> Requested {
    // Without `..`, so that a field that is new cannot be forgotten.
    let Cassandra { cluster, dataset, contact_points, local_datacenter, credentials_file, tls_ca_file } =
        cassandra.clone();
    Requested {
        cluster,
        keyspace: dataset,
        region: configuration.region.clone(),
        local_datacenter,
        contact_points,
        credentials_file,
        tls_ca_file,
        time_partition,
        retention,
        namespaces: vec![configuration.namespace.clone()],
    }
}

fn join(known: &mut Requested, other: Requested) -> Result<(), Disagreement> {
    for ((field, first_value), (_, second_value)) in settings(known).into_iter().zip(settings(&other)) {
        if first_value != second_value {
            return Err(Disagreement {
                dataset: known.keyspace.clone(),
                // Each has at least the namespace that it was made from.
                first: known.namespaces[0].clone(),
                second: other.namespaces[0].clone(),
                field,
                first_value,
                second_value,
            });
        }
    }
    for point in other.contact_points {
        if !known.contact_points.contains(&point) {
            known.contact_points.push(point);
        }
    }
    known.namespaces.extend(other.namespaces);
    Ok(())
}

/// What has to be the same for all namespaces of a dataset, in the document's words.
fn settings(requested: &Requested) -> [(&'static str, String); 12] {
    let TimePartition { settings, slice_width } = requested.time_partition;
    let path = |path: &Option<PathBuf>| path.as_ref().map_or("none".to_owned(), |path| path.display().to_string());
    [
        ("region", requested.region.clone()),
        ("local_datacenter", requested.local_datacenter.clone()),
        ("credentials_file", path(&requested.credentials_file)),
        ("tls.ca_file", path(&requested.tls_ca_file)),
        ("time_partition.buckets_per_id", settings.buckets_per_id.to_string()),
        ("time_partition.seconds_per_bucket", settings.bucket_width.as_secs().to_string()),
        ("time_partition.seconds_per_slice", slice_width.as_secs().to_string()),
        ("accept_limit", format!("{:?}", settings.accept_limit)),
        ("write_timeout", format!("{:?}", settings.write_timeout)),
        ("max_clock_skew", format!("{:?}", settings.max_clock_skew)),
        ("close_after", format!("{:?}", requested.retention.close_after)),
        ("delete_after", format!("{:?}", requested.retention.delete_after)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cassandra::schema::plan::tests::{configuration, document};

    fn parsed(document: &str) -> NamespaceConfiguration {
        NamespaceConfiguration::from_json(document).unwrap()
    }

    #[test]
    fn namespaces_of_one_dataset_are_asked_for_as_one() {
        let elsewhere = parsed(&document("likes", "plays").replace("127.0.0.1:9042", "127.0.0.9:9042"));
        let requests = requested(&[configuration("plays", "plays"), elsewhere, configuration("other", "other_plays")]);
        assert_eq!(requests.disagreements, []);
        let names: Vec<_> = requests.datasets.iter().map(|dataset| dataset.keyspace.as_str()).collect();
        assert_eq!(names, ["other_plays", "plays"]);
        let plays = &requests.datasets[1];
        assert_eq!(plays.namespaces.iter().map(NamespaceName::as_str).collect::<Vec<_>>(), ["plays", "likes"]);
        assert_eq!(plays.contact_points, ["127.0.0.1:9042", "127.0.0.9:9042"]);
    }

    #[test]
    fn namespaces_of_one_dataset_that_differ_are_told_what_in_and_hold_up_no_other_dataset() {
        let cases = [
            ("\"buckets_per_id\": 4", "\"buckets_per_id\": 8", "time_partition.buckets_per_id: 4 and 8"),
            ("\"86400\"", "\"3600\"", "time_partition.seconds_per_slice: 86400 and 3600"),
            ("\"region\": \"dc1\"", "\"region\": \"dc2\"", "region: dc1 and dc2"),
            ("604800s", "700000s", "delete_after: 604800s and 700000s"),
        ];
        for (from, to, expected) in cases {
            let changed = parsed(&document("likes", "plays").replace(from, to));
            let requests = requested(&[configuration("plays", "plays"), changed, configuration("other", "others")]);
            let told: Vec<_> = requests.disagreements.iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), 1);
            let expected = format!("plays and likes share dataset plays and differ in {expected}");
            assert!(told[0].contains(&expected), "{told:?}");
            assert_eq!(
                requests.datasets.iter().map(|dataset| dataset.keyspace.as_str()).collect::<Vec<_>>(),
                ["others"]
            );
        }
    }
}
