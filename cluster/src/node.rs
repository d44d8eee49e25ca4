//! What a node's programs are told: files of containerd, its network plugins, kubelet and CoreDNS.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::{Error, Result};
use crate::options::Place;

/// The node's name.
pub(crate) const NAME: &str = "node";
/// Documentation addresses (RFC 5737), as are the node's: none of them is anybody's elsewhere.
pub(crate) const SERVICE_ADDRESSES: &str = "203.0.113.0/24";
/// The first of them: the API server, as pods see it.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Where CoreDNS listens. No Service has it, so that pods reach it without kube-proxy.
pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub(crate) const DNS_READY_PORT: u16 = 8181;
pub(crate) const KUBELET_HEALTH_PORT: u16 = 10248;
const POD_ADDRESSES: &str = "198.51.100.0/24";
const DOMAIN: &str = "cluster.local";
/// Where Debian has them.
const NETWORK_PLUGINS: &str = "/usr/lib/cni";
/// What holds the namespaces of a pod.
pub(crate) const PAUSE_IMAGE: &str = "tallyman.dev/pause:1";

/// A node's files and folders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeFiles<'a>(pub &'a Path);

impl NodeFiles<'_> {
    pub(crate) fn containerd_socket(self) -> PathBuf {
        self.0.join("containerd.sock")
    }

    pub(crate) fn containerd_config(self) -> PathBuf {
        self.0.join("containerd.toml")
    }

    pub(crate) fn kubelet_config(self) -> PathBuf {
        self.0.join("kubelet-config.yaml")
    }

    /// Volumes of pods.
    pub(crate) fn kubelet_root(self) -> PathBuf {
        self.0.join("kubelet")
    }

    pub(crate) fn corefile(self) -> PathBuf {
        self.0.join("Corefile")
    }

    pub(crate) fn kubeconfig(self, of: &str) -> PathBuf {
        self.0.join(format!("{of}.yaml"))
    }

    fn network_config(self) -> PathBuf {
        self.0.join("cni")
    }

    /// Writes what the node's programs read when they start.
    pub(crate) fn write(self, place: &Place) -> Result<()> {
        let network = self.network_config();
        fs::create_dir_all(&network).map_err(Error::file(&network))?;
        for (path, text) in [
            (self.containerd_config(), self.containerd()),
            (network.join("10-bridge.conflist"), bridge()),
            (self.kubelet_config(), self.kubelet(place)),
            (self.corefile(), self.coredns(place)),
        ] {
            fs::write(&path, text).map_err(Error::file(&path))?;
        }
        Ok(())
    }

    fn containerd(self) -> String {
        // Paths as JSON strings, which are TOML strings, too.
        let quoted = |path: PathBuf| json!(path).to_string();
        format!(
            r#"version = 2
root = {root}
state = "/run/containerd"
oom_score = 0
[grpc]
address = {socket}
[plugins."io.containerd.internal.v1.opt"]
path = {opt}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
# Negative ones are not for everybody to give, not even for root in a container.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{NETWORK_PLUGINS}"
conf_dir = {network}
"#,
            root = quoted(self.0.join("containerd")),
            opt = quoted(self.0.join("containerd-opt")),
            socket = quoted(self.containerd_socket()),
            network = quoted(self.network_config()),
        )
    }

    fn kubelet(self, place: &Place) -> String {
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": place.address.to_string(),
            "healthzBindAddress": place.address.to_string(),
            "healthzPort": KUBELET_HEALTH_PORT,
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": false},
                "x509": {"clientCAFile": self.0.join("keys/ca.crt")},
            },
            // Whoever has a certificate of ours: the API server.
            "authorization": {"mode": "AlwaysAllow"},
            "containerRuntimeEndpoint": format!("unix://{}", self.containerd_socket().display()),
            "clusterDNS": [DNS.to_string()],
            "clusterDomain": DOMAIN,
            // Nobody out there is asked for names.
            "resolvConf": "",
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": false,
            "enforceNodeAllocatable": [],
            "failCgroupV1": false,
            "failSwapOn": false,
            "podLogsDir": self.0.join("pods"),
            // This machine's disk is ours to watch. By default nothing runs on one that is nine tenths full, and a hundredth is gigabytes
            // of a large one, where pods would be evicted that need next to nothing.
            "evictionHard": {
                "memory.available": "100Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%",
                "imagefs.inodesFree": "0%",
            },
            "evictionPressureTransitionPeriod": "10s",
            "imageGCHighThresholdPercent": 100,
            "volumePluginDir": self.0.join("volume-plugins"),
            // By default, whatever else runs on this machine would go first where memory is short.
            "oomScoreAdj": 0,
            "maxPods": 200,
            // What is mounted of ConfigMaps and Secrets that come or change is brought within as long and a half: by default, a minute
            // and a half.
            "syncFrequency": "10s",
            // By default a burst of pods takes its status seconds to report.
            "kubeAPIQPS": 100,
            "kubeAPIBurst": 200,
        });
        config.to_string()
    }

    fn coredns(self, place: &Place) -> String {
        let kubeconfig = self.kubeconfig("coredns");
        format!(
            ".:53 {{\n    bind {DNS}\n    ready {}:{DNS_READY_PORT}\n    errors\n    cache 5\n    kubernetes {DOMAIN} in-addr.arpa {{\n        \
             kubeconfig {}\n        pods insecure\n        ttl 5\n    }}\n}}\n",
            place.address,
            kubeconfig.display()
        )
    }
}

fn bridge() -> String {
    let config = json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "pods", "isGateway": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "dataDir": "/run/cni-addresses",
                    "ranges": [[{"subnet": POD_ADDRESSES}]], "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    config.to_string()
}
