//! `tallyman standalone` in a process of its own, as users run it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::deployment::Deployment;
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

/// Longer than the coalescing window: between two windows a busy server rests.
const REST: Duration = Duration::from_millis(600);

/// Starts the program with an empty data folder in `dir` and waits until it is ready, asking every `poll`.
pub async fn start(program: &Path, dir: &Path, poll: Duration) -> Result<Deployment> {
    let namespaces = dir.join("namespaces.yaml");
    std::fs::write(&namespaces, NAMESPACES)?;
    let (api, admin) = (process::free_address()?, process::free_address()?);
    let arguments: [OsString; 9] = [
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
    let mut server = Server::start("standalone", program, arguments, dir)?;
    server.until_ready(poll, async || process::answers_ok(admin, "/readyz").await).await?;
    Ok(Deployment { name: "tallyman", servers: vec![server], stores: Vec::new(), api, rest: REST })
}
