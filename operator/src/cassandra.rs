//! What the operator keeps in Cassandra: one [`Keeper`] for all classes, with a connection per class and a task per dataset.
//!
//! A reconcile says what it wants and hears how far that is; it never waits. The work goes on behind it and, when something
//! has come of it, whoever asked is told to look again. Each dataset is also looked at periodically, as slices come and go with
//! time, whether or not anybody asks. Every change asks the permit first: only the leader changes anything.

mod dataset;
mod files;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tallyman_counter::backend::cassandra::schema::ddl::Permit;
use tallyman_counter::backend::cassandra::schema::plan::Wanted;
use tallyman_counter::backend::cassandra::{Cluster, Reach};
use tallyman_counter::clock::Clock;
use tallyman_counter::model::NamespaceName;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

pub use dataset::{Removal, SchemaState, Slices, Trouble};

use crate::metrics::Metrics;
use dataset::DatasetKeeper;
use files::Files;

/// How long a first connection may take before its absence says anything.
const CONNECTING: Duration = Duration::from_secs(10);
/// Datasets of one cluster that are worked on at a time. Statements that change schemas go one by one anyhow.
const AT_ONCE: usize = 16;

/// How a class's cluster is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// `host:port` of some nodes.
    pub contact_points: Vec<String>,
    /// The datacenter whose quorum acknowledges.
    pub local_datacenter: String,
    /// User name and password of who may change schemas and roles; none where nobody is asked.
    pub login: Option<Login>,
    /// The certificates, PEM, that those of the nodes are checked against; without them, no TLS.
    pub ca: Option<String>,
}

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// The password.
    pub password: String,
}

// Neither shows what is secret.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("contact_points", &self.contact_points).finish_non_exhaustive()
    }
}

impl Login {
    /// As a credentials file says it.
    fn text(&self) -> String {
        format!("username={}\npassword={}\n", self.username, self.password)
    }
}

/// A dataset of a class.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatasetKey {
    /// The class's name.
    pub class: String,
    /// The keyspace.
    pub dataset: String,
}

/// One class's cluster, and what is kept there.
struct Kept {
    access: Access,
    cluster: Cluster,
    since: Instant,
    files: Files,
    turns: Arc<Semaphore>,
    datasets: HashMap<String, DatasetKeeper>,
}

/// Keeps datasets as they are wanted. Dropped, it stops.
pub struct Keeper {
    clock: Arc<dyn Clock>,
    permit: Arc<dyn Permit>,
    metrics: Arc<Metrics>,
    changed: mpsc::UnboundedSender<DatasetKey>,
    classes: Mutex<HashMap<String, Kept>>,
}

impl Keeper {
    /// Tells `changed` of each dataset of which there is something new to say.
    #[must_use]
    pub fn new(
        clock: Arc<dyn Clock>,
        permit: Arc<dyn Permit>,
        metrics: Arc<Metrics>,
        changed: mpsc::UnboundedSender<DatasetKey>,
    ) -> Self {
        Self { clock, permit, metrics, changed, classes: Mutex::default() }
    }

    /// Connects to a class's cluster this way from now on. What is known of its datasets is looked at again when the way changed.
    ///
    /// # Errors
    /// When credentials cannot be put where the driver reads them.
    pub fn reach(&self, class: &str, access: &Access) -> io::Result<()> {
        let mut classes = self.lock();
        if classes.get(class).is_some_and(|kept| kept.access == *access) {
            return Ok(());
        }
        let files = Files::write(access)?;
        let cluster = Cluster::new(Reach {
            contact_points: access.contact_points.clone(),
            local_datacenter: access.local_datacenter.clone(),
            credentials_file: files.credentials(),
            tls_ca_file: files.ca(),
        });
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        // Who wants a dataset asks again, being told that something changed.
        let before = classes.insert(
            class.to_owned(),
            Kept { access: access.clone(), cluster, since: Instant::now(), files, turns, datasets: HashMap::new() },
        );
        drop(classes);
        for dataset in before.into_iter().flat_map(|kept| kept.datasets.into_keys()) {
            let _ = self.changed.send(DatasetKey { class: class.to_owned(), dataset });
        }
        Ok(())
    }

    /// Forgets a class that is gone.
    pub fn leave(&self, class: &str) {
        self.lock().remove(class);
    }

    /// Whether a class's cluster is still being connected to for the first time.
    #[must_use]
    pub fn is_connecting(&self, class: &str) -> bool {
        let classes = self.lock();
        classes.get(class).is_some_and(|kept| kept.cluster.check().is_err() && kept.since.elapsed() < CONNECTING)
    }

    /// Whether a class's cluster can be used now.
    ///
    /// # Errors
    /// Why not, for a person.
    pub fn check(&self, class: &str) -> Result<(), String> {
        let cluster = self.lock().get(class).map(|kept| kept.cluster.clone());
        cluster.map_or_else(|| Err(format!("CounterClass {class} is not known yet")), |cluster| cluster.check())
    }

    /// Asks that a dataset be as `wanted` for the namespace `asking`, and answers how far it is.
    pub fn want(&self, key: &DatasetKey, wanted: Wanted, asking: &NamespaceName) -> SchemaState {
        self.with_dataset(key, |dataset| dataset.want(wanted, asking)).unwrap_or(SchemaState::Pending)
    }

    /// What is known of a dataset, without asking for anything.
    #[must_use]
    pub fn known(&self, key: &DatasetKey) -> SchemaState {
        let classes = self.lock();
        let dataset = classes.get(&key.class).and_then(|kept| kept.datasets.get(&key.dataset));
        dataset.map_or(SchemaState::Pending, DatasetKeeper::state)
    }

    /// Asks that a namespace's rows be removed, and the dataset with them when it was the last; answers how far that is.
    pub fn remove(&self, key: &DatasetKey, wanted: Wanted, namespace: &NamespaceName, is_last: bool) -> Removal {
        self.with_dataset(key, |dataset| dataset.remove(wanted, namespace, is_last)).unwrap_or(Removal::Pending)
    }

    /// Forgets a namespace that is gone; its dataset with the last of them.
    pub fn forget(&self, key: &DatasetKey, namespace: &NamespaceName) {
        let mut classes = self.lock();
        let Some(kept) = classes.get_mut(&key.class) else { return };
        if kept.datasets.get(&key.dataset).is_some_and(|dataset| dataset.forget(namespace)) {
            kept.datasets.remove(&key.dataset);
        }
    }

    /// Forgets namespaces that `is_there` does not know, and datasets without any.
    pub fn retain(&self, is_there: impl Fn(&DatasetKey, &NamespaceName) -> bool) {
        for (class, kept) in &mut *self.lock() {
            kept.datasets.retain(|dataset, keeper| {
                let key = DatasetKey { class: class.clone(), dataset: dataset.clone() };
                let gone: Vec<_> = keeper.namespaces().into_iter().filter(|name| !is_there(&key, name)).collect();
                let is_left = gone.iter().fold(false, |_, namespace| keeper.forget(namespace));
                if is_left {
                    self.metrics.dataset_gone(dataset);
                }
                !is_left
            });
        }
    }

    fn with_dataset<T>(&self, key: &DatasetKey, use_it: impl FnOnce(&DatasetKeeper) -> T) -> Option<T> {
        let mut classes = self.lock();
        let kept = classes.get_mut(&key.class)?;
        let dataset = kept.datasets.entry(key.dataset.clone()).or_insert_with(|| {
            DatasetKeeper::start(dataset::Surroundings {
                key: key.clone(),
                cluster: kept.cluster.clone(),
                clock: self.clock.clone(),
                permit: self.permit.clone(),
                metrics: self.metrics.clone(),
                changed: self.changed.clone(),
                turns: kept.turns.clone(),
                role_credentials: kept.files.role(&key.dataset),
                ca: kept.files.ca(),
            })
        });
        Some(use_it(dataset))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        // Nothing that holds it panics half-way.
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
