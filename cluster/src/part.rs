//! The processes of a control plane: how each is started, and what says that it is ready.

use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::options::Place;

/// One process of a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Where the API server keeps everything. It does not fsync.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager, without what is about nodes.
    ControllerManager,
}

const ETCD_PORT: u16 = 2379;
const ETCD_PEER_PORT: u16 = 2380;
const CONTROLLER_MANAGER_PORT: u16 = 10257;
/// How long etcd may take to say how it is.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

const SERVICE_ADDRESSES: &str = "10.96.0.0/16";
/// There are no nodes that could be well or not, no cloud and no disks.
const CONTROLLERS: &str = "*,-node-ipam-controller,-node-lifecycle-controller,-node-route-controller,-service-lb-controller,\
                           -taint-eviction-controller,-device-taint-eviction-controller,-cloud-node-lifecycle-controller,\
                           -persistentvolume-attach-detach-controller";
/// What the audit log tells: who asked for what, and how it ended; one line for each request, when it has ended.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}], "omitStages": ["RequestReceived", "ResponseStarted"]}"#;

impl Part {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 3] = [Self::Etcd, Self::ApiServer, Self::ControllerManager];

    /// As its process is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }

    /// The addresses that it binds.
    pub(crate) fn binds(self, place: &Place) -> Vec<SocketAddr> {
        match self {
            Self::Etcd => vec![at(place, ETCD_PORT), at(place, ETCD_PEER_PORT)],
            Self::ApiServer => vec![place.api_server()],
            Self::ControllerManager => vec![at(place, CONTROLLER_MANAGER_PORT)],
        }
    }

    /// Where it says by HTTPS how it is, if it does.
    pub(crate) fn health(self, place: &Place) -> Option<(SocketAddr, &'static str)> {
        match self {
            Self::Etcd => None,
            Self::ApiServer => Some((place.api_server(), "/readyz")),
            Self::ControllerManager => Some((at(place, CONTROLLER_MANAGER_PORT), "/healthz")),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn at(place: &Place, port: u16) -> SocketAddr {
    (place.address, port).into()
}

/// The files of a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Files<'a>(pub &'a Path);

impl Files<'_> {
    pub(crate) fn log(self, part: Part) -> PathBuf {
        self.0.join(format!("{part}.log"))
    }

    pub(crate) fn audit_log(self) -> PathBuf {
        self.0.join("audit.log")
    }

    pub(crate) fn keys(self) -> PathBuf {
        self.0.join("keys")
    }

    pub(crate) fn kubeconfigs(self) -> PathBuf {
        self.0.join("kubeconfigs")
    }

    /// The administrator's.
    pub(crate) fn kubeconfig(self) -> PathBuf {
        self.0.join("kubeconfig.yaml")
    }

    pub(crate) fn controller_manager_kubeconfig(self) -> PathBuf {
        self.0.join("controller-manager.yaml")
    }

    fn audit_policy(self) -> PathBuf {
        self.0.join("audit-policy.yaml")
    }

    pub(crate) fn write_audit_policy(self) -> std::io::Result<()> {
        std::fs::write(self.audit_policy(), AUDIT_POLICY)
    }
}

/// The programs that parts are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub etcd: PathBuf,
    /// Folder of Kubernetes' programs.
    pub kubernetes: PathBuf,
}

/// The command of a part.
pub(crate) fn command(part: Part, place: &Place, programs: &Programs) -> Command {
    let program = match part {
        Part::Etcd => programs.etcd.clone(),
        Part::ApiServer | Part::ControllerManager => programs.kubernetes.join(part.name()),
    };
    let mut command = Command::new(program);
    for (name, value) in flags(part, place) {
        command.arg(format!("--{name}={value}"));
    }
    command.current_dir(&place.folder);
    command
}

fn flags(part: Part, place: &Place) -> Vec<(&'static str, String)> {
    let files = Files(&place.folder);
    let text = |path: PathBuf| path.display().to_string();
    let key = |name: &str| text(files.keys().join(name));
    let address = place.address.to_string();
    let (clients, peers) =
        (format!("http://{}", at(place, ETCD_PORT)), format!("http://{}", at(place, ETCD_PEER_PORT)));
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
            ("logger", "zap".to_owned()),
            ("log-level", "warn".to_owned()),
        ],
        Part::ApiServer => vec![
            ("etcd-servers", clients),
            ("bind-address", address.clone()),
            ("advertise-address", address),
            // Loopback addresses are refused as endpoints.
            ("endpoint-reconciler-type", "none".to_owned()),
            ("secure-port", place.api_server().port().to_string()),
            ("tls-cert-file", key("apiserver.crt")),
            ("tls-private-key-file", key("apiserver.key")),
            ("client-ca-file", key("ca.crt")),
            ("authorization-mode", "RBAC,Node".to_owned()),
            ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            ("service-account-key-file", key("service-accounts.crt")),
            ("service-account-signing-key-file", key("service-accounts.key")),
            ("service-cluster-ip-range", SERVICE_ADDRESSES.to_owned()),
            ("audit-policy-file", text(files.audit_policy())),
            ("audit-log-path", text(files.audit_log())),
            // In megabytes: never begun anew.
            ("audit-log-maxsize", "1000000".to_owned()),
            ("allow-privileged", yes()),
        ],
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
                ("controllers", CONTROLLERS.to_owned()),
            ]
        }
    }
}

/// Asks etcd how it is.
pub(crate) fn ask_etcd(place: &Place) -> Result<(), String> {
    let ask = || -> std::io::Result<String> {
        let address = at(place, ETCD_PORT);
        let mut stream = TcpStream::connect_timeout(&address, ASK_PATIENCE)?;
        stream.set_read_timeout(Some(ASK_PATIENCE))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.contains(r#""health":"true""#) => Ok(()),
        Ok(answer) => Err(answer),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_listen_on_the_address_of_their_place_and_on_no_other() {
        let place = Place { folder: "/cache/cluster".into(), address: [127, 0, 100, 7].into() };
        let binds: Vec<SocketAddr> = Part::ALL.into_iter().flat_map(|part| part.binds(&place)).collect();
        assert!(binds.iter().all(|bind| bind.ip() == place.address));
        for part in Part::ALL {
            let flags = flags(part, &place);
            let listens: Vec<&String> = flags
                .iter()
                .filter(|(name, _)| name.contains("listen") || *name == "bind-address")
                .map(|flag| &flag.1)
                .collect();
            assert!(!listens.is_empty() && listens.iter().all(|value| value.contains("127.0.100.7")), "{listens:?}");
        }
    }
}
