//! How each part of a cluster is started.

use std::path::PathBuf;
use std::process::Command;

use tallyman_servers::Pid;

use crate::files::Files;
use crate::machine::{self, Entry};
use crate::node::{self, NodeFiles};
use crate::options::{Place, Shape};
use crate::part::{CONTROLLER_MANAGER_PORT, ETCD_PEER_PORT, ETCD_PORT, PROXY_HEALTH_PORT, Part, at};

/// No cloud and no disks.
const CONTROLLERS: &str = "*,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller,\
                           -persistentvolume-attach-detach-controller";
/// Nor nodes that could be well or not.
const CONTROLLERS_WITHOUT_NODE: &str = "*,-node-ipam-controller,-node-lifecycle-controller,-node-route-controller,-service-lb-controller,\
                                        -taint-eviction-controller,-device-taint-eviction-controller,\
                                        -cloud-node-lifecycle-controller,-persistentvolume-attach-detach-controller";
const SERVICE_ADDRESSES_WITHOUT_NODE: &str = "10.96.0.0/16";

/// The programs that parts are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub etcd: PathBuf,
    /// Folder of Kubernetes' programs.
    pub kubernetes: PathBuf,
    /// Those of a node, if there is one.
    pub node: Option<NodePrograms>,
}

/// The programs of a node that are not Kubernetes' own.
#[derive(Debug)]
pub(crate) struct NodePrograms {
    pub containerd: PathBuf,
    /// What talks to it.
    pub ctr: PathBuf,
    pub coredns: PathBuf,
    /// An archive.
    pub pause_image: PathBuf,
}

/// How a part is started.
pub(crate) struct Start {
    pub command: Command,
    /// Whether the part is the one child of the process that the command starts, rather than that process.
    pub is_child: bool,
}

/// How to start a part, on the machine that is its node's, if there is one.
pub(crate) fn start(part: Part, place: &Place, shape: &Shape, programs: &Programs, machine: Option<Pid>) -> Start {
    if part == Part::Machine {
        return Start { command: machine::command(), is_child: true };
    }
    let mut command = Command::new(program(part, programs));
    for (name, value) in flags(part, place, shape) {
        // CoreDNS has flags of one dash.
        command.arg(if part == Part::Dns { format!("-{name}={value}") } else { format!("--{name}={value}") });
    }
    command.current_dir(&place.folder);
    let Some(machine) = machine else { return Start { command, is_child: false } };
    // What is mounted for pods, and their processes, are in the machine; the rest only needs its network.
    let entry = match part {
        Part::Containerd | Part::Kubelet => Entry::Everything,
        _ => Entry::Network,
    };
    Start { command: machine::inside(machine, entry, &command), is_child: entry == Entry::Everything }
}

fn program(part: Part, programs: &Programs) -> PathBuf {
    match (part, &programs.node) {
        (Part::Etcd, _) => programs.etcd.clone(),
        (Part::Containerd, Some(node)) => node.containerd.clone(),
        (Part::Dns, Some(node)) => node.coredns.clone(),
        _ => programs.kubernetes.join(part.name()),
    }
}

fn flags(part: Part, place: &Place, shape: &Shape) -> Vec<(&'static str, String)> {
    let (files, node_files) = (Files(&place.folder), NodeFiles(&place.folder));
    let text = |path: PathBuf| path.display().to_string();
    let key = |name: &str| text(files.keys().join(name));
    let address = place.address.to_string();
    let (clients, peers) =
        (format!("https://{}", at(place, ETCD_PORT)), format!("https://{}", at(place, ETCD_PEER_PORT)));
    let yes = || "true".to_owned();
    match part {
        Part::Etcd => vec![
            ("name", "default".to_owned()),
            ("data-dir", text(place.folder.join("etcd"))),
            // What a test wrote needs to outlive processes, not the machine.
            ("unsafe-no-fsync", yes()),
            ("listen-client-urls", clients.clone()),
            ("advertise-client-urls", clients),
            ("listen-peer-urls", peers.clone()),
            ("initial-advertise-peer-urls", peers.clone()),
            ("initial-cluster", format!("default={peers}")),
            // Who writes here does as he likes with the cluster, and with a node's machine.
            ("cert-file", key("apiserver.crt")),
            ("key-file", key("apiserver.key")),
            ("client-cert-auth", yes()),
            ("trusted-ca-file", key("ca.crt")),
            ("peer-cert-file", key("apiserver.crt")),
            ("peer-key-file", key("apiserver.key")),
            ("peer-client-cert-auth", yes()),
            ("peer-trusted-ca-file", key("ca.crt")),
            ("logger", "zap".to_owned()),
            ("log-level", "warn".to_owned()),
        ],
        Part::ApiServer => {
            let mut flags = vec![
                ("etcd-servers", clients),
                ("etcd-cafile", key("ca.crt")),
                ("etcd-certfile", key("kubelet-client.crt")),
                ("etcd-keyfile", key("kubelet-client.key")),
                ("bind-address", address.clone()),
                ("advertise-address", address),
                ("secure-port", place.api_server().port().to_string()),
                ("tls-cert-file", key("apiserver.crt")),
                ("tls-private-key-file", key("apiserver.key")),
                ("client-ca-file", key("ca.crt")),
                ("authorization-mode", "RBAC,Node".to_owned()),
                ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
                ("service-account-key-file", key("service-accounts.crt")),
                ("service-account-signing-key-file", key("service-accounts.key")),
                ("audit-policy-file", text(files.audit_policy())),
                ("audit-log-path", text(files.audit_log())),
                // In megabytes: never begun anew.
                ("audit-log-maxsize", "1000000".to_owned()),
                ("allow-privileged", yes()),
            ];
            flags.extend(if shape.node {
                vec![
                    ("service-cluster-ip-range", node::SERVICE_ADDRESSES.to_owned()),
                    ("kubelet-preferred-address-types", "InternalIP".to_owned()),
                    ("kubelet-client-certificate", key("kubelet-client.crt")),
                    ("kubelet-client-key", key("kubelet-client.key")),
                ]
            } else {
                vec![
                    ("service-cluster-ip-range", SERVICE_ADDRESSES_WITHOUT_NODE.to_owned()),
                    // Loopback addresses are refused as endpoints.
                    ("endpoint-reconciler-type", "none".to_owned()),
                ]
            });
            flags
        }
        Part::ControllerManager => {
            let kubeconfig = text(files.controller_manager_kubeconfig());
            vec![
                ("bind-address", address),
                ("secure-port", CONTROLLER_MANAGER_PORT.to_string()),
                ("tls-cert-file", key("apiserver.crt")),
                ("tls-private-key-file", key("apiserver.key")),
                ("kubeconfig", kubeconfig.clone()),
                ("authentication-kubeconfig", kubeconfig.clone()),
                ("authorization-kubeconfig", kubeconfig),
                // It serves nobody but us, and what it would look up is about aggregated API servers, of which there are none.
                ("authentication-skip-lookup", yes()),
                ("service-account-private-key-file", key("service-accounts.key")),
                ("root-ca-file", key("ca.crt")),
                ("cluster-signing-cert-file", key("ca.crt")),
                ("cluster-signing-key-file", key("ca.key")),
                // Each controller with the rights of its own, as in a cluster of kubeadm's.
                ("use-service-account-credentials", yes()),
                // By default, a StatefulSet of 400 pods would take it 20 s.
                ("kube-api-qps", "300".to_owned()),
                ("kube-api-burst", "600".to_owned()),
                // There is one only, and it is to go on at once when it is started again.
                ("leader-elect", "false".to_owned()),
                ("controllers", if shape.node { CONTROLLERS } else { CONTROLLERS_WITHOUT_NODE }.to_owned()),
            ]
        }
        Part::Scheduler => {
            let kubeconfig = text(node_files.kubeconfig("scheduler"));
            vec![
                ("bind-address", address),
                ("tls-cert-file", key("apiserver.crt")),
                ("tls-private-key-file", key("apiserver.key")),
                ("kubeconfig", kubeconfig.clone()),
                ("authentication-kubeconfig", kubeconfig.clone()),
                ("authorization-kubeconfig", kubeconfig),
                ("leader-elect", "false".to_owned()),
            ]
        }
        Part::Containerd => vec![("config", text(node_files.containerd_config()))],
        Part::Kubelet => vec![
            ("config", text(node_files.kubelet_config())),
            ("kubeconfig", text(node_files.kubeconfig("kubelet"))),
            ("root-dir", text(node_files.kubelet_root())),
            ("cert-dir", text(files.keys().join("kubelet"))),
            ("hostname-override", node::NAME.to_owned()),
            ("node-ip", address),
        ],
        Part::Proxy => vec![
            ("kubeconfig", text(node_files.kubeconfig("proxy"))),
            ("hostname-override", node::NAME.to_owned()),
            ("proxy-mode", "iptables".to_owned()),
            ("conntrack-max-per-core", "0".to_owned()),
            ("oom-score-adj", "0".to_owned()),
            ("bind-address", address),
            ("healthz-bind-address", at(place, PROXY_HEALTH_PORT).to_string()),
        ],
        Part::Dns => vec![("conf", text(node_files.corefile()))],
        Part::Machine => vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_listen_on_the_address_of_their_place_and_on_no_other() {
        let place = Place { folder: "/cache/cluster".into(), address: [127, 0, 100, 7].into() };
        for part in Part::CONTROL_PLANE {
            assert!(part.binds(&place).iter().all(|bind| bind.ip() == place.address));
            let flags = flags(part, &place, &Shape::default());
            let listens: Vec<&String> = flags
                .iter()
                .filter(|(name, _)| name.contains("listen") || *name == "bind-address")
                .map(|flag| &flag.1)
                .collect();
            assert!(!listens.is_empty() && listens.iter().all(|value| value.contains("127.0.100.7")), "{listens:?}");
        }
    }
}
