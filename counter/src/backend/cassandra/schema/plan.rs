//! From what is wanted of a dataset and what is there to the steps between the two, in order. Pure.

mod role;
mod slices;

use std::collections::BTreeMap;
use std::fmt;

use super::cql::{self, Cql};
use super::datasets::Requested;
use super::tables::{FoundTable, KnownOptions, OWNER, Table};
use crate::model::{NamespaceName, SliceRecord, SliceSettings, SliceState, Timestamp};
use crate::retention::Ahead;

pub use role::{FoundRole, Permission, Role};

/// Replicas per datacenter.
pub type Replication = BTreeMap<String, u32>;

/// What is wanted of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What its namespaces ask for.
    pub dataset: Requested,
    /// For a keyspace that is not there yet.
    pub replication: Replication,
    /// Who claims it; a Kubernetes namespace, say.
    pub owner: Option<String>,
    /// Who reads and writes it.
    pub role: Option<Role>,
    /// How far ahead slices are created.
    pub ahead: Ahead,
    /// Whether it was provisioned before: a keyspace that is not there is then missed, not made. An empty one would count from 0, and
    /// nobody would hear of it.
    pub must_exist: bool,
}

/// What is there of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The keyspace's replication options; `None` when there is no such keyspace.
    pub replication: Option<BTreeMap<String, String>>,
    /// All tables of the keyspace.
    pub tables: BTreeMap<String, FoundTable>,
    /// Which table options the server knows.
    pub known: KnownOptions,
    /// Whom the dataset belongs to.
    pub owner: Option<String>,
    /// Up to when nothing counts of namespaces that were deleted.
    pub floors: BTreeMap<String, Timestamp>,
    /// The slice records of each region, in order.
    pub slices: BTreeMap<String, Vec<SliceRecord>>,
    /// The role that is wanted, as it is there.
    pub role: FoundRole,
}

impl Found {
    /// An empty Cassandra 5.
    #[must_use]
    pub fn nothing() -> Self {
        Self {
            replication: None,
            tables: BTreeMap::new(),
            known: KnownOptions::CASSANDRA_5,
            owner: None,
            floors: BTreeMap::new(),
            slices: BTreeMap::new(),
            role: FoundRole::Absent,
        }
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Creates the keyspace.
    CreateKeyspace,
    /// Creates a table.
    CreateTable(Table),
    /// Records whom the dataset belongs to.
    Claim {
        /// The owner.
        owner: String,
    },
    /// Creates or changes a role, or what it may do.
    ChangeRole,
    /// Records a slice that begins ahead of now.
    RecordSlice(SliceRecord),
    /// Records that a slice is closed or dropped. Before it is closed, every counter written in it is rolled up past its end.
    MoveSlice {
        /// The slice's start.
        start: Timestamp,
        /// Its new state.
        state: SliceState,
    },
    /// Drops the events table of a slice that is recorded as dropped, or a table of a dataset that is removed.
    DropTable(Table),
    /// Drops the dataset's role.
    DropRole,
    /// Drops the keyspace, with all that is in it.
    DropKeyspace,
}

impl Action {
    /// What kind it is, for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateKeyspace => "create_keyspace",
            Self::CreateTable(_) => "create_table",
            Self::Claim { .. } => "claim_dataset",
            Self::ChangeRole => "change_role",
            Self::RecordSlice(_) => "record_slice",
            Self::MoveSlice { state: SliceState::Dropped, .. } => "record_slice_dropped",
            Self::MoveSlice { .. } => "close_slice",
            Self::DropTable(_) => "drop_table",
            Self::DropRole => "drop_role",
            Self::DropKeyspace => "drop_keyspace",
        }
    }
}

/// One statement, and why it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// The statement.
    pub cql: Cql,
    /// Why it is needed.
    pub why: String,
}

/// What has to be done, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Keyspace, tables, owner and role.
    pub provisioning: Vec<Step>,
    /// Slices to create, close and drop: after [`Plan::provisioning`], by [`retention`](crate::retention).
    pub slices: Vec<Step>,
    /// What differs and is not ours to change, or was passed over, with what a person should do.
    pub notes: Vec<String>,
}

impl Plan {
    /// All steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.provisioning.iter().chain(&self.slices)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.provisioning.is_empty() && self.slices.is_empty()
    }
}

/// Why a dataset is not touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The keyspace is somebody else's.
    #[error(
        "keyspace {keyspace} is not touched: it holds {tables}, and nothing that Tallyman created; name another dataset, or an empty keyspace"
    )]
    ForeignKeyspace {
        /// The keyspace.
        keyspace: String,
        /// Its tables.
        tables: Names,
    },
    /// The table is somebody else's.
    #[error(
        "table {keyspace}.{table} is not touched, for it is not the one that Tallyman creates: {differs}; rename or drop it, or name another dataset"
    )]
    ForeignTable {
        /// Its keyspace.
        keyspace: String,
        /// Its name.
        table: String,
        /// What is different about it.
        differs: String,
    },
    /// The dataset belongs to somebody else.
    #[error("dataset {dataset} is not touched: it belongs to {owner:?}, {}", claim(claimant.as_deref()))]
    OwnedByAnother {
        /// The dataset.
        dataset: String,
        /// Whom it belongs to.
        owner: String,
        /// Who claims it.
        claimant: Option<String>,
    },
    /// The dataset belongs to nobody, and so not to whoever wants to remove something of it.
    #[error("nothing of dataset {dataset} is removed: nobody has claimed it, and {claimant:?} did not create it")]
    OwnedByNobody {
        /// The dataset.
        dataset: String,
        /// Who wants to remove it.
        claimant: Option<String>,
    },
    /// The namespace is to be removed, and is wanted.
    #[error("namespace {namespace} of dataset {dataset} is not removed: it is among those that are wanted")]
    StillWanted {
        /// The dataset.
        dataset: String,
        /// The namespace.
        namespace: NamespaceName,
    },
    /// The namespace was deleted a moment ago. To be tried again.
    #[error(
        "namespace {namespace} of dataset {dataset} was deleted and cannot be used again before {until}: until then something may be acknowledged that was counted before"
    )]
    RemovedJustNow {
        /// The dataset.
        dataset: String,
        /// The namespace.
        namespace: NamespaceName,
        /// From when on it can.
        until: Timestamp,
    },
    /// The dataset was there before, and is not there now.
    #[error(
        "dataset {dataset} is not made anew: it was provisioned before, and there is no keyspace of its name; look whether this is the right Cassandra, or restore it"
    )]
    Gone {
        /// The dataset.
        dataset: String,
    },
    /// The dataset has another region.
    #[error(
        "dataset {dataset} is not touched: its region is {found:?}, not {wanted:?}, and a dataset's region never changes"
    )]
    OtherRegion {
        /// The dataset.
        dataset: String,
        /// Its region.
        found: String,
        /// The one asked for.
        wanted: String,
    },
    /// The keyspace has no replica where its quorum is to be.
    #[error(
        "keyspace {keyspace} has no replica in datacenter {datacenter:?}, whose quorum is to acknowledge; its replication is {replication}. {remedy}"
    )]
    NotReplicatedHere {
        /// The keyspace.
        keyspace: String,
        /// The datacenter.
        datacenter: String,
        /// Its replication.
        replication: String,
        /// What to do.
        remedy: String,
    },
    /// The role that is wanted may do everything.
    #[error(
        "role {role} is not touched: it is a superuser, and a sidecar's role may read and write its dataset and nothing else; make it an ordinary role, or drop it"
    )]
    Superuser {
        /// The role.
        role: String,
    },
}

impl Refusal {
    /// Whether time alone will change it.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::RemovedJustNow { .. })
    }

    pub(super) fn foreign_table(table: &Table, differs: String) -> Self {
        Self::ForeignTable { keyspace: table.keyspace.clone(), table: table.name.clone(), differs }
    }
}

fn claim(claimant: Option<&str>) -> String {
    match claimant {
        Some(claimant) => format!("and {claimant:?} cannot have it, too"),
        None => "and nobody was named who asks for it".to_owned(),
    }
}

/// A list of tables in a message: the first few.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let shown = self.0.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        match self.0.len() {
            1 => write!(f, "table {shown}"),
            0..=SHOWN => write!(f, "tables {shown}"),
            more => write!(f, "tables {shown} and {} more", more - SHOWN),
        }
    }
}

/// The steps from what is there to what is wanted.
///
/// # Errors
/// When something is there that is not ours to touch.
pub fn plan(wanted: &Wanted, found: &Found, now: Timestamp) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    keyspace(wanted, found, &mut plan)?;
    let keyspace = &wanted.dataset.keyspace;
    // The owner's table first: it marks the keyspace as ours, and nothing else is created in somebody else's.
    let owners =
        if found.replication.is_none() { Table::owner_with_keyspace(keyspace) } else { Table::owner(keyspace) };
    table(owners, "records whom the dataset belongs to", found, &mut plan)?;
    owner(wanted, found, &mut plan)?;
    floors(wanted, found, now)?;
    table(Table::rollup(keyspace), "holds the counters' checkpoints", found, &mut plan)?;
    table(Table::slices(keyspace), "holds the slices' settings and states", found, &mut plan)?;
    // From the first: a node that does not list it is found out before the names that were deleted are taken for never used.
    table(
        Table::removed(keyspace),
        "holds up to when nothing counts of namespaces that were deleted",
        found,
        &mut plan,
    )?;
    role::plan(wanted, found, &mut plan)?;
    slices::plan(wanted, found, now, &mut plan)?;
    Ok(plan)
}

/// `CREATE KEYSPACE` for this replication.
#[must_use]
pub fn create_keyspace(keyspace: &str, replication: &Replication) -> Cql {
    Cql::new(format!("CREATE KEYSPACE IF NOT EXISTS {keyspace}\nWITH replication = {}", options(replication)))
}

const STRATEGY: &str = "NetworkTopologyStrategy";

fn options(replication: &Replication) -> String {
    let factors: Vec<_> = replication.iter().map(|(datacenter, factor)| (datacenter, factor.to_string())).collect();
    let factors = factors.iter().map(|(datacenter, factor)| (datacenter.as_str(), factor.as_str()));
    cql::map([("class", STRATEGY)].into_iter().chain(factors))
}

fn keyspace(wanted: &Wanted, found: &Found, plan: &mut Plan) -> Result<(), Refusal> {
    let keyspace = &wanted.dataset.keyspace;
    let Some(there) = &found.replication else {
        if wanted.must_exist {
            return Err(Refusal::Gone { dataset: keyspace.clone() });
        }
        let namespaces: Vec<_> = wanted.dataset.namespaces.iter().map(ToString::to_string).collect();
        plan.provisioning.push(Step {
            action: Action::CreateKeyspace,
            cql: create_keyspace(keyspace, &wanted.replication),
            why: format!("there is no keyspace for the dataset of {}", namespaces.join(", ")),
        });
        return Ok(());
    };
    // One without any table is ours, cut short, or was made for us.
    if !found.tables.is_empty() && !found.tables.values().any(FoundTable::is_marked) {
        let tables = Names(found.tables.keys().cloned().collect());
        return Err(Refusal::ForeignKeyspace { keyspace: keyspace.clone(), tables });
    }
    let foreign: Vec<_> =
        found.tables.iter().filter(|(_, table)| !table.is_marked()).map(|(name, _)| name.clone()).collect();
    if !foreign.is_empty() {
        plan.notes.push(format!(
            "keyspace {keyspace} also holds {}, which Tallyman did not create and does not touch; the dataset's role reaches the whole keyspace",
            Names(foreign)
        ));
    }
    replication(wanted, there, plan)
}

/// Never altered by us; said where it differs.
fn replication(wanted: &Wanted, there: &BTreeMap<String, String>, plan: &mut Plan) -> Result<(), Refusal> {
    let keyspace = &wanted.dataset.keyspace;
    let strategy = there.get("class").map_or("", |class| class.rsplit('.').next().unwrap_or(class));
    // Of two replicas of which one is transient, "2/1".
    let factors: BTreeMap<&str, &str> =
        there.iter().filter(|(key, _)| *key != "class").map(|(key, factor)| (key.as_str(), factor.as_str())).collect();
    let shown = cql::map([("class", strategy)].into_iter().chain(factors.iter().map(|(key, factor)| (*key, *factor))));
    let remedy = format!(
        "Tallyman never alters replication, for quorums that overlap need a repair in between. A person runs ALTER KEYSPACE {keyspace} WITH replication = {}, \
         then `nodetool repair --full {keyspace}` on every node, before writes are let in where replicas were added",
        options(&wanted.replication)
    );
    let datacenter = &wanted.dataset.local_datacenter;
    let here = factors.get(datacenter.as_str()).is_some_and(|factor| *factor != "0");
    if strategy == STRATEGY && !here {
        return Err(Refusal::NotReplicatedHere {
            keyspace: keyspace.clone(),
            datacenter: datacenter.clone(),
            replication: shown,
            remedy,
        });
    }
    let wanted_factors: BTreeMap<&str, String> =
        wanted.replication.iter().map(|(datacenter, factor)| (datacenter.as_str(), factor.to_string())).collect();
    let same = strategy == STRATEGY
        && factors.len() == wanted_factors.len()
        && wanted_factors.iter().all(|(datacenter, factor)| factors.get(datacenter) == Some(&factor.as_str()));
    if !same {
        plan.notes.push(format!(
            "keyspace {keyspace} has replication {shown}, not {}, and keeps it. {remedy}",
            options(&wanted.replication)
        ));
    }
    Ok(())
}

/// A table that every dataset has.
fn table(table: Table, what_for: &str, found: &Found, plan: &mut Plan) -> Result<(), Refusal> {
    match found.tables.get(&table.name) {
        Some(there) => {
            if let Some(differs) = table.differs(there) {
                return Err(Refusal::foreign_table(&table, differs));
            }
            plan.notes.extend(table.dangers(there));
        }
        None => plan.provisioning.push(Step {
            cql: table.create(found.known),
            why: format!("it {what_for}"),
            action: Action::CreateTable(table),
        }),
    }
    Ok(())
}

fn owner(wanted: &Wanted, found: &Found, plan: &mut Plan) -> Result<(), Refusal> {
    let dataset = &wanted.dataset.keyspace;
    match (&found.owner, &wanted.owner) {
        (Some(owner), claimant) if Some(owner) != claimant.as_ref() => {
            Err(Refusal::OwnedByAnother { dataset: dataset.clone(), owner: owner.clone(), claimant: claimant.clone() })
        }
        (None, Some(claimant)) => {
            plan.provisioning.push(Step {
                action: Action::Claim { owner: claimant.clone() },
                cql: claim_text(dataset, claimant),
                why: "the dataset belongs to nobody yet; from now on another's claim is refused".to_owned(),
            });
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A name that was deleted is not used again before the boundary has passed its floor.
fn floors(wanted: &Wanted, found: &Found, now: Timestamp) -> Result<(), Refusal> {
    for namespace in &wanted.dataset.namespaces {
        let Some(floor) = found.floors.get(namespace.as_str()) else { continue };
        let until = super::floors::until(*floor, settings(wanted, found));
        if now < until {
            let dataset = wanted.dataset.keyspace.clone();
            return Err(Refusal::RemovedJustNow { dataset, namespace: namespace.clone(), until });
        }
    }
    Ok(())
}

/// The settings of all slices of a dataset, and of the next one.
pub(super) fn settings<'a>(wanted: &'a Wanted, found: &'a Found) -> impl Iterator<Item = &'a SliceSettings> {
    let recorded = found.slices.values().flatten().map(|record| &record.settings);
    recorded.chain([&wanted.dataset.time_partition.settings])
}

/// The statement that records whom a dataset belongs to, unless it belongs to somebody.
#[must_use]
pub fn claim_text(keyspace: &str, owner: &str) -> Cql {
    Cql::new(format!(
        "INSERT INTO {keyspace}.{OWNER} (dataset, owner) VALUES ({}, {}) IF NOT EXISTS",
        cql::string(keyspace),
        cql::string(owner)
    ))
}

#[cfg(test)]
pub(super) mod tests;
