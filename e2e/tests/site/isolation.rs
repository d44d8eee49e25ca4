//! Somebody who may do everything in one Kubernetes namespace tries to reach the counters of another.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use serde_json::json;
use tallyman_e2e::site::{Area, CASSANDRA_NAMESPACE, Site};
use tallyman_e2e::tables::Keyspace;

use crate::application::reader;

/// Port of the pages with metrics of rollup servers.
const METRICS: u16 = 7788;

/// What pods of an area log in to Cassandra with.
async fn credentials(area: &Area<'_>, dataset: &str) -> (String, String) {
    let secrets: Api<Secret> = Api::namespaced(area.site.client.clone(), &area.name);
    let secret = secrets.get("tallyman-plays").await.unwrap();
    let text = &secret.data.unwrap()[&format!("{dataset}.credentials")];
    let text = String::from_utf8(text.0.clone()).unwrap();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
    (value("username="), value("password="))
}

pub async fn nobody_reaches_the_counters_of_another_namespace(site: &Site) {
    let areas = [site.area("isolation-a").await, site.area("isolation-b").await];
    let datasets = ["isolation_a", "isolation_b"];
    for (area, dataset) in areas.iter().zip(datasets) {
        area.declare("plays", json!({"counterType": "Accurate", "dataset": dataset, "rollup": {"replicas": 1}})).await;
    }
    for area in &areas {
        area.wait_until_ready("plays").await;
    }
    let [a, b] = &areas;
    let readers = [reader(a, "plays").await, reader(b, "plays").await];
    let client = readers[1].client();
    client.add("plays", "secret", 7, None).await.unwrap();

    // The same name is another counter, and nobody else's names are served, however the annotation asks for them.
    assert_eq!(readers[0].client().get("plays", "secret", None).await.unwrap().count, 0);
    let refused = readers[0].client().get("isolation-b/plays", "secret", None).await.unwrap_err().to_string();
    assert!(refused.contains("NAMESPACE_UNKNOWN") || refused.contains("not served"), "{refused}");

    // With its own credentials at Cassandra itself.
    let (user, password) = credentials(a, "isolation_a").await;
    let cassandra = site.existing(CASSANDRA_NAMESPACE).forward("cassandra-0", 9042).await;
    let keyspace = Keyspace { contact_points: cassandra.address.to_string(), name: "isolation_a".to_owned() };
    let ends = tokio::task::spawn_blocking(move || {
        let statements = [
            "SELECT * FROM isolation_a.rollup",
            "SELECT * FROM isolation_b.rollup",
            "INSERT INTO isolation_b.rollup (namespace, counter_name, region) VALUES ('plays', 'secret', 'dc1')",
            "TRUNCATE isolation_b.rollup",
            "DROP KEYSPACE isolation_b",
            "SELECT * FROM system_auth.roles",
        ];
        keyspace.tried((&user, &password), &statements)
    });
    let ends = ends.await.unwrap();
    assert_eq!(ends[0], "done");
    assert!(ends[1..].iter().all(|end| end == "Unauthorized"), "{ends:?}");

    // By network: who may reach whom is said, where a network enforces it.
    for kind in ["rollup", "cache"] {
        let policy = b.get("NetworkPolicy", &format!("plays-{kind}")).await.unwrap();
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress"]), "{policy}");
        // Metrics are for whoever looks after the cluster.
        let rules = policy["spec"]["ingress"].as_array().unwrap().iter();
        let rules = rules.filter(|rule| rule["ports"][0]["port"] != METRICS);
        let peers: Vec<_> = rules.flat_map(|rule| rule["from"].as_array().unwrap()).collect();
        assert!(!peers.is_empty());
        for peer in peers {
            assert!(peer["namespaceSelector"].is_null() && peer["ipBlock"].is_null(), "only pods beside it: {policy}");
        }
    }
    assert_eq!(client.get("plays", "secret", None).await.unwrap().count, 7);
    site.close("isolation-b").await;
}
