//! Why a pod that asks for a sidecar can have none.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::sidecar::VOLUMES;
use crate::names;

/// Why a pod that asks for a sidecar runs without.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The counter API would be on the node's loopback address.
    #[error("it is on its node's network (hostNetwork), where the counter API would be open to the whole node")]
    HostNetwork,
    /// Its node runs Windows.
    #[error("it is for Windows nodes; the sidecar runs on Linux")]
    Windows,
    /// The kubelet runs it, whatever the API server says.
    #[error("it is a static pod, which its node's kubelet runs as its file says")]
    StaticPod,
    /// It is part of Tallyman.
    #[error("it is a server of Tallyman's own")]
    TallymanItself,
    /// There is a container of that name, and we did not inject it.
    #[error("it has a container {} already, which was not injected", names::SIDECAR_CONTAINER)]
    OwnSidecar,
    /// A container has a port that the sidecar needs.
    #[error("its container {container} has port {port}, which the sidecar needs")]
    PortTaken {
        /// The container.
        container: String,
        /// The port.
        port: i32,
    },
    /// There is a volume of that name, and we did not make it.
    #[error("it has a volume {volume} already, which was not injected")]
    VolumeTaken {
        /// The volume.
        volume: String,
    },
}

/// Why this pod can have no sidecar, if so.
#[must_use]
pub(super) fn reason(metadata: &ObjectMeta, spec: &PodSpec) -> Option<SkipReason> {
    if metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(names::COUNTER_NAMESPACE)) {
        return Some(SkipReason::TallymanItself);
    }
    if is_static(metadata) {
        return Some(SkipReason::StaticPod);
    }
    if is_for_windows(spec) {
        return Some(SkipReason::Windows);
    }
    if spec.host_network == Some(true) {
        return Some(SkipReason::HostNetwork);
    }
    let injected = metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(names::INJECTED));
    own_sidecar(spec, injected).or_else(|| port_taken(spec)).or_else(|| volume_taken(spec, injected))
}

fn is_static(metadata: &ObjectMeta) -> bool {
    let mirror = |annotations: &BTreeMap<_, _>| annotations.contains_key("kubernetes.io/config.mirror");
    metadata.annotations.as_ref().is_some_and(mirror)
        || metadata.owner_references.iter().flatten().any(|owner| owner.kind == "Node")
}

fn is_for_windows(spec: &PodSpec) -> bool {
    let selected = spec.node_selector.as_ref().and_then(|selector| selector.get("kubernetes.io/os"));
    spec.os.as_ref().is_some_and(|os| os.name == "windows") || selected.is_some_and(|os| os == "windows")
}

/// A container that took our name; ours is an init container, and there is a note that we injected it.
fn own_sidecar(spec: &PodSpec, injected: bool) -> Option<SkipReason> {
    let ours = |container: &Container| container.name == names::SIDECAR_CONTAINER;
    let beside = spec.containers.iter().any(ours);
    let before = spec.init_containers.iter().flatten().any(ours);
    (beside || (before && !injected)).then_some(SkipReason::OwnSidecar)
}

fn port_taken(spec: &PodSpec) -> Option<SkipReason> {
    // An init container may meet the sidecar too, which starts before it.
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let others = containers.filter(|container| container.name != names::SIDECAR_CONTAINER);
    others
        .flat_map(|container| container.ports.iter().flatten().map(move |port| (container, port)))
        .filter(|(_, port)| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
        .find(|(_, port)| [names::API_PORT, names::SIDECAR_ADMIN_PORT].contains(&port.container_port))
        .map(|(container, port)| SkipReason::PortTaken { container: container.name.clone(), port: port.container_port })
}

fn volume_taken(spec: &PodSpec, injected: bool) -> Option<SkipReason> {
    let mut taken = spec.volumes.iter().flatten().filter(|volume| VOLUMES.contains(&volume.name.as_str()) && !injected);
    taken.next().map(|volume| SkipReason::VolumeTaken { volume: volume.name.clone() })
}
