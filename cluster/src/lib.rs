//! Installs, starts and stops a real Kubernetes on this machine alone, for development and tests: etcd, the API server and the
//! controller manager; with one node that runs pods, in namespaces of its own, where that is asked for. Knows nothing of Tallyman.
//!
//! A cluster has a [`Place`]: a folder for its state and data, and a loopback address. Clusters in places with different folders
//! and addresses run side by side. [`Cluster::up`] leaves one running behind the caller's end; [`Cluster::start`] ends it with its
//! value, which is what tests want. [`StandinKubelet`] does for pods what a node would report, [`Judge`] says what others take
//! an object's health for, and [`gitops_agent`] keeps a cluster as a Git repository says.

mod audit;
mod cluster;
mod command;
mod error;
mod files;
mod go;
mod install;
mod judge;
mod kubeconfig;
mod machine;
mod node;
mod options;
mod part;
mod pause;
mod readiness;
#[cfg(feature = "standin-kubelet")]
mod standin_kubelet;
mod state;
mod status;

pub use self::audit::{AuditLog, Event, Mark};
pub use self::cluster::{Cluster, Up, load_images};
pub use self::error::{Error, Result};
pub use self::go::go_program;
pub use self::install::{bin_folders, gitops_agent, helm, install};
pub use self::judge::{Judge, Verdict};
pub use self::options::{Place, Shape, Version};
pub use self::part::Part;
#[cfg(feature = "standin-kubelet")]
pub use self::standin_kubelet::StandinKubelet;
pub use self::status::{Status, status};
