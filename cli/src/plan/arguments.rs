//! The options of `tallyman plan`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::schema::Login;

/// Show what CounterNamespaces would get: settings with their arithmetic, Kubernetes objects, and CQL. Changes nothing.
///
/// Without more options, no cluster is asked: the objects are those of a new CounterNamespace, and the CQL that of an empty
/// Cassandra. With --cluster (or --kubeconfig or --context), what would change there is shown instead of the objects; with
/// --cassandra, the statements that are missing there. docs/capacity.md says how settings are chosen.
///
/// Exit codes: 0, whether anything would change or not; with --exit-code, 2 if something would.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("compared").multiple(true))]
pub struct Plan {
    /// A file of CounterNamespaces, and of CounterClasses if you like, in YAML or JSON; - is the standard input. May be given
    /// several times.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub filenames: Vec<PathBuf>,

    /// A file with the CounterClass. Without one, it is the cluster's with --cluster, and else one that is made up.
    #[arg(long, value_name = "FILE")]
    pub class_file: Option<PathBuf>,

    /// The Kubernetes namespace of what names none. By default that of the kubeconfig's context with --cluster, and else "default".
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,

    /// Compare with what runs in a Kubernetes cluster: it is only read. Secrets are looked at by name, their contents never.
    #[arg(long, group = "compared")]
    pub cluster: bool,

    /// The kubeconfig of that cluster; means --cluster. By default as kubectl finds it.
    #[arg(long, value_name = "FILE", group = "compared")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig; means --cluster. By default the current one.
    #[arg(long, value_name = "NAME", group = "compared")]
    pub context: Option<String>,

    /// Compare with what is in Cassandra, at the contact points of the CounterClass. Passwords of roles are not looked at.
    #[arg(long, group = "compared")]
    pub cassandra: bool,

    /// The certificates that those of Cassandra are checked against, PEM, if the CounterClass has TLS.
    #[arg(long, value_name = "FILE", requires = "cassandra")]
    pub cassandra_ca: Option<PathBuf>,

    #[command(flatten)]
    pub login: Login,

    /// End with code 2 if something would change.
    #[arg(long, requires = "compared")]
    pub exit_code: bool,
}

impl Plan {
    /// Whether a Kubernetes cluster is asked. Only if the user says so: a kubeconfig is often that of production.
    pub fn asks_a_cluster(&self) -> bool {
        self.cluster || self.kubeconfig.is_some() || self.context.is_some()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        plan: Plan,
    }

    fn parsed(more: &[&str]) -> Result<Plan, clap::Error> {
        Command::try_parse_from([&["plan", "-f", "a.yaml"], more].concat()).map(|command| command.plan)
    }

    #[test]
    fn no_cluster_is_asked_unless_it_is_said() {
        assert!(!parsed(&[]).unwrap().asks_a_cluster());
        for asked in [&["--cluster"][..], &["--kubeconfig", "k"], &["--context", "c"]] {
            assert!(parsed(asked).unwrap().asks_a_cluster());
        }
    }

    #[test]
    fn an_exit_code_for_differences_needs_something_to_differ_from() {
        assert!(parsed(&["--exit-code"]).is_err());
        for compared in ["--cluster", "--cassandra"] {
            assert!(parsed(&["--exit-code", compared]).unwrap().exit_code);
        }
    }
}
