//! `tallyman plan` beside what the operator has made: the same code plans both, and here it is seen that nothing is missing between.

use std::process::Output;

use serde_json::{Value, json};
use tallyman_e2e::binaries::{Binaries, command};
use tallyman_e2e::control_plane::Corner;
use tallyman_servers::SUPERUSER;

/// A namespace in a file, planned against the cluster and Cassandra.
struct Planned {
    code: Option<i32>,
    plan: Value,
}

fn plan(corner: &Corner, namespace: &Value) -> Planned {
    let folder = tempfile::tempdir().unwrap();
    let (file, login) = (folder.path().join("plays.json"), folder.path().join("login"));
    std::fs::write(&file, namespace.to_string()).unwrap();
    std::fs::write(&login, format!("username={}\npassword={}\n", SUPERUSER.0, SUPERUSER.1)).unwrap();
    let mut tallyman = command(Binaries::built().tallyman());
    tallyman.args(["plan", "-o", "json", "--exit-code", "--cassandra", "--connect-timeout", "60s"]);
    tallyman.arg("-f").arg(&file).arg("--kubeconfig").arg(corner.plane.cluster.kubeconfig());
    tallyman.arg("--admin-credentials").arg(&login);
    let Output { status, stdout, stderr } = tallyman.output().unwrap();
    let plan = serde_json::from_slice(&stdout);
    let plan = plan.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&stderr)));
    Planned { code: status.code(), plan }
}

impl Planned {
    fn changes(&self) -> Vec<String> {
        let changes = self.plan["differences"].as_array().unwrap().iter();
        changes
            .map(|change| ["change", "kind", "name"].map(|field| change[field].as_str().unwrap()).join(" "))
            .collect()
    }

    fn statements(&self) -> usize {
        self.plan["schema"]["steps"].as_array().unwrap().len()
    }
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn what_a_plan_shows_is_what_is_then_there_and_after_that_only_what_somebody_changed() {
    let corner = Corner::new("plan").with_class();
    let namespace = corner.counter_namespace("plays", json!({"workload": {"writesPerSecond": 2000}}));
    let before = plan(&corner, &namespace);
    assert_eq!(before.code, Some(2));
    assert!(before.changes().iter().all(|change| change.starts_with("create ")), "{:?}", before.changes());
    assert!(before.statements() > 0);

    let mut operator = corner.operator("a");
    operator.start();
    corner.apply(&namespace);
    corner.wait_until_ready("plays");
    for announced in before.changes() {
        let [_, kind, name] = announced.split(' ').collect::<Vec<_>>().try_into().unwrap();
        assert!(corner.get(kind, name).is_some(), "{announced}");
    }
    let after = plan(&corner, &namespace);
    assert_eq!((after.changes(), after.statements(), after.code), (Vec::new(), 0, Some(0)));

    let wanted =
        corner.counter_namespace("plays", json!({"workload": {"writesPerSecond": 2000}, "rollup": {"replicas": 3}}));
    let changed = plan(&corner, &wanted);
    assert_eq!(changed.code, Some(2));
    assert!(changed.changes().contains(&"change StatefulSet plays-rollup".to_owned()), "{:?}", changed.changes());
    assert_eq!(changed.statements(), 0);
    operator.terminate();
}
