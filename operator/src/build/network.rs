//! NetworkPolicies: who may connect to rollup servers and to memcached, which asks nobody who they are.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Object;
use super::context::Context;
use crate::names::{self, Component};

/// Sidecars send touched counters; anybody may look at metrics.
pub fn of_rollup(context: &Context<'_>) -> Object {
    let ingress = vec![rule(names::ROLLUP_PORT, vec![sidecars()]), rule(names::ROLLUP_ADMIN_PORT, Vec::new())];
    policy(context, names::rollup(context.name), Component::Rollup, ingress)
}

/// Sidecars and this namespace's rollup servers.
pub fn of_cache(context: &Context<'_>) -> Object {
    let rollup = peer(names::selector(context.name, Component::Rollup));
    let ingress = vec![rule(names::MEMCACHED_PORT, vec![sidecars(), rollup])];
    policy(context, names::cache(context.name), Component::Cache, ingress)
}

fn policy(context: &Context<'_>, name: String, component: Component, ingress: Vec<NetworkPolicyIngressRule>) -> Object {
    Object::NetworkPolicy(Box::new(NetworkPolicy {
        metadata: context.metadata(name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(names::selector(context.name, component)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(ingress),
            egress: None,
        }),
    }))
}

/// The pods of the same Kubernetes namespace that have a sidecar.
fn sidecars() -> NetworkPolicyPeer {
    let labels = BTreeMap::from([(names::INJECT.to_owned(), "true".to_owned())]);
    peer(LabelSelector { match_labels: Some(labels), match_expressions: None })
}

fn peer(selector: LabelSelector) -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(selector), ..NetworkPolicyPeer::default() }
}

/// From anywhere where there are no peers.
fn rule(port: i32, from: Vec<NetworkPolicyPeer>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: (!from.is_empty()).then_some(from),
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port)),
            protocol: Some("TCP".to_owned()),
            end_port: None,
        }]),
    }
}
