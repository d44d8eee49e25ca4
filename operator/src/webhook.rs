//! The admission webhook: the API server asks here before it keeps a pod or a CounterNamespace.
//!
//! Every replica serves it, whoever leads: it changes nothing itself. What it judges by, it is given: settings and what is known of
//! other resources by a [`Lookup`], pods by [`crate::inject`], CounterNamespaces by [`validate`].
//!
//! - `/mutate-pods` gives pods their sidecar. A pod that cannot have one runs without, with a warning to who made it, and is
//!   told of to [`Handler::on_skipped`]; one whose annotations make no sense is refused.
//! - `/validate-counternamespaces` refuses what the schema cannot see: what does not go with another CounterNamespace.
//!
//! The server speaks HTTP/1 over TLS, to API servers alone; what it takes is bounded in size and time. Certificates change
//! without a restart ([`tls`]).

mod answer;
mod metrics;
mod mutate;
pub mod review;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod validate;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use prometheus_client::metrics::gauge::Gauge;
use tallyman_crds::{CounterClass, CounterNamespace};
use tallyman_daemon::connections::Connections;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::answer::Answers;
pub use self::metrics::{CERTIFICATE_NOT_AFTER, Metrics, REQUESTS};
use self::tls::{ServerCertificate, TlsListener};
use crate::inject::Settings;

/// Where pods are sent.
pub const MUTATE_PODS: &str = "/mutate-pods";
/// Where CounterNamespaces are sent.
pub const VALIDATE_COUNTER_NAMESPACES: &str = "/validate-counternamespaces";

/// Connections at once. API servers keep a few each.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may be idle: longer than API servers keep one, so that it is they who end it, and no request meets the end.
const IDLE: Duration = Duration::from_secs(120);
/// How long requests may take once the process stops.
const DRAIN: Duration = Duration::from_secs(5);

/// What the webhook is told of the cluster.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// What sidecars get of pods in this Kubernetes namespace that serve these CounterNamespaces of it.
    async fn sidecar(&self, kubernetes_namespace: &str, counter_namespaces: &BTreeSet<String>) -> Settings;

    /// The resources there are; `None` while they are not read yet.
    async fn resources(&self) -> Option<Resources>;
}

/// The resources of a cluster, as far as the operator looks at it.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// All CounterNamespaces.
    pub namespaces: Vec<Arc<CounterNamespace>>,
    /// All CounterClasses.
    pub classes: Vec<Arc<CounterClass>>,
}

/// A pod that asked for a sidecar and runs without.
#[derive(Debug, Clone, PartialEq)]
pub struct SkippedPod {
    /// Its Kubernetes namespace.
    pub kubernetes_namespace: String,
    /// Its name, or the beginning of it where the API server is to complete it.
    pub name: String,
    /// Who made it, such as its ReplicaSet: the pod itself does not exist yet.
    pub owner: Option<OwnerReference>,
    /// Why.
    pub reason: String,
}

/// Told of pods that asked for a sidecar and run without. Called while the API server waits: it is to take notes, not its time.
pub type OnSkipped = Arc<dyn Fn(SkippedPod) + Send + Sync>;

/// What requests are answered with.
#[derive(Clone)]
pub struct Handler {
    /// What is known of the cluster.
    pub lookup: Arc<dyn Lookup>,
    /// Told of pods that run without a sidecar; not for dry runs.
    pub on_skipped: OnSkipped,
    /// Counts requests.
    pub metrics: Metrics,
}

/// Serves on `listener` until `stop`, then ends the requests that are under way. From `leaving` on, connections end with their next
/// answer: one that the server ended by itself might be meeting a request just then.
pub async fn serve(
    listener: TcpListener,
    certificate: Arc<ServerCertificate>,
    handler: Handler,
    leaving: CancellationToken,
    stop: CancellationToken,
) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    let connections = Connections {
        builder,
        permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        open: Gauge::default(),
        drain: DRAIN,
    };
    let answers = Answers { handler: Arc::new(handler), leaving };
    connections.accept(TlsListener::new(listener, certificate), answers, stop).await;
}
