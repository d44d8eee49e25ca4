//! What the process rolls up: the namespaces in force, opened, and what follows from a change of them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tallyman_counter::configuration::{Counting, DatasetStorage, Loaded, NamespaceConfiguration};
use tallyman_counter::dataset::Dataset;
use tallyman_counter::forward::server_name;
use tallyman_counter::model::NamespaceName;
use tallyman_counter::namespace::Namespace;
use tallyman_counter::opening::Opener;
use tallyman_counter::pipeline::{Options, RollupServer};
use tokio::sync::watch;

/// Whether a process takes a namespace: `Err` says why not.
pub type Accepts = fn(&NamespaceConfiguration) -> Result<(), String>;

/// A namespace whose configuration is right, and is not for this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which namespace.
    pub namespace: NamespaceName,
    /// Why not.
    pub reason: String,
    /// Whether it is rolled up all the same, as it was configured before.
    pub has_fallback: bool,
}

/// The engine of the process.
pub struct Engine {
    /// What rolls up.
    pub rollups: Arc<RollupServer>,
    opener: Arc<Opener>,
    accepts: Accepts,
    refused: ArcSwap<Vec<Refused>>,
}

impl Engine {
    /// An engine of this name among the rollup servers, that rolls up nothing yet: of the namespaces that it is given those
    /// that it `accepts`, with stores by `opener`.
    #[must_use]
    pub fn new(name: &str, opener: Arc<Opener>, accepts: Accepts) -> Arc<Self> {
        Arc::new(Self { rollups: RollupServer::new(Options::new(name)), opener, accepts, refused: ArcSwap::default() })
    }

    /// Rolls up what the folder says, as it changes, and sweeps, for as long as it is polled.
    pub async fn run(&self, loaded: watch::Receiver<Arc<Loaded>>) {
        futures::join!(self.follow(loaded), self.rollups.keep_swept());
    }

    async fn follow(&self, mut loaded: watch::Receiver<Arc<Loaded>>) {
        loop {
            let in_force = loaded.borrow_and_update().clone();
            self.serve(in_force.namespaces.values().cloned()).await;
            if loaded.changed().await.is_err() {
                return;
            }
        }
    }

    /// Rolls up these namespaces from now on, and no others.
    pub async fn serve(&self, configurations: impl IntoIterator<Item = Arc<NamespaceConfiguration>>) {
        let before = self.rollups.namespaces();
        let (mut namespaces, mut refused) = (Vec::new(), Vec::new());
        for configuration in configurations {
            match self.open(&configuration).await {
                Ok(namespace) => namespaces.push(namespace),
                Err(reason) => {
                    let namespace = configuration.namespace.clone();
                    let fallback = before.iter().find(|old| *old.name() == namespace);
                    tracing::error!(%namespace, "cannot be rolled up here: {reason}");
                    refused.push(Refused { namespace, reason, has_fallback: fallback.is_some() });
                    namespaces.extend(fallback.cloned());
                }
            }
        }
        for namespace in &namespaces {
            let is_as_before = |old: &Namespace| Arc::ptr_eq(&old.configuration, &namespace.configuration);
            if let Some(durable) = namespace.durable()
                && !before.iter().any(is_as_before)
            {
                let queue = &durable.settings.queue;
                let (name, coalesce) = (namespace.name(), queue.coalesce);
                tracing::info!(namespace = %name, num_queues = queue.num_queues, ?coalesce, "rolling up");
            }
        }
        self.refused.store(Arc::new(refused));
        self.rollups.serve(namespaces.clone()).await;
        self.opener.release_unused(&namespaces).await;
    }

    async fn open(&self, configuration: &Arc<NamespaceConfiguration>) -> Result<Namespace, String> {
        (self.accepts)(configuration)?;
        self.opener.open(configuration.clone()).await.map_err(|error| error.to_string())
    }

    /// Namespaces that are not rolled up as they are configured.
    #[must_use]
    pub fn refused(&self) -> Arc<Vec<Refused>> {
        self.refused.load_full()
    }

    /// The datasets in use, each once.
    #[must_use]
    pub fn datasets(&self) -> Vec<Arc<Dataset>> {
        let mut datasets: Vec<Arc<Dataset>> = Vec::new();
        for namespace in self.rollups.namespaces() {
            let Some(durable) = namespace.durable() else { continue };
            if !datasets.iter().any(|known| Arc::ptr_eq(known, &durable.dataset)) {
                datasets.push(durable.dataset.clone());
            }
        }
        datasets
    }

    /// The namespaces that are rolled up now: their checkpoints move on.
    #[must_use]
    pub fn ready_namespaces(&self) -> Vec<String> {
        let is_ready = |namespace: &Namespace| {
            namespace.durable().is_some_and(|durable| durable.dataset.health().refusal().is_none())
        };
        let namespaces = self.rollups.namespaces();
        namespaces
            .iter()
            .filter(|namespace| is_ready(namespace))
            .map(|namespace| namespace.name().to_string())
            .collect()
    }

    /// Whether this server is one of those that the namespace names. Without any it is the only one.
    #[must_use]
    pub fn is_named_by(&self, namespace: &Namespace) -> bool {
        let endpoints = namespace.durable().map_or(&[][..], |durable| &durable.settings.rollup_endpoints);
        endpoints.is_empty() || endpoints.iter().any(|endpoint| server_name(endpoint) == self.rollups.name())
    }
}

/// What a rollup server of its own can roll up: what others can write to.
///
/// # Errors
/// When only the process that has the store can.
pub fn accepts_shared_stores(configuration: &NamespaceConfiguration) -> Result<(), String> {
    let refused = |kind: &str| {
        Err(format!(
            "EVENT_STORAGE.physical_storage.type: {kind}: is inside one process, which rolls it up itself; must be CASSANDRA here"
        ))
    };
    match &configuration.counting {
        // There is nothing to roll up.
        Counting::BestEffort(_) => Ok(()),
        Counting::Durable(durable) => match &durable.events {
            DatasetStorage::Cassandra(_) => Ok(()),
            DatasetStorage::Embedded { .. } => refused("EMBEDDED"),
            DatasetStorage::Memory { .. } => refused("MEMORY"),
        },
    }
}
