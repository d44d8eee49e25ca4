//! What a cluster is made of, all got on first use: etcd from Debian, Kubernetes and its tools from Go modules.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tallyman_servers::debian::{self, Package};
use tallyman_servers::{Lock, cache};

use crate::command::NodePrograms;
use crate::error::{Error, Result};
use crate::go::{self, Source, remove};
use crate::options::Version;
use crate::pause;

const ETCD: Package = Package { name: "etcd-server", sign: "etcd" };
/// What a node needs besides.
const NODE: [Package; 9] = [
    Package { name: "containerd", sign: "containerd" },
    Package { name: "runc", sign: "runc" },
    Package { name: "containernetworking-plugins", sign: "/usr/lib/cni/bridge" },
    Package { name: "iptables", sign: "iptables" },
    Package { name: "conntrack", sign: "conntrack" },
    Package { name: "iproute2", sign: "ip" },
    Package { name: "tini", sign: "tini" },
    Package { name: "gcc", sign: "cc" },
    Package { name: "libc6-dev", sign: "/usr/include/stdlib.h" },
];
const HELM_VERSION: &str = "3.18.6";
/// What [`kubernetes`] is called by.
const APPLETS: [&str; 7] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "certificates"];

const MAIN: (&str, &str) = ("main.go", include_str!("../go/kubernetes/main.go"));
const CERTIFICATES: (&str, &str) = ("certificates.go", include_str!("../go/kubernetes/certificates.go"));
const JUDGE: [(&str, &str); 3] = [("main.go", include_str!("../go/judge/main.go")), ARGO_MODULE, ARGO_SUMS];
/// The versions of Argo CD and its engine. Shared, so that the engine is judged by what it is of, and compiled once.
const ARGO_MODULE: (&str, &str) = ("go.mod", include_str!("../go/judge/go.mod"));
const ARGO_SUMS: (&str, &str) = ("go.sum", include_str!("../go/judge/go.sum"));
const GITOPS_AGENT: &str = "github.com/argoproj/gitops-engine/agent";

const COREDNS: [(&str, &str); 3] = [
    ("main.go", include_str!("../go/coredns/main.go")),
    ("go.mod", include_str!("../go/coredns/go.mod")),
    ("go.sum", include_str!("../go/coredns/go.sum")),
];

fn module(version: Version) -> [(&'static str, &'static str); 4] {
    let (module, sums) = match version {
        Version::V1_34 => (include_str!("../go/kubernetes/1.34/go.mod"), include_str!("../go/kubernetes/1.34/go.sum")),
        Version::V1_36 => (include_str!("../go/kubernetes/1.36/go.mod"), include_str!("../go/kubernetes/1.36/go.sum")),
    };
    [MAIN, CERTIFICATES, ("go.mod", module), ("go.sum", sums)]
}

/// Finds or installs etcd.
pub(crate) fn etcd() -> Result<PathBuf> {
    debian::install(&[ETCD])?;
    let missing = || tallyman_servers::Error::Missing("etcd was installed and is not found".to_owned());
    Ok(debian::find(ETCD.sign).ok_or_else(missing)?)
}

/// Finds, installs or builds what a node needs besides Kubernetes.
pub(crate) fn node() -> Result<NodePrograms> {
    debian::install(&NODE)?;
    let found = |name: &str| {
        let missing = || tallyman_servers::Error::Missing(format!("{name} was installed and is not found"));
        debian::find(name).ok_or_else(missing)
    };
    let name = format!("coredns-{:016x}", digest(&COREDNS));
    let what = "building CoreDNS, once (about a minute)";
    let coredns = built(&name, "coredns", &Source::Module(&COREDNS), "", what, &[])?.join("coredns");
    Ok(NodePrograms { containerd: found("containerd")?, ctr: found("ctr")?, coredns, pause_image: pause::image()? })
}

/// The folder of Kubernetes' programs, `kubectl` among them. Builds them where that is not done yet.
pub(crate) fn kubernetes(version: Version) -> Result<PathBuf> {
    let (files, full) = (module(version), version.full());
    let name = format!("kubernetes-{full}-{:016x}", digest(&files));
    let settings = format!("-X k8s.io/component-base/version.gitVersion=v{full}");
    let what = format!("building Kubernetes {full}, once (about 5 minutes)");
    built(&name, "kubernetes", &Source::Module(&files), &settings, &what, &APPLETS)
}

/// The folder of `helm`. Builds it where that is not done yet.
///
/// # Errors
/// Whatever keeps it from being built.
pub fn helm() -> Result<PathBuf> {
    let source = format!("helm.sh/helm/v3/cmd/helm@v{HELM_VERSION}");
    let settings = format!("-X helm.sh/helm/v3/internal/version.version=v{HELM_VERSION}");
    let what = format!("building Helm {HELM_VERSION}, once (about 2 minutes)");
    built(&format!("helm-{HELM_VERSION}"), "helm", &Source::Package(&source), &settings, &what, &[])
}

/// The program `judge`. Builds it where that is not done yet.
pub(crate) fn judge() -> Result<PathBuf> {
    let what = "building what Argo CD and kstatus judge health by, once (about 2 minutes)";
    let folder = built(&format!("judge-{:016x}", digest(&JUDGE)), "judge", &Source::Module(&JUDGE), "", what, &[])?;
    Ok(folder.join("judge"))
}

/// The program `gitops`: Argo CD's engine, which keeps a cluster as a Git clone says. Builds it where that is not done yet.
///
/// # Errors
/// Whatever keeps it from being built.
pub fn gitops_agent() -> Result<PathBuf> {
    let module = [ARGO_MODULE, ARGO_SUMS];
    let name = format!("gitops-agent-{:016x}", digest(&[&module[..], &[("package", GITOPS_AGENT)]].concat()));
    let what = "building Argo CD's engine, once (about 2 minutes; seconds where its judge is built)";
    let source = Source::Dependency { module: &module, package: GITOPS_AGENT };
    Ok(built(&name, "gitops", &source, "", what, &[])?.join("gitops"))
}

/// Gets all that tests of clusters need, so that none of them waits for it.
///
/// # Errors
/// Whatever keeps it from being installed or built.
pub fn install() -> Result<()> {
    etcd()?;
    for version in Version::ALL {
        kubernetes(version)?;
    }
    node()?;
    helm()?;
    judge()?;
    gitops_agent()?;
    Ok(())
}

/// The folders that hold `kubectl` and `helm`, for the path of a program that uses a cluster.
///
/// # Errors
/// Whatever keeps them from being built.
pub fn bin_folders(version: Version) -> Result<[PathBuf; 2]> {
    Ok([kubernetes(version)?, helm()?])
}

fn built(
    name: &str,
    program: &str,
    source: &Source<'_>,
    settings: &str,
    what: &str,
    applets: &[&str],
) -> Result<PathBuf> {
    let cache = cache::folder()?;
    let home = cache.join(name);
    let bin = home.join("bin");
    if bin.is_dir() {
        return Ok(bin);
    }
    // Two runs at once must not build the same.
    let _lock = Lock::take(&home)?;
    if !bin.is_dir() {
        let begun = cache.join(format!("{name}.begun"));
        remove(&begun)?;
        let begun_bin = begun.join("bin");
        go::build(program, source, settings, &begun_bin, what)?;
        for applet in applets {
            let link = begun_bin.join(applet);
            symlink(program, &link).map_err(Error::file(&link))?;
        }
        // All of it or nothing.
        fs::rename(&begun, &home).map_err(Error::file(&home))?;
    }
    Ok(bin)
}

/// What is built again whenever its sources change. A toolchain that hashes otherwise builds once more, no worse.
pub(crate) fn digest(files: &[(&str, &str)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kubernetes_is_built_from_the_modules_of_its_own_version() {
        for version in Version::ALL {
            let [.., (_, module), (_, sums)] = module(version);
            let full = version.full();
            assert!(module.contains(&format!("k8s.io/kubernetes v{full}\n")), "{version}");
            let staging = full.strip_prefix("1.").unwrap();
            assert!(module.contains(&format!("k8s.io/api => k8s.io/api v0.{staging}\n")), "{version}");
            assert!(sums.contains(&format!("k8s.io/kubernetes v{full} h1:")), "{version}");
        }
    }

    #[test]
    fn what_is_built_from_other_sources_has_another_name() {
        assert_ne!(digest(&module(Version::V1_34)), digest(&module(Version::V1_36)));
        assert_ne!(digest(&[("a", "b")]), digest(&[("a", "c")]));
    }
}
