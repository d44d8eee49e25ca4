//! The engine in one process: the counter service, the rollup server, and what goes between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tallyman_counter::backend::embedded::Database;
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::configuration::{Durable, NamespaceConfiguration};
use tallyman_counter::dataset::Dataset;
use tallyman_counter::forward::{RollupEndpoint, Routes, TouchedCounters, Undelivered};
use tallyman_counter::model::{CounterName, NamespaceName};
use tallyman_counter::namespace::Namespace;
use tallyman_counter::opening::Opener;
use tallyman_counter::pipeline::{Options, RollupServer};
use tallyman_counter::retention::{self, Ahead};
use tallyman_counter::service::{CounterService, Limits};

/// This process's name, as a source of tokens and as a rollup server.
const NAME: &str = "standalone";
/// Memory for counters that were touched and not yet handed to the rollup server.
const TOUCHED_BYTES: usize = 16 * 1024 * 1024;
/// How often slices are created ahead, closed and dropped.
const SLICES_EVERY: Duration = Duration::from_secs(30);
/// How long rollups that are queued may take once the process is told to stop. What is left, the next start's sweep finds.
const DRAIN: Duration = Duration::from_secs(2);

/// A dataset in use, with the namespace whose settings it follows.
#[derive(Clone)]
struct Used {
    dataset: Arc<Dataset>,
    settings: Durable,
}

/// What is in use now.
#[derive(Default)]
struct InUse {
    datasets: Vec<Used>,
    problems: Vec<String>,
}

/// The engine.
pub struct Engine {
    /// The counter API without a transport.
    pub service: Arc<CounterService>,
    /// The rollup server.
    pub rollups: Arc<RollupServer>,
    /// What goes to it.
    pub touched: Arc<TouchedCounters>,
    database: Database,
    clock: Arc<dyn Clock>,
    opener: Opener,
    in_use: ArcSwap<InUse>,
}

/// The rollup server of this process, as the counter service sees it.
struct Here(Arc<RollupServer>);

#[async_trait]
impl RollupEndpoint for Here {
    fn name(&self) -> &str {
        NAME
    }

    fn is_ready(&self, _: &NamespaceName) -> bool {
        true
    }

    async fn send(&self, namespace: &NamespaceName, counters: &[CounterName]) -> Result<usize, Undelivered> {
        Ok(self.0.touched(namespace, counters))
    }
}

impl Engine {
    /// An engine over an open database, that serves nothing yet.
    pub fn new(database: Database) -> Arc<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let touched = TouchedCounters::new(TOUCHED_BYTES);
        Arc::new(Self {
            service: Arc::new(CounterService::new(NAME, clock.clone(), touched.clone(), Limits::default())),
            rollups: RollupServer::new(Options::new(NAME)),
            touched,
            opener: Opener::new(clock.clone(), Some(database.clone())),
            database,
            clock,
            in_use: ArcSwap::default(),
        })
    }

    /// Serves these namespaces from now on, and no others.
    pub async fn serve(&self, configurations: impl IntoIterator<Item = Arc<NamespaceConfiguration>>) {
        let (mut namespaces, mut problems) = (Vec::new(), Vec::new());
        for configuration in configurations {
            match self.opener.open(configuration).await {
                Ok(namespace) => namespaces.push(namespace),
                Err(error) => problems.push(error.to_string()),
            }
        }
        let (datasets, disagreements) = datasets(&namespaces);
        problems.extend(disagreements);
        for used in &datasets {
            if let Err(error) = prepare(used).await {
                problems.push(format!("dataset {}: {error}", used.dataset.name));
            }
        }
        for problem in &problems {
            tracing::error!("{problem}");
        }
        self.in_use.store(Arc::new(InUse { datasets, problems }));
        let here: Arc<dyn RollupEndpoint> = Arc::new(Here(self.rollups.clone()));
        let routes: Routes =
            namespaces.iter().map(|namespace| (namespace.name().clone(), vec![here.clone()])).collect();
        self.rollups.serve(namespaces.clone()).await;
        self.touched.route(routes);
        self.service.serve(namespaces);
    }

    /// What runs beside the requests, for as long as it is polled: the flow of touched counters, sweeps, the life of slices.
    pub async fn run(&self) {
        let slices = async {
            loop {
                tokio::time::sleep(SLICES_EVERY).await;
                self.keep_slices().await;
            }
        };
        futures::join!(self.touched.run(), self.rollups.keep_swept(), slices);
    }

    async fn keep_slices(&self) {
        for used in &self.in_use.load_full().datasets {
            let dataset = &used.dataset;
            match retention::create_ahead(dataset, used.settings.time_partition, Ahead::USUAL).await {
                Ok(0) => {}
                Ok(created) => tracing::info!(dataset = %dataset.name, created, "slices created"),
                Err(error) => tracing::error!(dataset = %dataset.name, %error, "slices cannot be created"),
            }
            match retention::close_and_drop(dataset, used.settings.retention).await {
                Ok(report) if report == retention::Report::default() => {}
                Ok(report) => tracing::info!(dataset = %dataset.name, ?report, "slices moved on"),
                Err(error) => tracing::error!(dataset = %dataset.name, %error, "slices cannot be closed or dropped"),
            }
        }
    }

    /// After the last request: rolls up what is queued, for a moment, and closes the store.
    pub async fn stop(&self) {
        self.touched.flush().await;
        if tokio::time::timeout(DRAIN, self.rollups.drain()).await.is_err() {
            tracing::warn!("rollups are left to the next start's sweep");
        }
        self.opener.stop();
        let database = self.database.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || database.close()).await {
            tracing::error!(%error, "the store did not close in order");
        }
    }

    /// The datasets in use.
    pub fn datasets(&self) -> Vec<Arc<Dataset>> {
        self.in_use.load().datasets.iter().map(|used| used.dataset.clone()).collect()
    }

    /// What keeps configured namespaces from being served as they are configured.
    pub fn problems(&self) -> Vec<String> {
        self.in_use.load().problems.clone()
    }

    /// Whether the store takes writes.
    ///
    /// # Errors
    /// Why not.
    pub fn check_store(&self) -> Result<(), String> {
        self.database.health()
    }

    /// Whether the clock is trusted.
    ///
    /// # Errors
    /// Why not.
    pub fn check_clock(&self) -> Result<(), String> {
        self.each_dataset(|dataset| {
            let skew = dataset.slices().max_clock_skew().unwrap_or_default();
            dataset.clock.now(skew).map(drop).map_err(|error| error.to_string())
        })
    }

    /// Whether events of now have a slice to go to.
    ///
    /// # Errors
    /// Why not.
    pub fn check_slices(&self) -> Result<(), String> {
        let now = self.clock.now();
        self.each_dataset(|dataset| {
            let slices = dataset.slices();
            slices.accepting(now).map(drop).ok_or_else(|| "no open time slice covers now".to_owned())
        })
    }

    fn each_dataset(&self, check: impl Fn(&Dataset) -> Result<(), String>) -> Result<(), String> {
        let named =
            |dataset: &Arc<Dataset>| check(dataset).map_err(|reason| format!("dataset {}: {reason}", dataset.name));
        self.datasets().iter().try_for_each(named)
    }
}

/// Makes a dataset ready for its first request.
async fn prepare(used: &Used) -> Result<(), retention::Error> {
    used.dataset.refresh().await?;
    retention::create_ahead(&used.dataset, used.settings.time_partition, Ahead::USUAL).await.map(drop)
}

/// Each dataset once, with the settings of its first namespace by name, and where others want other settings. Those are
/// served all the same: settings are the slices' own, and whichever namespace they come from, they hold for all.
fn datasets(namespaces: &[Namespace]) -> (Vec<Used>, Vec<String>) {
    let mut datasets: BTreeMap<String, (Used, NamespaceName)> = BTreeMap::new();
    let mut disagreements = Vec::new();
    for namespace in namespaces {
        let Some(durable) = namespace.durable() else { continue };
        let (used, first) = datasets.entry(durable.dataset.name.clone()).or_insert_with(|| {
            let used = Used { dataset: durable.dataset.clone(), settings: durable.settings.clone() };
            (used, namespace.name().clone())
        });
        let agree = used.settings.time_partition == durable.settings.time_partition
            && used.settings.retention == durable.settings.retention;
        if !agree {
            disagreements.push(format!(
                "namespace {}: spec.eventStore differs from that of namespace {first}, which shares dataset {} and is followed; \
                 namespaces of one dataset must agree",
                namespace.name(),
                durable.dataset.name
            ));
        }
    }
    (datasets.into_values().map(|(used, _)| used).collect(), disagreements)
}
