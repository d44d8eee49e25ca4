//! What the process serves: the namespaces in force, opened, and what follows from a change of them.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::join_all;
use tallyman_counter::backend::memcached::ServerStatus;
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::configuration::{Counting, DatasetStorage, Loaded, NamespaceConfiguration};
use tallyman_counter::dataset::Dataset;
use tallyman_counter::forward::TouchedCounters;
use tallyman_counter::model::NamespaceName;
use tallyman_counter::namespace::Namespace;
use tallyman_counter::opening::Opener;
use tallyman_counter::service::{CounterService, Limits};
use tokio::sync::watch;

use super::rollup_servers::{Connect, RollupServers};

/// Memory for counters that were touched and not yet told to a rollup server.
const TOUCHED_BYTES: usize = 16 * 1024 * 1024;
/// How long a namespace that is served goes on as before while the store of its new configuration is connected to.
const HANDOVER: Duration = Duration::from_secs(10);

/// A namespace whose configuration is right, and is not for this process.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Which namespace.
    pub namespace: NamespaceName,
    /// Why not.
    pub reason: String,
    /// Whether it is served all the same, as it was configured before.
    pub has_fallback: bool,
}

/// The engine of the process.
pub struct Engine {
    /// The counter API without a transport.
    pub service: Arc<CounterService>,
    /// What was touched and the rollup servers are to be told of.
    pub touched: Arc<TouchedCounters>,
    opener: Opener,
    rollup_servers: RollupServers,
    refused: ArcSwap<Vec<Refused>>,
}

impl Engine {
    /// An engine that serves nothing yet. `name` is the source of the tokens that it makes; `connect` reaches rollup servers.
    pub fn new(name: &str, connect: Connect) -> Arc<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let touched = TouchedCounters::new(TOUCHED_BYTES);
        Arc::new(Self {
            service: Arc::new(CounterService::new(name, clock.clone(), touched.clone(), Limits::default())),
            touched,
            opener: Opener::new(clock, None),
            rollup_servers: RollupServers::new(connect),
            refused: ArcSwap::default(),
        })
    }

    /// Serves what the folder says, as it changes.
    pub async fn follow(&self, mut loaded: watch::Receiver<Arc<Loaded>>) {
        loop {
            let in_force = loaded.borrow_and_update().clone();
            let served = self.serve(in_force.namespaces.values().cloned());
            tokio::select! {
                // A change that comes while this one waits for its store takes its place.
                changed = loaded.changed() => if changed.is_err() { return },
                () = served => if loaded.changed().await.is_err() { return },
            }
        }
    }

    /// Serves these namespaces from now on, and no others. One that is served goes on as before until the store of its new
    /// configuration answers, or [`HANDOVER`] is over. May be cancelled, and called again.
    pub async fn serve(&self, configurations: impl IntoIterator<Item = Arc<NamespaceConfiguration>>) {
        let before = self.service.namespaces();
        let (mut namespaces, mut refused) = (Vec::new(), Vec::new());
        for configuration in configurations {
            match self.open(configuration.clone()).await {
                Ok(namespace) => namespaces.push(namespace),
                Err(reason) => {
                    let namespace = configuration.namespace.clone();
                    let fallback = before.iter().find(|old| *old.name() == namespace);
                    refused.push(Refused { namespace, reason, has_fallback: fallback.is_some() });
                    namespaces.extend(fallback.cloned());
                }
            }
        }
        for Refused { namespace, reason, .. } in &refused {
            tracing::error!(%namespace, "cannot be served here: {reason}");
        }
        self.refused.store(Arc::new(refused));
        self.touched.route(self.rollup_servers.routes(&namespaces));
        self.hand_over(&before, &namespaces).await;
        self.opener.release_unused(&namespaces).await;
    }

    /// Opens a namespace that a sidecar can serve.
    async fn open(&self, configuration: Arc<NamespaceConfiguration>) -> Result<Namespace, String> {
        match &configuration.counting {
            Counting::BestEffort(_) => {}
            Counting::Durable(durable) => match &durable.events {
                DatasetStorage::Cassandra(_) => {}
                // Nobody would create its slices, nor roll it up.
                DatasetStorage::Embedded { .. } => return Err(elsewhere("EMBEDDED")),
                DatasetStorage::Memory { .. } => return Err(elsewhere("MEMORY")),
            },
        }
        self.opener.open(configuration).await.map_err(|error| error.to_string())
    }

    async fn hand_over(&self, before: &[Namespace], namespaces: &[Namespace]) {
        let mut waiting = Vec::new();
        let for_now = namespaces.iter().map(|new| {
            let old = before.iter().find(|old| old.name() == new.name() && is_accepting(old));
            match (old, new.durable()) {
                (Some(old), Some(durable)) if !is_accepting(new) => {
                    waiting.push(durable.dataset.clone());
                    old.clone()
                }
                _ => new.clone(),
            }
        });
        self.service.serve(for_now.collect::<Vec<_>>());
        if waiting.is_empty() {
            return;
        }
        let accepting = join_all(waiting.iter().map(|dataset| dataset.accepting()));
        if tokio::time::timeout(HANDOVER, accepting).await.is_err() {
            tracing::error!(
                "the store of a changed configuration does not answer within {HANDOVER:?}; it is in force all the same"
            );
        }
        self.service.serve(namespaces.iter().cloned());
    }

    /// The datasets of the namespaces served, each once.
    pub fn datasets(&self) -> Vec<Arc<Dataset>> {
        let mut datasets: Vec<Arc<Dataset>> = Vec::new();
        for namespace in self.service.namespaces() {
            let Some(durable) = namespace.durable() else { continue };
            if !datasets.iter().any(|known| Arc::ptr_eq(known, &durable.dataset)) {
                datasets.push(durable.dataset.clone());
            }
        }
        datasets
    }

    /// The namespaces that are configured and cannot be served as they are.
    pub fn refused(&self) -> Arc<Vec<Refused>> {
        self.refused.load_full()
    }

    /// What is known of the memcached servers that a namespace uses.
    pub fn memcached_servers(&self, namespace: &Namespace) -> Vec<ServerStatus> {
        self.opener.memcached_servers(namespace)
    }

    /// Whether a namespace's touched counters have a rollup server to go to.
    pub fn has_rollup_server(&self, namespace: &Namespace) -> bool {
        self.rollup_servers.is_any_ready(namespace)
    }
}

fn elsewhere(storage: &str) -> String {
    format!(
        "a sidecar keeps no events itself, as type {storage} asks for: they are in CASSANDRA, where rollup servers find them"
    )
}

/// Whether mutations are accepted, as far as is known; best-effort counts are tried in any case.
pub fn is_accepting(namespace: &Namespace) -> bool {
    namespace.durable().is_none_or(|durable| durable.dataset.health().refusal().is_none())
}
