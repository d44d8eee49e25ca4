//! The processes of a cluster: what each is called, where it listens, and what says that it is ready.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::node;
use crate::options::{Place, Shape};

/// One process of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The first process of the machine in which all others run, if there is a node. It cannot be started again: it takes them along.
    Machine,
    /// Where the API server keeps everything. It does not fsync.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager; where there is no node, without what is about nodes.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// Runs containers.
    Containerd,
    /// Has pods run.
    Kubelet,
    /// kube-proxy: lets Services lead to their pods.
    Proxy,
    /// CoreDNS: the names of Services and pods.
    Dns,
}

pub(crate) const ETCD_PORT: u16 = 2379;
pub(crate) const ETCD_PEER_PORT: u16 = 2380;
pub(crate) const CONTROLLER_MANAGER_PORT: u16 = 10257;
const SCHEDULER_PORT: u16 = 10259;
pub(crate) const PROXY_HEALTH_PORT: u16 = 10256;

/// What says that a part is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is ready when it runs.
    Running,
    /// An answer by HTTP that has this in it.
    Http(SocketAddr, &'static str, &'static str),
    /// A good answer by HTTPS.
    Https(SocketAddr, &'static str),
    /// An answer on its socket.
    Containerd,
    /// An answer by HTTP, and the node's condition, which may be from before.
    NodeReady(SocketAddr),
}

impl Part {
    /// Those of a control plane, in the order in which they start.
    pub const CONTROL_PLANE: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::ControllerManager];
    const WITH_NODE: [Self; 9] = [
        Self::Machine,
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Containerd,
        Self::Kubelet,
        Self::Proxy,
        Self::Dns,
    ];

    /// Those of a cluster, in the order in which they start.
    pub fn all(shape: &Shape) -> &'static [Self] {
        if shape.node { &Self::WITH_NODE } else { &Self::CONTROL_PLANE }
    }

    /// As its process is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::Proxy => "kube-proxy",
            Self::Dns => "coredns",
        }
    }

    /// The addresses that it binds on this machine; on a machine of its own all are free.
    pub(crate) fn binds(self, place: &Place) -> Vec<SocketAddr> {
        match self {
            Self::Etcd => vec![at(place, ETCD_PORT), at(place, ETCD_PEER_PORT)],
            Self::ApiServer => vec![place.api_server()],
            Self::ControllerManager => vec![at(place, CONTROLLER_MANAGER_PORT)],
            Self::Machine | Self::Scheduler | Self::Containerd | Self::Kubelet | Self::Proxy | Self::Dns => vec![],
        }
    }

    pub(crate) fn health(self, place: &Place) -> Health {
        match self {
            Self::Machine => Health::Running,
            Self::Etcd => Health::Https(at(place, ETCD_PORT), "/health"),
            Self::ApiServer => Health::Https(place.api_server(), "/readyz"),
            Self::ControllerManager => Health::Https(at(place, CONTROLLER_MANAGER_PORT), "/healthz"),
            Self::Scheduler => Health::Https(at(place, SCHEDULER_PORT), "/healthz"),
            Self::Containerd => Health::Containerd,
            Self::Kubelet => Health::NodeReady(at(place, node::KUBELET_HEALTH_PORT)),
            Self::Proxy => Health::Http(at(place, PROXY_HEALTH_PORT), "/healthz", " 200 "),
            Self::Dns => Health::Http((place.address, node::DNS_READY_PORT).into(), "/ready", " 200 "),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

pub(crate) fn at(place: &Place, port: u16) -> SocketAddr {
    (place.address, port).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_start_in_the_order_in_which_the_state_keeps_them_so_that_they_end_the_other_way_round() {
        assert!(Part::WITH_NODE.is_sorted() && Part::CONTROL_PLANE.is_sorted());
    }
}
