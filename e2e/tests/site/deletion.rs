//! A CounterNamespace is deleted: its counts stay, for who declares it again, unless it says otherwise.

use std::time::Duration;

use serde_json::json;
use tallyman_e2e::site::{Area, CASSANDRA_NAMESPACE, Site};
use tallyman_e2e::tables::Keyspace;
use tallyman_servers::SUPERUSER;

use crate::application::reader;

async fn keyspaces(site: &Site) -> Vec<String> {
    let cassandra = site.existing(CASSANDRA_NAMESPACE).forward("cassandra-0", 9042).await;
    let keyspace = Keyspace { contact_points: cassandra.address.to_string(), name: "system".to_owned() };
    let query = "SELECT keyspace_name FROM system_schema.keyspaces";
    let found = tokio::task::spawn_blocking(move || keyspace.texts(SUPERUSER, query)).await.unwrap();
    found.into_iter().flatten().collect()
}

async fn declare(area: &Area<'_>, name: &str, dataset: &str, policy: &str) {
    area.declare(
        name,
        json!({"counterType": "Accurate", "dataset": dataset, "rollup": {"replicas": 1}, "deletionPolicy": policy}),
    )
    .await;
    area.wait_until_ready(name).await;
}

pub async fn counts_outlive_their_declaration_unless_it_says_otherwise(site: &Site) {
    let area = site.area("deletion").await;
    let datasets = [("kept", "deletion_kept", "Retain"), ("dropped", "deletion_dropped", "Delete")];
    for (name, dataset, policy) in datasets {
        declare(&area, name, dataset, policy).await;
    }
    let reader = reader(&area, "kept,dropped").await;
    for (name, ..) in datasets {
        reader.client().add(name, "total", 42, None).await.unwrap();
    }
    area.delete("Deployment", "reader").await;
    for (name, ..) in datasets {
        area.delete("CounterNamespace", name).await;
    }
    for what in ["StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy"] {
        area.wait_for(&format!("every {what} to go"), async || {
            let left = area.list(what, "").await.len();
            if left == 0 { Ok(()) } else { Err(format!("{left} are left")) }
        })
        .await;
    }
    let left = keyspaces(site).await;
    assert!(left.contains(&"deletion_kept".to_owned()) && !left.contains(&"deletion_dropped".to_owned()), "{left:?}");

    // Declared again, the one has its counts, and the other none.
    for (name, dataset, policy) in datasets {
        declare(&area, name, dataset, policy).await;
    }
    let reader = crate::application::reader(&area, "kept,dropped").await;
    let client = reader.client();
    let read =
        async |name: &str| client.get(name, "total", Some(Duration::ZERO)).await.map_err(|error| error.to_string());
    assert_eq!(area.wait_for("an answer", async || read("kept").await).await.count, 42);
    assert_eq!(area.wait_for("an answer", async || read("dropped").await).await.count, 0);
    area.patch("CounterNamespace", "kept", json!({"spec": {"deletionPolicy": "Delete"}})).await;
}
