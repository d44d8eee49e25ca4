//! The operator with the rights that the chart gives it, and no others.

use serde_json::Value;
use tallyman_e2e::control_plane::{Corner, OperatorProcess};

use crate::chart;

const ACCOUNT: &str = "tallyman-operator";

/// An operator that goes by the chart's ServiceAccount, with its rights as `change` leaves them.
fn operator(corner: &Corner, change: impl Fn(&mut Value)) -> OperatorProcess {
    let kinds = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    for mut object in chart::objects(corner, &kinds, &[&chart::watching(corner)]) {
        change(&mut object);
        corner.apply(&object);
    }
    let mut operator = corner.operator("a");
    operator.set_kubeconfig(corner.plane.cluster.service_account_kubeconfig(&corner.system(), ACCOUNT).unwrap());
    operator
}

/// The Role of the corner's Kubernetes namespace loses its rule for `resource`.
fn without(corner: &Corner, resource: &str) -> impl Fn(&mut Value) {
    let (place, resource) = (corner.name.clone(), resource.to_owned());
    move |object: &mut Value| {
        if object["kind"] == "Role" && object["metadata"]["namespace"] == *place {
            let rules = object["rules"].as_array_mut().unwrap();
            let before = rules.len();
            rules.retain(|rule| !rule["resources"].as_array().unwrap().iter().any(|known| *known == *resource));
            assert_eq!(rules.len(), before - 1, "rules for {resource}");
        }
    }
}

#[test]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
fn a_right_to_watch_that_is_missing_is_named_in_the_log() {
    let corner = Corner::new("permissions-watch").with_class();
    let mut operator = operator(&corner, without(&corner, "pods"));
    operator.start();
    corner.wait_for("what is missing, in the log", || {
        let log = operator.log();
        log.lines().any(|line| line.contains("pods") && line.contains("forbidden")).then_some(())
    });
    operator.terminate();
}
