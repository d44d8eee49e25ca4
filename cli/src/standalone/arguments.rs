//! The options of `tallyman standalone`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::telemetry::Endpoint;

/// Serve counters from this machine alone: API, rollups and a durable store in one process.
///
/// Reads the CounterNamespaces that `kubectl apply` takes, and follows the files as they change. Counts are kept in the
/// data directory and survive restarts and kills; those of BestEffort namespaces are in memory, or in memcached with
/// --memcached. SIGTERM and Ctrl-C end it in order, with exit code 0.
///
/// Options come from the command line, from the environment, or from the --config file, in this order.
#[derive(Debug, Args)]
pub struct Arguments {
    /// CounterNamespaces: YAML files, or folders of them; may be given several times, or separated by commas. By default
    /// examples/namespaces, or built-in examples where there is no such folder.
    #[arg(long, value_name = "FILE|DIR", env = "TALLYMAN_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<PathBuf>,

    /// Where counts are kept; created if need be. One process at a time.
    #[arg(long, value_name = "DIR", default_value = "tallyman-data", env = "TALLYMAN_DATA_DIR")]
    pub data_dir: PathBuf,

    /// The counter API: gRPC and HTTP/JSON, on loopback only. Port 0 takes a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7777", env = "TALLYMAN_LISTEN")]
    pub listen: SocketAddr,

    /// The admin pages: /livez, /readyz, /metrics. Port 0 takes a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7778", env = "TALLYMAN_ADMIN")]
    pub admin: SocketAddr,

    /// The counter API on a Unix socket, too.
    #[arg(long, value_name = "PATH", env = "TALLYMAN_UNIX_SOCKET")]
    pub unix_socket: Option<PathBuf>,

    /// Keep the counts of BestEffort namespaces in this memcached, rather than in memory.
    #[arg(long, value_name = "HOST:PORT", env = "TALLYMAN_MEMCACHED")]
    pub memcached: Option<String>,

    /// How to write the log, on standard error.
    #[arg(long, value_enum, default_value_t, env = "TALLYMAN_LOG_FORMAT")]
    pub log_format: LogFormat,

    /// What to log: error, warn, info, debug or trace, also by module: info,tallyman_counter=debug.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "TALLYMAN_LOG_LEVEL")]
    pub log_level: String,

    /// Export a span per request to this OpenTelemetry collector, by OTLP over gRPC: http://127.0.0.1:4317. How many, the
    /// OpenTelemetry SDK's variables say, such as OTEL_TRACES_SAMPLER.
    #[arg(long, value_name = "URL", env = "TALLYMAN_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Endpoint>,

    /// Read options from a YAML or JSON file whose keys are the long options without the dashes: `data-dir: /var/lib/tallyman`.
    #[arg(long, value_name = "FILE", env = "TALLYMAN_CONFIG")]
    pub config: Option<PathBuf>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}
