//! One dataset and the task that keeps it: provisioned when somebody asks, looked at every few minutes, and at its end removed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tallyman_counter::backend::cassandra::Cluster;
use tallyman_counter::backend::cassandra::schema::Error;
use tallyman_counter::backend::cassandra::schema::ddl::Permit;
use tallyman_counter::backend::cassandra::schema::plan::{Refusal, Step, Wanted};
use tallyman_counter::backend::cassandra::schema::provision::{Incomplete, Provisioner};
use tallyman_counter::clock::Clock;
use tallyman_counter::model::{NamespaceName, SliceRecord, SliceState, Timestamp};
use tallyman_counter::store::EventStore;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::DatasetKey;
use super::files;
use crate::backoff::Backoff;
use crate::metrics::Metrics;

/// How often a dataset that is as it is wanted is looked at: slices are created days ahead, closed and dropped days later.
const LOOK_EVERY: Duration = Duration::from_mins(5);
/// After a failure.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_mins(2) };

/// How far a dataset is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaState {
    /// Being looked at or worked on.
    Pending,
    /// As it is wanted.
    Ready(Slices),
    /// Not as it is wanted. It is tried again in any case.
    Failed(Trouble),
}

/// Why a dataset is not as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For a person.
    pub message: String,
    /// Whether time alone may mend it; otherwise somebody has to do something.
    pub waiting_helps: bool,
    /// The namespace that has to wait by itself, as its name was deleted a moment ago; `None` when it is the whole dataset's trouble.
    pub of: Option<NamespaceName>,
}

impl Trouble {
    fn of_all(message: String, waiting_helps: bool) -> Self {
        Self { message, waiting_helps, of: None }
    }
}

/// What slices a dataset has, and what is to be said of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slices {
    /// Start of the oldest that is kept.
    pub oldest_start: Option<Timestamp>,
    /// End of the newest.
    pub newest_end: Option<Timestamp>,
    /// How many take or may still take events.
    pub open: usize,
    /// How many are counted completely and wait to be dropped.
    pub closed: usize,
    /// What differs and is not ours to change.
    pub notes: Vec<String>,
}

/// How far a removal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// Waiting for its turn, or under way.
    Pending,
    /// Nothing of it is left.
    Done,
    /// It failed, and is tried again.
    Failed(Trouble),
}

/// What a dataset's task works with.
pub(super) struct Surroundings {
    pub key: DatasetKey,
    pub cluster: Cluster,
    pub clock: Arc<dyn Clock>,
    pub permit: Arc<dyn Permit>,
    pub metrics: Arc<Metrics>,
    pub changed: mpsc::UnboundedSender<DatasetKey>,
    pub turns: Arc<Semaphore>,
    /// Where the role's credentials are put, for its password to be tried.
    pub role_credentials: Option<PathBuf>,
    pub ca: Option<PathBuf>,
}

/// A dataset's keeper: its task ends with it.
pub(super) struct DatasetKeeper {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for DatasetKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    surroundings: Surroundings,
    asked: Mutex<Asked>,
    /// Told when something is asked.
    news: Notify,
    /// Told when something is asked no more.
    forgotten: Notify,
}

#[derive(Default)]
struct Asked {
    /// As it is wanted, with every namespace that asked.
    wanted: Option<Wanted>,
    /// How that is, and for which wish: one that is not `wanted` is not done.
    state: Option<(Wanted, Found)>,
    /// Namespaces to be removed, how far they are, and whether the dataset goes with them.
    removals: BTreeMap<NamespaceName, (Wanted, bool, Removal)>,
}

/// How a dataset was found.
#[derive(Clone, PartialEq, Eq)]
struct Found {
    state: SchemaState,
    /// Namespaces that wait by themselves, whatever the others' state.
    waiting: BTreeMap<NamespaceName, Trouble>,
}

impl Asked {
    fn found(&self) -> Option<&Found> {
        match (&self.wanted, &self.state) {
            (Some(wanted), Some((of, found))) if of == wanted => Some(found),
            _ => None,
        }
    }

    fn state(&self) -> SchemaState {
        // What is wanted anew in a dataset that is about to go waits for that.
        if self.removals.values().any(|(_, is_last, removal)| *is_last && *removal != Removal::Done) {
            return SchemaState::Pending;
        }
        self.found().map_or(SchemaState::Pending, |found| found.state.clone())
    }

    fn state_for(&self, namespace: &NamespaceName) -> SchemaState {
        let waits = self.found().and_then(|found| found.waiting.get(namespace));
        waits.map_or_else(|| self.state(), |trouble| SchemaState::Failed(trouble.clone()))
    }
}

impl DatasetKeeper {
    pub fn start(surroundings: Surroundings) -> Self {
        let shared =
            Arc::new(Shared { surroundings, asked: Mutex::default(), news: Notify::new(), forgotten: Notify::new() });
        let task = tokio::spawn(shared.clone().keep()).abort_handle();
        Self { shared, task }
    }

    pub fn want(&self, mut wanted: Wanted, asking: &NamespaceName) -> SchemaState {
        let mut asked = self.shared.lock();
        // Whoever asks knows of the others only what it has heard; together they know all.
        let mut namespaces = asked.wanted.as_ref().map(|known| known.dataset.namespaces.clone()).unwrap_or_default();
        if !namespaces.contains(asking) {
            namespaces.push(asking.clone());
            namespaces.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        }
        wanted.dataset.namespaces = namespaces;
        wanted.dataset.credentials_file = self.shared.surroundings.role_credentials.clone();
        wanted.dataset.tls_ca_file = self.shared.surroundings.ca.clone();
        if asked.wanted.as_ref() != Some(&wanted) {
            asked.wanted = Some(wanted);
            self.shared.news.notify_one();
        }
        asked.state_for(asking)
    }

    pub fn state(&self) -> SchemaState {
        self.shared.lock().state()
    }

    pub fn remove(&self, mut wanted: Wanted, namespace: &NamespaceName, is_last: bool) -> Removal {
        let mut asked = self.shared.lock();
        wanted.dataset.credentials_file = self.shared.surroundings.role_credentials.clone();
        wanted.dataset.tls_ca_file = self.shared.surroundings.ca.clone();
        wanted.dataset.namespaces.retain(|known| known != namespace);
        if let Some(known) = &mut asked.wanted {
            known.dataset.namespaces.retain(|known| known != namespace);
            if known.dataset.namespaces.is_empty() {
                asked.wanted = None;
            }
        }
        match asked.removals.get_mut(namespace) {
            Some((_, known_last, removal)) if *known_last == is_last => removal.clone(),
            _ => {
                asked.removals.insert(namespace.clone(), (wanted, is_last, Removal::Pending));
                self.shared.news.notify_one();
                Removal::Pending
            }
        }
    }

    /// Who asks for it.
    pub fn namespaces(&self) -> Vec<NamespaceName> {
        let asked = self.shared.lock();
        let wanting = asked.wanted.iter().flat_map(|wanted| wanted.dataset.namespaces.iter().cloned());
        wanting.chain(asked.removals.keys().cloned()).collect()
    }

    /// Whether nobody is left.
    pub fn forget(&self, namespace: &NamespaceName) -> bool {
        let mut asked = self.shared.lock();
        asked.removals.remove(namespace);
        self.shared.forgotten.notify_waiters();
        if let Some(wanted) = &mut asked.wanted {
            wanted.dataset.namespaces.retain(|known| known != namespace);
            if wanted.dataset.namespaces.is_empty() {
                asked.wanted = None;
            }
        }
        asked.wanted.is_none() && asked.removals.is_empty()
    }
}

impl Shared {
    async fn keep(self: Arc<Self>) {
        let mut failures = 0;
        loop {
            let is_well = self.work().await;
            failures = if is_well { 0 } else { failures + 1 };
            let wait = if is_well { LOOK_EVERY } else { BACKOFF.after(failures, &self.surroundings.key.dataset) };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.news.notified() => {}
                // What could not be done without the cluster is done as soon as it is there.
                () = self.surroundings.cluster.connected(), if !is_well && self.surroundings.cluster.check().is_err() => {}
            }
        }
    }

    /// Does what is asked now. Whether all of it was done.
    async fn work(&self) -> bool {
        // Closed only with the keeper, and then this task is gone too.
        let Ok(_turn) = self.surroundings.turns.acquire().await else { return false };
        let removals: Vec<_> = {
            let asked = self.lock();
            let open = asked.removals.iter().filter(|(_, (_, _, removal))| *removal != Removal::Done);
            open.map(|(name, (wanted, is_last, _))| (name.clone(), wanted.clone(), *is_last)).collect()
        };
        let mut is_well = true;
        for (namespace, wanted, is_last) in removals {
            let removal = tokio::select! {
                removal = self.remove(&namespace, &wanted, is_last) => removal,
                // It was let go, and what is left of it is to stay.
                () = self.is_forgotten(&namespace) => continue,
            };
            is_well &= removal == Removal::Done;
            if let Some((_, known_last, known)) = self.lock().removals.get_mut(&namespace)
                && *known_last == is_last
            {
                *known = removal;
            }
            self.tell();
        }
        let Some(wanted) = self.lock().wanted.clone() else { return is_well };
        let found = self.provision_all(&wanted).await;
        is_well &= matches!(found.state, SchemaState::Ready(_)) && found.waiting.is_empty();
        let before = self.lock().state.replace((wanted.clone(), found.clone()));
        if before.as_ref() != Some(&(wanted, found)) {
            self.tell();
        }
        is_well
    }

    async fn is_forgotten(&self, namespace: &NamespaceName) {
        loop {
            // Asked for before looking, so that no change goes unnoticed.
            let forgotten = self.forgotten.notified();
            if !self.lock().removals.contains_key(namespace) {
                return;
            }
            forgotten.await;
        }
    }

    /// Provisions it for as many of its namespaces as can be: one that has to wait keeps no other from being served.
    async fn provision_all(&self, wanted: &Wanted) -> Found {
        let (mut wanted, mut waiting) = (wanted.clone(), BTreeMap::new());
        loop {
            let state = self.provision(&wanted).await;
            match state {
                SchemaState::Failed(Trouble { of: Some(ref namespace), .. })
                    if wanted.dataset.namespaces.iter().any(|known| known != namespace)
                        && !waiting.contains_key(namespace) =>
                {
                    wanted.dataset.namespaces.retain(|known| known != namespace);
                    if let SchemaState::Failed(trouble) = &state {
                        waiting.insert(namespace.clone(), trouble.clone());
                    }
                }
                state => return Found { state, waiting },
            }
        }
    }

    async fn provision(&self, wanted: &Wanted) -> SchemaState {
        let around = &self.surroundings;
        // Nothing is known of a cluster that is only being connected to.
        let _ = tokio::time::timeout(super::CONNECTING, around.cluster.connected()).await;
        if let Err(reason) = around.cluster.check() {
            return SchemaState::Failed(Trouble::of_all(reason, true));
        }
        if let (Some(role), Some(file)) = (&wanted.role, &around.role_credentials) {
            let login = super::Login { username: role.name.clone(), password: role.password.clone() };
            if let Err(error) = files::write(file, &login.text()) {
                let message = format!("the role's credentials cannot be put where they are tried: {error}");
                return SchemaState::Failed(Trouble::of_all(message, true));
            }
        }
        let started = Instant::now();
        let mut progress = |step: &Step| {
            around.metrics.schema_step(step.action.name());
            tracing::debug!(dataset = %around.key.dataset, step = step.action.name(), why = %step.why, "a step of a schema");
        };
        let done = self.provisioner().apply(wanted, &mut progress).await;
        // Also after a failure: how far slices reach matters most then.
        let slices = match (self.slices(wanted, Vec::new()).await, done) {
            (slices, Ok(done)) => slices.map(|slices| Slices { notes: done.notes, ..slices }),
            (_, Err(incomplete)) => Err(trouble(&incomplete)),
        };
        match slices {
            Ok(slices) => SchemaState::Ready(slices),
            Err(trouble) => {
                tracing::warn!(dataset = %around.key.dataset, class = %around.key.class, after = ?started.elapsed(), reason = %trouble.message, "the dataset is not as it is wanted");
                SchemaState::Failed(trouble)
            }
        }
    }

    async fn remove(&self, namespace: &NamespaceName, wanted: &Wanted, is_last: bool) -> Removal {
        let around = &self.surroundings;
        if let Err(message) = around.cluster.check() {
            return Removal::Failed(Trouble::of_all(message, true));
        }
        let removed = self.removed(wanted, namespace, is_last).await;
        match removed {
            // What is another's has nothing of it.
            Ok(()) | Err(Error::Refused(Refusal::OwnedByAnother { .. })) => Removal::Done,
            Err(error) => {
                tracing::warn!(dataset = %around.key.dataset, %namespace, %error, "not removed yet");
                Removal::Failed(Trouble::of_all(error.to_string(), error.is_retryable()))
            }
        }
    }

    async fn removed(&self, wanted: &Wanted, namespace: &NamespaceName, is_last: bool) -> Result<(), Error> {
        let around = &self.surroundings;
        let provisioner = self.provisioner();
        // Rows of a namespace that was deleted with `Retain` stay, and so do the tables that they are in.
        // And who has come since it was asked finds the dataset as it is.
        let is_wanted = || self.lock().wanted.is_some();
        if !is_last || provisioner.holds_others(wanted, namespace).await? || is_wanted() {
            let removal = provisioner.remove_namespace(wanted, namespace).await?;
            tracing::info!(dataset = %around.key.dataset, %namespace, ?removal, "removed a namespace");
            return Ok(());
        }
        let mut progress = |step: &Step| around.metrics.schema_step(step.action.name());
        let removal = provisioner.remove_dataset(wanted, &mut progress).await?;
        tracing::info!(dataset = %around.key.dataset, notes = ?removal.notes, "removed a dataset");
        around.metrics.dataset_gone(&around.key.dataset);
        Ok(())
    }

    async fn slices(&self, wanted: &Wanted, notes: Vec<String>) -> Result<Slices, Trouble> {
        let dataset = self.surroundings.cluster.dataset(&wanted.dataset.keyspace, &wanted.dataset.region);
        let records = dataset.slices().await;
        let records = records.map_err(|error| Trouble::of_all(error.to_string(), true))?;
        let mut slices = Slices { notes, ..Slices::default() };
        for record in records.iter().filter(|record| record.state != SliceState::Dropped) {
            match record.state {
                SliceState::Closed => slices.closed += 1,
                _ => slices.open += 1,
            }
            slices.oldest_start = Some(slices.oldest_start.map_or(record.start, |known| known.min(record.start)));
            slices.newest_end = Some(slices.newest_end.map_or(record.end, |known| known.max(record.end)));
        }
        let (around, now) = (&self.surroundings, self.surroundings.clock.now());
        let is_overdue = |record: &&SliceRecord| {
            record.state == SliceState::Open && record.end.plus(wanted.dataset.retention.close_after + LOOK_EVERY) < now
        };
        around.metrics.slices_ahead(&around.key.dataset, slices.newest_end, now);
        around.metrics.slices_overdue(&around.key.dataset, records.iter().filter(is_overdue).count());
        Ok(slices)
    }

    fn provisioner(&self) -> Provisioner {
        let around = &self.surroundings;
        Provisioner::new(around.cluster.clone(), around.clock.clone(), Some(around.permit.clone()))
    }

    fn tell(&self) {
        // Nobody hears it once the controller is gone; then this task is too.
        let _ = self.surroundings.changed.send(self.surroundings.key.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        // Nothing that holds it panics half-way.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn trouble(incomplete: &Incomplete) -> Trouble {
    let waiting_helps = match incomplete {
        Incomplete::Schema(error) => error.is_retryable(),
        Incomplete::Slices { .. } | Incomplete::Unfinished { .. } => true,
    };
    match incomplete {
        // Until when is told by the clock; a status says what is.
        Incomplete::Schema(Error::Refused(Refusal::RemovedJustNow { namespace, .. })) => Trouble {
            message: format!(
                "a CounterNamespace {namespace} was deleted a moment ago, and what was written to it may still arrive; its name can be used again within minutes"
            ),
            waiting_helps: true,
            of: Some(namespace.clone()),
        },
        _ => Trouble { message: incomplete.to_string(), waiting_helps, of: None },
    }
}
