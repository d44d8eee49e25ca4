//! The options of `tallyman standalone`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tallyman_daemon::arguments::Shared;

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

    #[command(flatten)]
    pub shared: Shared,
}
