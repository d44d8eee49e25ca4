//! The files of a cluster.

use std::path::{Path, PathBuf};

use crate::part::Part;

/// What the audit log tells: who asked for what, and how it ended; one line for each request, when it has ended.
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}], "omitStages": ["RequestReceived", "ResponseStarted"]}"#;

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

    pub(crate) fn audit_policy(self) -> PathBuf {
        self.0.join("audit-policy.yaml")
    }

    pub(crate) fn write_audit_policy(self) -> std::io::Result<()> {
        std::fs::write(self.audit_policy(), AUDIT_POLICY)
    }
}
