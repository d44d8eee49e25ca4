//! The options of `tallyman-operator`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::NonEmptyStringValueParser;
use tallyman_daemon::arguments::Shared;

/// Keep what CounterNamespaces ask for: tables in Cassandra, memcached and rollup servers, and sidecars in pods.
///
/// Several may run: one leads and changes things, all of them serve the webhook. Reaches Kubernetes by its service account, or
/// by a kubeconfig. SIGTERM and Ctrl-C end it in order, with exit code 0.
///
/// Options come from the command line, from the environment, or from the --config file, in this order.
#[derive(Debug, Clone, Parser)]
#[command(name = "tallyman-operator", version = tallyman_daemon::VERSION)]
pub struct Arguments {
    /// The Kubernetes namespace that this operator runs in: its Lease, its key and the Secrets that classes name are there.
    #[arg(long, value_name = "NAME", default_value = "tallyman-system", env = "TALLYMAN_OPERATOR_NAMESPACE")]
    pub operator_namespace: String,

    /// The Kubernetes namespaces whose CounterNamespaces are kept, separated by commas; all when absent.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', env = "TALLYMAN_WATCH_NAMESPACES")]
    pub watch_namespaces: Vec<String>,

    /// This operator's name in the Lease; no two may share one. By default the host's name and a random number.
    #[arg(long, value_name = "NAME", env = "TALLYMAN_IDENTITY", value_parser = NonEmptyStringValueParser::new())]
    pub identity: Option<String>,

    /// How long a leader that was lost is waited for: 3s to 10m.
    #[arg(long, value_name = "DURATION", default_value = "15s", env = "TALLYMAN_LEASE_DURATION", value_parser = lease_duration)]
    pub lease_duration: Duration,

    /// The admin pages: /livez, /readyz, /metrics. Port 0 takes a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7798", env = "TALLYMAN_ADMIN")]
    pub admin: SocketAddr,

    /// Where the API server reaches the webhook, by HTTPS. Port 0 takes a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:9443", env = "TALLYMAN_WEBHOOK")]
    pub webhook: SocketAddr,

    /// A folder with the webhook's certificate, tls.crt and tls.key, which another keeps current, such as cert-manager. By default
    /// the operator issues its own.
    #[arg(long, value_name = "DIR", env = "TALLYMAN_WEBHOOK_CERTIFICATES_DIR")]
    pub webhook_certificates_dir: Option<PathBuf>,

    /// The name of the MutatingWebhookConfiguration and the ValidatingWebhookConfiguration that are told of certificates the
    /// operator issues.
    #[arg(long, value_name = "NAME", default_value = "tallyman", env = "TALLYMAN_WEBHOOK_CONFIGURATION")]
    pub webhook_configuration: String,

    /// The Service through which the API server reaches the webhook; certificates are issued for it.
    #[arg(long, value_name = "NAME", default_value = "tallyman-webhook", env = "TALLYMAN_WEBHOOK_SERVICE")]
    pub webhook_service: String,

    /// How long the webhook is still answered once the operator is told to end, because API servers hear of it later: up to 5m.
    #[arg(long, value_name = "DURATION", default_value = "0s", env = "TALLYMAN_WEBHOOK_LINGER", value_parser = webhook_linger)]
    pub webhook_linger: Duration,

    /// Image of sidecars where a class names none. By default that of this release.
    #[arg(long, value_name = "IMAGE", env = "TALLYMAN_SIDECAR_IMAGE", value_parser = NonEmptyStringValueParser::new())]
    pub sidecar_image: Option<String>,

    /// Image of rollup servers where a class names none. By default that of this release.
    #[arg(long, value_name = "IMAGE", env = "TALLYMAN_ROLLUP_IMAGE", value_parser = NonEmptyStringValueParser::new())]
    pub rollup_image: Option<String>,

    /// Image of memcached where a class names none. By default the one that this release was tried with.
    #[arg(long, value_name = "IMAGE", env = "TALLYMAN_MEMCACHED_IMAGE", value_parser = NonEmptyStringValueParser::new())]
    pub memcached_image: Option<String>,

    /// What all of Tallyman's servers have.
    #[command(flatten)]
    pub shared: Shared,
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(3)..=Duration::from_mins(10), "must be between 3s and 10m")
}

fn webhook_linger(text: &str) -> Result<Duration, String> {
    duration(text, Duration::ZERO..=Duration::from_mins(5), "must be between 0s and 5m")
}

fn duration(text: &str, allowed: RangeInclusive<Duration>, complaint: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| "must be a duration, such as 15s".to_owned())?;
    match Duration::try_from(span) {
        Ok(duration) if allowed.contains(&duration) => Ok(duration),
        _ => Err(complaint.to_owned()),
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
    fn the_page_of_the_operator_has_every_option_and_variable() {
        let page = include_str!("../../docs/operator.md");
        for argument in Arguments::command().get_arguments() {
            let option = argument.get_long().unwrap();
            if matches!(option, "help" | "version") {
                continue;
            }
            assert!(page.contains(&format!("`--{option}")), "--{option}");
            let is_shared = ["log-format", "log-level", "otlp-endpoint", "config"].contains(&option);
            let variable = argument.get_env().unwrap().to_string_lossy();
            assert!(is_shared || page.contains(&format!("`{variable}`")), "{variable}");
        }
    }

    #[test]
    fn a_lease_has_bounds() {
        assert_eq!(lease_duration("15s"), Ok(Duration::from_secs(15)));
        for wrong in ["1s", "1h", "soon", "-15s"] {
            assert!(lease_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_webhook_may_linger_for_minutes_or_not_at_all() {
        assert_eq!(webhook_linger("0s"), Ok(Duration::ZERO));
        for wrong in ["6m", "-1s", "long"] {
            assert!(webhook_linger(wrong).is_err(), "{wrong}");
        }
    }
}
