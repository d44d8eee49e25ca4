//! The options of `tallyman-rollup`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use tallyman_daemon::arguments::Shared;
use tallyman_daemon::tls_files::TlsFiles;

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

    /// Take connections of sidecars by mutual TLS only: the certificate authority, in PEM, that sidecars' certificates come
    /// from. Goes with the two options below. Renewed files are taken without a restart.
    #[arg(long, value_name = "FILE", env = "TALLYMAN_TLS_CA_FILE", requires_all = ["tls_cert_file", "tls_key_file"])]
    pub tls_ca_file: Option<PathBuf>,

    /// The certificate, in PEM, that this server shows: for the hosts that rollup_endpoints name it by.
    #[arg(long, value_name = "FILE", env = "TALLYMAN_TLS_CERT_FILE", requires_all = ["tls_ca_file", "tls_key_file"])]
    pub tls_cert_file: Option<PathBuf>,

    /// The private key of that certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "TALLYMAN_TLS_KEY_FILE", requires_all = ["tls_ca_file", "tls_cert_file"])]
    pub tls_key_file: Option<PathBuf>,

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

    /// The files of mutual TLS, if it is asked for: the options are given all three or not at all.
    #[must_use]
    pub fn tls_files(&self) -> Option<TlsFiles> {
        match (&self.tls_ca_file, &self.tls_cert_file, &self.tls_key_file) {
            (Some(ca_file), Some(cert_file), Some(key_file)) => {
                Some(TlsFiles { ca_file: ca_file.clone(), cert_file: cert_file.clone(), key_file: key_file.clone() })
            }
            _ => None,
        }
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

    #[test]
    fn the_files_of_tls_are_given_all_three_or_not_at_all() {
        let all = [("--tls-ca-file", "ca"), ("--tls-cert-file", "cert"), ("--tls-key-file", "key")];
        for chosen in 0..8_usize {
            let given = all.iter().enumerate().filter(|(i, _)| chosen >> i & 1 == 1).flat_map(|(_, (k, v))| [*k, *v]);
            let line: Vec<_> = ["tallyman-rollup", "--namespaces-dir", "d"].into_iter().chain(given).collect();
            let parsed = Arguments::try_parse_from(line);
            match chosen {
                0 => assert_eq!(parsed.unwrap().tls_files(), None),
                7 => assert_eq!(parsed.unwrap().tls_files().unwrap().key_file, PathBuf::from("key")),
                _ => {
                    let error = parsed.unwrap_err().to_string();
                    for (i, (option, _)) in all.iter().enumerate() {
                        let is_named = error.lines().any(|line| line.trim_start().starts_with(option));
                        assert_eq!(is_named, chosen >> i & 1 == 0, "{option}: {error}");
                    }
                }
            }
        }
    }
}
