//! The judges, on a Deployment whose health nobody doubts.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use tallyman_cluster::{Judge, Verdict};

/// As the API server gives it, with so many of its two replicas ready.
fn deployment(ready: u8) -> serde_json::Value {
    let available = if ready == 2 { "True" } else { "False" };
    serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "generation": 1},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}},
        "status": {
            "observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": ready, "availableReplicas": ready,
            "conditions": [
                {"type": "Available", "status": available},
                {"type": "Progressing", "status": "True", "reason": if ready == 2 { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" }},
            ],
        },
    })
}

fn healths(verdicts: &[Verdict]) -> Vec<&str> {
    verdicts.iter().map(|verdict| verdict.health.as_str()).collect()
}

#[test]
#[ignore = "builds the judges: cargo xtask test"]
fn both_judges_tell_a_deployment_that_is_ready_from_one_that_is_not() {
    let judge = Judge::new().unwrap();
    let objects = [deployment(2), deployment(1)];
    assert_eq!(healths(&judge.kstatus(&objects).unwrap()), ["Current", "InProgress"]);
    assert_eq!(healths(&judge.argo_built_in(&objects).unwrap()), ["Healthy", "Progressing"]);
}

#[test]
#[ignore = "builds the judges: cargo xtask test"]
fn argo_cd_judges_by_the_script_and_says_where_it_fails() {
    let judge = Judge::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("health.lua");
    let lua = "local ready = obj.status.readyReplicas == obj.spec.replicas\n\
               return {status = ready and 'Healthy' or 'Degraded', message = obj.metadata.name}";
    std::fs::write(&script, lua).unwrap();
    let verdicts = judge.argo(&script, &[deployment(2), deployment(1)]).unwrap();
    assert_eq!(healths(&verdicts), ["Healthy", "Degraded"]);
    assert_eq!(verdicts[0].message, "web");
    std::fs::write(&script, "return obj.nothing.there").unwrap();
    let error = judge.argo(&script, &[deployment(2)]).unwrap_err().to_string();
    assert!(error.contains("Deployment web"), "{error}");
}
