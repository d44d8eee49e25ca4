//! What a standalone server says once it serves.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

/// What is served where.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Banner {
    /// The counter API.
    pub listen: SocketAddr,
    /// The admin pages.
    pub admin: SocketAddr,
    /// The counter API on a Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unix_socket: Option<PathBuf>,
    /// Where counts are kept.
    pub data_dir: PathBuf,
    /// What is served.
    pub namespaces: Vec<NamespaceLine>,
    /// What is wrong with the rest.
    pub problems: Vec<String>,
}

/// A namespace served.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceLine {
    /// Its name.
    pub namespace: String,
    /// How it counts, as the resource says it.
    pub counter_type: &'static str,
    /// Where it is configured.
    pub file: Option<PathBuf>,
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.namespaces.iter().map(|line| line.namespace.len()).max().unwrap_or_default().max(9);
        writeln!(f, "{:width$}  {:10}  FILE", "NAMESPACE", "TYPE")?;
        for NamespaceLine { namespace, counter_type, file } in &self.namespaces {
            let file = file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
            writeln!(f, "{namespace:width$}  {counter_type:10}  {file}")?;
        }
        for problem in &self.problems {
            writeln!(f, "not served: {problem}")?;
        }
        writeln!(f)?;
        writeln!(f, "counter API   http://{}  (gRPC and HTTP/JSON)", self.listen)?;
        if let Some(path) = &self.unix_socket {
            writeln!(f, "              unix:{}", path.display())?;
        }
        writeln!(f, "admin pages   http://{}  (/readyz, /livez, /metrics)", self.admin)?;
        writeln!(f, "data          {}", self.data_dir.display())?;
        let durable = self.namespaces.iter().find(|line| line.counter_type == "Accurate");
        if let Some(NamespaceLine { namespace, .. }) = durable.or(self.namespaces.first()) {
            let counters = format!("http://{}/v1/namespaces/{namespace}/counters", self.listen);
            writeln!(f, "\nTry it:")?;
            writeln!(f, "  curl -X POST {counters}/hello:add -d '{{\"delta\": 1}}'")?;
            write!(f, "  curl {counters}/hello")?;
        }
        Ok(())
    }
}
