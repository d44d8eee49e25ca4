//! The options of `tallyman-rollup`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use tallyman_daemon::arguments::Shared;

/// Roll up the counters that sidecars write: take the touched ones from the sidecars, and sweep up what was missed.
///
/// Reads the namespaces of a folder, one JSON document each, and follows it as it changes. Which counters are this server's,
/// the rollup_endpoints of their namespace and --name say. Stores that cannot be reached are tried for as long as it takes;
/// until then GET /readyz on the admin address says why. SIGTERM and Ctrl-C end it in order, with exit code 0.
///
/// Options come from the command line, from the environment, or from the --config file, in this order.
#[derive(Debug, Parser)]
#[command(name = "tallyman-rollup", version = tallyman_daemon::VERSION)]
pub struct Arguments {
    /// The namespaces: a folder of documents, *.json, one a namespace. It may come later, or be empty.
    #[arg(long, value_name = "DIR", env = "TALLYMAN_NAMESPACES_DIR")]
    pub namespaces_dir: PathBuf,

    /// Where sidecars send touched counters, by gRPC. On all addresses, as sidecars are in other pods. Port 0 takes a free
    /// port.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7787", env = "TALLYMAN_LISTEN")]
    pub listen: SocketAddr,

    /// The admin pages: /livez, /readyz, /metrics. On all addresses, so that Kubernetes and Prometheus reach them. Port 0
    /// takes a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7788", env = "TALLYMAN_ADMIN")]
    pub admin: SocketAddr,

    /// This server's name among the rollup_endpoints of its namespaces: the first label of its host there, such as rollup-0
    /// for rollup-0.rollup:7787, or the whole of it where the host is an IP address, such as 127.0.0.1:7787. By default the
    /// host's name, which in a pod is the pod's.
    #[arg(long, value_name = "NAME", env = "POD_NAME", value_parser = NonEmptyStringValueParser::new())]
    pub name: Option<String>,

    /// What all of Tallyman's servers have.
    #[command(flatten)]
    pub shared: Shared,
}

impl Arguments {
    /// The name given, or the host's.
    #[must_use]
    pub fn server_name(&self) -> String {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.name.clone().unwrap_or_else(host)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_name_is_the_one_given_or_the_hosts() {
        let arguments = |more: &[&str]| {
            Arguments::try_parse_from([&["tallyman-rollup", "--namespaces-dir", "d"], more].concat()).unwrap()
        };
        assert_eq!(arguments(&["--name", "rollup-1"]).server_name(), "rollup-1");
        assert!(!Arguments { name: None, ..arguments(&[]) }.server_name().is_empty());
        let empty = Arguments::try_parse_from(["tallyman-rollup", "--namespaces-dir", "d", "--name", ""]);
        assert!(empty.is_err());
    }
}
