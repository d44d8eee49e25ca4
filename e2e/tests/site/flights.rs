//! The whole of it once: three CounterNamespaces of three types, pods that count real flights through their sidecars, and every total
//! exact, by the API and in Cassandra's tables.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tallyman_e2e::flights::{COUNTERS, Flights};
use tallyman_e2e::site::{Area, CASSANDRA_NAMESPACE, Site};
use tallyman_e2e::tables::Keyspace;
use tallyman_e2e::{convergence, tables};
use tallyman_servers::SUPERUSER;

use crate::application::{TALLYMAN, container_security, metadata, pod_security, reader};

/// Rows that are counted: each is three adds.
const ROWS: u64 = 5_000;
const TYPES: [(&str, &str); 3] = [("plays", "Eventual"), ("credits", "Accurate"), ("views", "BestEffort")];

/// A Job whose one pod counts the flights, a fifth of them sent twice with the same token.
fn job(counter_namespace: &str, counter_type: &str) -> Value {
    // Nobody remembers tokens of best-effort adds.
    let resend = if counter_type == "BestEffort" { "0" } else { "0.2" };
    let rows = ROWS.to_string();
    let replay = [
        "replay",
        "--csv",
        "/flights/flights.csv.gz",
        "--namespace",
        counter_namespace,
        "--limit",
        &rows,
        "--resend",
        resend,
    ];
    // No more at once than pods answer that share two cores with all others: a best-effort add has half a second, and is not repeated.
    let arguments = [&replay[..], &COUNTERS, &["--batch", "20", "--concurrency", "8", "--timeout", "20s"]].concat();
    let container = json!({
        "name": "main", "image": TALLYMAN, "args": arguments,
        "securityContext": container_security(), "volumeMounts": [{"name": "flights", "mountPath": "/flights"}],
    });
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": format!("count-{counter_namespace}")}, "spec": {
        "backoffLimit": 0,
        "template": {
            "metadata": metadata("flights", counter_namespace),
            "spec": {
                "restartPolicy": "Never", "securityContext": pod_security(), "containers": [container],
                "volumes": [{"name": "flights", "configMap": {"name": "flights"}}],
            },
        },
    }})
}

async fn wait_for_job(area: &Area<'_>, name: &str) {
    area.wait_for(&format!("Job {name} to succeed"), async || {
        let status = area.get("Job", name).await?["status"].clone();
        assert!(status["failed"].is_null(), "Job {name}: {status}");
        if status["succeeded"] == 1 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}

pub async fn pods_count_flights_into_counters_of_all_three_types(site: &Site) {
    let area = site.area("flights").await;
    let flights = Flights::find();
    let (rows, totals) = flights.totals_of(Some(ROWS));
    assert_eq!(rows, ROWS);
    for (name, counter_type) in TYPES {
        let mut spec = json!({"counterType": counter_type});
        match counter_type {
            // One copy: whether an add was counted that a copy was too busy to confirm, nobody knows.
            "BestEffort" => {
                spec["ttl"] = json!("1h");
                spec["cache"] = json!({"replicas": 1});
            }
            _ => spec["dataset"] = json!(format!("flights_{name}")),
        }
        area.declare(name, spec).await;
    }
    let file = format!("--from-file=flights.csv.gz={}", flights.file.display());
    area.kubectl(&["create", "configmap", "flights", &file]);
    for (name, counter_type) in TYPES {
        area.wait_until_ready(name).await;
        area.apply(job(name, counter_type)).await;
    }
    let reader = reader(&area, &TYPES.map(|(name, _)| name).join(",")).await;
    for (name, _) in TYPES {
        wait_for_job(&area, &format!("count-{name}")).await;
        convergence::to(&[reader.client()], name, &totals).await;
    }

    let cassandra = site.existing(CASSANDRA_NAMESPACE).forward("cassandra-0", 9042).await;
    for (name, _) in TYPES.into_iter().filter(|(_, counter_type)| *counter_type != "BestEffort") {
        let keyspace = Keyspace { contact_points: cassandra.address.to_string(), name: format!("flights_{name}") };
        let totals: BTreeMap<_, _> = totals.clone();
        // Another program, which waits for us.
        let events = tokio::task::spawn_blocking(move || keyspace.totals_as(SUPERUSER, name)).await.unwrap();
        tables::agree_with_counts(&events, &totals);
    }
}
