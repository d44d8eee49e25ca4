//! A server with an engine over stores in memory: one namespace per counter type, and one per fault.

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prometheus_client::registry::Registry;
use tallyman_api::proto::counter_service_client::CounterServiceClient;
use tallyman_counter::backend::memory;
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::configuration::{
    Accuracy, BestEffort, CacheStorage, Cardinality, Counting, DatasetStorage, Durable, NamespaceConfiguration, Queue,
    Retention, TimePartition,
};
use tallyman_counter::dataset::Dataset;
use tallyman_counter::forward::TouchedCounters;
use tallyman_counter::model::{NamespaceName, SliceSettings};
use tallyman_counter::namespace::{BestEffortNamespace, DurableNamespace, Namespace, NamespaceStores};
use tallyman_counter::retention::{Ahead, create_ahead};
use tallyman_counter::service::{CounterService, Limits};
use tallyman_daemon::readiness::Readiness;
use tallyman_sidecar::listeners::{Addresses, Listeners};
use tallyman_sidecar::metrics::ApiMetrics;
use tallyman_sidecar::server::Server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::faults::{Fault, Faulty};

/// Requests in flight that the engine allows: fewer than a batch may have.
pub const IN_FLIGHT_MAX: usize = 500;
/// How far an event time may lie from now.
pub const ACCEPT_LIMIT: Duration = Duration::from_secs(60);

pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// HTTP/2 to the server. Unlike tonic's own channel it leaves `grpc-timeout` to the server.
pub type Channel = Client<HttpConnector, tonic::body::Body>;

/// A server at work.
pub struct World {
    pub api: SocketAddr,
    pub admin: SocketAddr,
    pub channel: Channel,
    pub origin: http::Uri,
    pub client: CounterServiceClient<Channel>,
    /// What the readiness check "told" answers.
    pub ready: Arc<AtomicBool>,
    pub stop: CancellationToken,
    pub serving: JoinHandle<()>,
}

/// How a world differs from the others.
pub struct Settings {
    pub unix_socket: Option<PathBuf>,
    /// The fault of namespace `waiting`.
    pub waiting: Fault,
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { unix_socket: None, waiting: Fault::None, drain: Duration::from_secs(600) }
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let limits = Limits {
            in_flight: IN_FLIGHT_MAX,
            // So long that only a request's own deadline can end it within a test.
            deadline_default: Duration::from_secs(3_600),
            ..Limits::default()
        };
        let service = Arc::new(CounterService::new("test", clock.clone(), TouchedCounters::new(1 << 20), limits));
        let mut namespaces = vec![best_effort("best-effort", &clock)];
        for (name, accuracy, fault) in [
            ("eventual", Accuracy::Eventual, Fault::None),
            ("accurate", Accuracy::Accurate, Fault::None),
            ("hanging", Accuracy::Eventual, Fault::AppendsHang),
            ("unavailable", Accuracy::Eventual, Fault::AppendsUnavailable),
            ("corrupt", Accuracy::Accurate, Fault::ScansCorrupt),
            ("skewed", Accuracy::Eventual, Fault::NodeClockAhead),
            ("waiting", Accuracy::Eventual, settings.waiting),
        ] {
            namespaces.push(durable(name, accuracy, fault, &clock).await);
        }
        service.serve(namespaces);

        let ready = Arc::new(AtomicBool::new(true));
        let told = ready.clone();
        let readiness = Readiness::new()
            .check("engine", || Ok(()))
            .check("told", move || if told.load(Ordering::SeqCst) { Ok(()) } else { Err("told so".to_owned()) });
        let mut registry = Registry::default();
        let metrics = ApiMetrics::register(&mut registry);
        let server = Server::new(service, metrics, readiness, registry, settings.drain);
        let addresses = Addresses { api: ANY_PORT, unix_socket: settings.unix_socket, admin: ANY_PORT };
        let listeners = Listeners::bind(&addresses).await.unwrap();
        let (api, admin) = (listeners.api_address(), listeners.admin_address());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(async move { server.serve(listeners, stopped).await });
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let channel = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        let origin: http::Uri = format!("http://{api}").parse().unwrap();
        let client = CounterServiceClient::with_origin(channel.clone(), origin.clone());
        Self { api, admin, channel, origin, client, ready, stop, serving }
    }
}

fn best_effort(name: &str, clock: &Arc<dyn Clock>) -> Namespace {
    let ttl = Duration::from_secs(3_600);
    let counting = Counting::BestEffort(BestEffort { storage: CacheStorage::Memory, ttl });
    let store = Arc::new(memory::BestEffort::new(1 << 20, clock.clone()));
    Namespace {
        configuration: configuration(name, counting),
        counting: NamespaceStores::BestEffort(BestEffortNamespace { store, ttl }),
    }
}

async fn durable(name: &str, accuracy: Accuracy, fault: Fault, clock: &Arc<dyn Clock>) -> Namespace {
    let storage = DatasetStorage::Memory { dataset: name.to_owned() };
    let time_partition = TimePartition {
        settings: SliceSettings {
            buckets_per_id: NonZeroU16::MIN,
            bucket_width: Duration::from_secs(600),
            accept_limit: ACCEPT_LIMIT,
            write_timeout: Duration::from_secs(2),
            max_clock_skew: Duration::from_secs(1),
        },
        slice_width: Duration::from_secs(86_400),
    };
    let settings = Durable {
        accuracy,
        cardinality: Cardinality::High,
        cache: None,
        events: storage.clone(),
        rollups: storage,
        rollup_endpoints: Vec::new(),
        rollup_tls: None,
        queue: Queue { num_queues: NonZeroU16::MIN, coalesce: Duration::from_secs(1), capacity_bytes: 1 << 20 },
        rollup_batch_count: NonZeroUsize::MIN,
        time_partition,
        retention: Retention {
            close_after: Duration::from_secs(86_400),
            delete_after: Duration::from_secs(2 * 86_400),
        },
    };
    let inner = memory::Dataset::new();
    let stored = Arc::new(inner.clone());
    // Slices are not created by a clock that is not trusted.
    let healthy = Dataset::new(name.to_owned(), stored.clone(), stored.clone(), clock.clone());
    healthy.refresh().await.unwrap();
    create_ahead(&healthy, time_partition, Ahead::USUAL).await.unwrap();
    let dataset = Dataset::new(name.to_owned(), Arc::new(Faulty { inner, fault }), stored, clock.clone());
    dataset.refresh().await.unwrap();
    Namespace {
        configuration: configuration(name, Counting::Durable(Box::new(settings.clone()))),
        counting: NamespaceStores::Durable(Box::new(DurableNamespace { settings, dataset, cache: None })),
    }
}

fn configuration(name: &str, counting: Counting) -> Arc<NamespaceConfiguration> {
    let namespace = NamespaceName::new(name).unwrap();
    Arc::new(NamespaceConfiguration { namespace, region: "dc1".to_owned(), counting })
}
