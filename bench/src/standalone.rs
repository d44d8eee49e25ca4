//! `tallyman standalone` in a process of its own, as users run it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tallyman_api::proto::counter_service_client::CounterServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::process::{self, Server};

/// The namespaces of every benchmark, with the short windows of `examples/namespaces`: with them, the rollups of what is
/// written happen while it is measured.
const NAMESPACES: &str = "\
apiVersion: tallyman.dev/v1alpha1
kind: CounterNamespace
metadata: {name: eventual}
spec:
  counterType: Eventual
  cardinality: High
  eventStore: {acceptLimit: 1s, writeTimeout: 500ms, maxClockSkew: 100ms}
  rollup: {coalesce: 500ms}
---
apiVersion: tallyman.dev/v1alpha1
kind: CounterNamespace
metadata: {name: accurate}
spec:
  counterType: Accurate
  cardinality: High
  eventStore: {acceptLimit: 1s, writeTimeout: 500ms, maxClockSkew: 100ms}
  rollup: {coalesce: 500ms}
---
apiVersion: tallyman.dev/v1alpha1
kind: CounterNamespace
metadata: {name: best-effort}
spec:
  counterType: BestEffort
  ttl: 1h
";

/// One of the namespaces that [`Standalone`] serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    Eventual,
    Accurate,
    BestEffort,
}

impl Namespace {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Accurate => "accurate",
            Self::BestEffort => "best-effort",
        }
    }
}

/// A stub on a channel; clones share the channel.
pub type Stub = CounterServiceClient<Channel>;

/// A running server.
pub struct Standalone {
    pub process: Server,
    api: SocketAddr,
}

impl Standalone {
    /// Starts the program with an empty data folder in `dir` and waits until it is ready, asking every `poll`.
    pub async fn start(program: &Path, dir: &Path, poll: Duration) -> Result<Self> {
        let namespaces = dir.join("namespaces.yaml");
        std::fs::write(&namespaces, NAMESPACES)?;
        let (api, admin) = (process::free_address()?, process::free_address()?);
        let arguments = [
            "standalone".into(),
            "--namespaces".into(),
            namespaces.into_os_string(),
            "--data-dir".into(),
            dir.join("data").into_os_string(),
            "--listen".into(),
            api.to_string().into(),
            "--admin".into(),
            admin.to_string().into(),
        ];
        let arguments: [std::ffi::OsString; 9] = arguments;
        let mut process = Server::start("standalone", program, arguments, dir)?;
        process.until_ready(poll, async || process::answers_ok(admin, "/readyz").await).await?;
        Ok(Self { process, api })
    }

    /// A stub on a new channel, made as the client library makes its own.
    pub fn stub(&self) -> Result<Stub> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.api))?;
        Ok(CounterServiceClient::new(endpoint.connect_lazy()))
    }
}

/// The program beside this one. Run by cargo, it is built first, so that no old one is measured.
pub fn built_program() -> Result<PathBuf> {
    if let (Some(cargo), Some(here)) = (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR")) {
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--release", "-p", "tallyman"])
            .current_dir(here)
            .stdout(std::io::stderr())
            .status()?;
        ensure!(built.success(), "tallyman cannot be built");
    }
    let program = std::env::current_exe()?.with_file_name("tallyman");
    ensure!(
        program.is_file(),
        "{} is not there; build it with the same profile: cargo build --release -p tallyman",
        program.display()
    );
    Ok(program)
}
