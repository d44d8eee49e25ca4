//! Carries a plan out: keyspace, tables, owner and role here, slices by [`retention`] over the dataset's stores.

use std::convert::Infallible;
use std::sync::Arc;

use scylla::statement::{Consistency, SerialConsistency};

use super::ddl::{Ddl, Permit};
use super::patience::repeated;
use super::plan::{Action, Plan, Refusal, Replication, Step, Wanted, plan};
use super::tables::events_start;
use super::{Error, Result, first, nodes, read, roles};
use crate::backend::cassandra::Cluster;
use crate::clock::Clock;
use crate::dataset::Dataset;
use crate::model::{NamespaceName, SliceState, Timestamp};
use crate::retention;
use crate::store::{self, EventStore};

/// Replicas in the local datacenter, where that many nodes are, unless it is said otherwise.
const FACTOR_USUAL: u32 = 3;

/// Why a dataset is not as it is wanted after all was tried.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    /// Keyspace, tables, owner or role.
    #[error(transparent)]
    Schema(#[from] Error),
    /// Slices: what was created before stays, and a slice that could not be closed is kept.
    #[error("dataset {dataset}: {source}")]
    Slices {
        /// The dataset.
        dataset: String,
        /// Why.
        source: retention::Error,
    },
    /// Something else is wanted still: another process is at work on the dataset, or time has gone on.
    #[error("dataset {dataset}: after everything was done there is still to do: {rest}; run it again")]
    Unfinished {
        /// The dataset.
        dataset: String,
        /// The statements.
        rest: String,
    },
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// The steps that were carried out, but for slices.
    pub provisioning: Vec<Step>,
    /// What became of slices.
    pub slices: retention::Report,
    /// What differs and is not ours to change.
    pub notes: Vec<String>,
}

/// Provisions the datasets of a cluster, logged in as who may.
pub struct Provisioner {
    pub(super) cluster: Cluster,
    pub(super) clock: Arc<dyn Clock>,
    permit: Option<Arc<dyn Permit>>,
}

impl Provisioner {
    /// A provisioner; `permit` is asked before each change.
    #[must_use]
    pub fn new(cluster: Cluster, clock: Arc<dyn Clock>, permit: Option<Arc<dyn Permit>>) -> Self {
        Self { cluster, clock, permit }
    }

    /// The replication for a dataset that is not there, where nothing else is asked for: in the local datacenter, on three
    /// nodes, or on as many as there are.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn usual_replication(&self, local_datacenter: &str) -> Result<Replication> {
        let ddl = self.ddl().map_err(unavailable)?;
        let nodes = repeated(Error::is_retryable, || nodes::per_datacenter(ddl.session())).await?;
        let nodes = nodes.get(local_datacenter).copied().unwrap_or(0);
        let factor = u32::try_from(nodes).unwrap_or(u32::MAX).clamp(1, FACTOR_USUAL);
        Ok(Replication::from([(local_datacenter.to_owned(), factor)]))
    }

    /// The same for a cluster that is not asked.
    #[must_use]
    pub fn replication_without_looking(local_datacenter: &str) -> Replication {
        Replication::from([(local_datacenter.to_owned(), FACTOR_USUAL)])
    }

    /// Looks at what is there and plans; changes nothing.
    ///
    /// # Errors
    /// When it cannot be read, or something is there that is not ours to touch.
    pub async fn plan(&self, wanted: &Wanted) -> Result<Plan> {
        let ddl = self.ddl().map_err(unavailable)?;
        let mut found = read::found(ddl.session(), wanted, self.password_is_right(wanted)).await?;
        if found.replication.is_none() && wanted.must_exist {
            // A node that has just started may know an old schema: it alone is not believed that a dataset is gone.
            ddl.agreement("before: miss a dataset").await?;
            found = read::found(ddl.session(), wanted, self.password_is_right(wanted)).await?;
            if found.replication.is_none() {
                all_here(&ddl, wanted, "miss a dataset").await?;
            }
        }
        let was_removed = |namespace: &NamespaceName| found.floors.contains_key(namespace.as_str());
        // Whether a name may be used again is not for a clock to say that may be wrong.
        let now = if wanted.dataset.namespaces.iter().any(was_removed) {
            self.trusted_now(wanted).await?
        } else {
            self.clock.now()
        };
        Ok(plan(wanted, &found, now)?)
    }

    /// Brings a dataset to what is wanted; `progress` is told of each step before it is carried out.
    ///
    /// # Errors
    /// When it is not, or may not be, as it is wanted. Every step can be repeated.
    pub async fn apply(
        &self,
        wanted: &Wanted,
        progress: &mut (dyn FnMut(&Step) + Send),
    ) -> std::result::Result<Done, Incomplete> {
        let planned = self.plan(wanted).await?;
        let mut done = Done { notes: planned.notes.clone(), ..Done::default() };
        if planned.is_empty() {
            return Ok(done);
        }
        let ddl = self.ddl().map_err(unavailable)?;
        for step in planned.provisioning {
            progress(&step);
            carry_out(&ddl, wanted, &step).await?;
            done.provisioning.push(step);
        }
        for step in &planned.slices {
            progress(step);
        }
        let dataset = &wanted.dataset.keyspace;
        let incomplete = |source| Incomplete::Slices { dataset: dataset.clone(), source };
        done.slices = self.slices(wanted).await.map_err(incomplete)?;
        let rest = self.plan(wanted).await?;
        if !rest.is_empty() {
            let rest: Vec<_> = rest.steps().map(|step| step.cql.to_string()).collect();
            return Err(Incomplete::Unfinished { dataset: dataset.clone(), rest: rest.join("; ") });
        }
        Ok(done)
    }

    /// Creates, closes and drops the slices whose time has come.
    async fn slices(&self, wanted: &Wanted) -> std::result::Result<retention::Report, retention::Error> {
        let requested = &wanted.dataset;
        let mut handle = self.cluster.dataset(&requested.keyspace, &requested.region);
        if let Some(permit) = &self.permit {
            handle = handle.with_permit(permit.clone());
        }
        let handle = Arc::new(handle);
        let (events, rollups) = (handle.clone(), handle.clone());
        let dataset = Dataset::new(requested.keyspace.clone(), events, rollups, self.clock.clone());
        // A cluster that has only just started tells its time late.
        repeated(store::Error::is_retryable, || dataset.refresh()).await?;
        let life = async {
            let created = retention::create_ahead(&dataset, requested.time_partition, wanted.ahead).await?;
            let report = retention::close_and_drop(&dataset, requested.retention).await?;
            Ok::<_, retention::Error>(retention::Report { created, ..report })
        };
        // Many slices, or a sweep over many counters, take longer than one comparison of the clock is good for.
        let report = tokio::select! {
            done = life => done?,
            never = kept_fresh(&dataset) => match never {},
        };
        // What a drop that was cut short, or a creation that came late, left behind.
        let found = read::found(self.ddl()?.session(), wanted, async { Ok(true) }).await.map_err(store::Error::from)?;
        let slices = dataset.slices();
        let dropped = slices.records().iter().filter(|slice| slice.state == SliceState::Dropped);
        for slice in dropped.filter(|slice| found.tables.keys().any(|name| events_start(name) == Some(slice.start))) {
            handle.set_slice_state(slice.start, SliceState::Dropped).await?;
        }
        Ok(report)
    }

    /// The time, by a clock that was held against the cluster's.
    pub(super) async fn trusted_now(&self, wanted: &Wanted) -> Result<Timestamp> {
        let unknown = |reason| Error::Unavailable { doing: "tell the time".to_owned(), reason };
        let requested = &wanted.dataset;
        let handle = Arc::new(self.cluster.dataset(&requested.keyspace, &requested.region));
        let dataset = Dataset::new(requested.keyspace.clone(), handle.clone(), handle, self.clock.clone());
        let refreshed = repeated(store::Error::is_retryable, || dataset.refresh()).await;
        refreshed.map_err(|error| unknown(error.to_string()))?;
        let next = requested.time_partition.settings.max_clock_skew;
        let skew = dataset.slices().max_clock_skew().unwrap_or(next);
        dataset.clock.now(skew).map_err(|untrusted| unknown(untrusted.to_string()))
    }

    async fn password_is_right(&self, wanted: &Wanted) -> Result<bool> {
        let dataset = &wanted.dataset;
        roles::password_is_right(&dataset.reach(dataset.credentials_file.clone())).await
    }

    pub(super) fn ddl(&self) -> store::Result<Ddl> {
        let ddl = Ddl::new(self.cluster.session()?);
        Ok(match &self.permit {
            Some(permit) => ddl.with_permit(permit.clone()),
            None => ddl,
        })
    }
}

async fn kept_fresh(dataset: &Dataset) -> Infallible {
    dataset.keep_fresh().await;
    std::future::pending().await
}

/// Whether every node of the local datacenter is connected to. What is not there is not there for good only where all of them say so,
/// and what ends has ended only where all of them have heard of it.
///
/// # Errors
/// Which one is not.
pub(super) async fn all_here(ddl: &Ddl, wanted: &Wanted, doing: &str) -> Result<()> {
    match nodes::away(ddl.session(), &wanted.dataset.local_datacenter).await? {
        None => Ok(()),
        Some(node) => Err(Error::Unavailable {
            doing: doing.to_owned(),
            reason: format!("node {node} cannot be reached, and may know more or has to hear of it"),
        }),
    }
}

pub(super) fn unavailable(error: store::Error) -> Error {
    Error::Unavailable { doing: "read the schema".to_owned(), reason: error.to_string() }
}

/// Carries out one step of [`Plan::provisioning`]. A step that was carried out already, by whomever, changes nothing.
///
/// # Errors
/// When it may not have been carried out; [`Refusal`] when somebody else was quicker and what is there is not ours.
pub async fn carry_out(ddl: &Ddl, wanted: &Wanted, step: &Step) -> Result<()> {
    let keyspace = &wanted.dataset.keyspace;
    match &step.action {
        Action::CreateKeyspace => {
            ddl.run(&format!("create keyspace {keyspace}"), &step.cql).await?;
            // So that statements on it are routed by its replication from now on.
            ddl.refresh(&format!("read keyspace {keyspace}")).await
        }
        Action::CreateTable(table) => ddl.create_table(table).await.map(drop),
        Action::Claim { owner } => claim(ddl, keyspace, owner, step).await,
        Action::ChangeRole => ddl.run(&format!("change the role of {keyspace}"), &step.cql).await,
        // Slices come after the sweep that shows that no count is lost; removals are not provisioning.
        Action::RecordSlice(_)
        | Action::MoveSlice { .. }
        | Action::DropTable(_)
        | Action::DropRole
        | Action::DropKeyspace => Ok(()),
    }
}

/// Claims the dataset: the first claim wins, across all datacenters.
async fn claim(ddl: &Ddl, keyspace: &str, claimant: &str, step: &Step) -> Result<()> {
    let read = || read::owner(ddl.session(), keyspace, Consistency::Serial);
    let doing = format!("claim dataset {keyspace}");
    let owner = first::insert(ddl, &doing, &step.cql, SerialConsistency::Serial, read).await?;
    if owner == claimant {
        return Ok(());
    }
    Err(Refusal::OwnedByAnother { dataset: keyspace.to_owned(), owner, claimant: Some(claimant.to_owned()) }.into())
}
