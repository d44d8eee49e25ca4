//! What is deleted in Cassandra: a namespace out of a dataset that others still use, or a dataset with the last of them. Only what
//! its owner created, and every step can be repeated: whoever is cut short begins again and finishes.
//!
//! A namespace: first its floor, from which on nothing older counts ([`super::floors`] says why that is enough), then its rows, a page
//! at a time. A dataset: its role, then, where Tallyman created the keyspace and nobody else put a table into it, the keyspace
//! in one statement; elsewhere table by table, the owner's last. So what is left at any time still says whose it is.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use scylla::serialize::row::SerializeRow;
use scylla::statement::Consistency;
use scylla::statement::prepared::PreparedStatement;

use super::cql::Cql;
use super::ddl::Ddl;
use super::patience::repeated;
use super::plan::{Action, Found, FoundRole, Refusal, Step, Wanted, settings};
use super::provision::{Provisioner, all_here, unavailable};
use super::tables::{FoundTable, OWNER, REMOVED, ROLLUP, SLICES, Table, events_start};
use super::{Error, Result, floors, query, read};
use crate::model::{NamespaceName, Timestamp};

/// Rows that are deleted between two looks at the permit.
const ROWS_AT_ONCE: usize = 500;
/// Deletions on their way at once: what is left of the cluster is for those who count.
const DELETIONS_AT_ONCE: usize = 16;

/// What became of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removal {
    /// Counters whose rows were deleted, by this call.
    pub counters: u64,
    /// Partitions of events that were deleted, by this call.
    pub event_partitions: u64,
    /// From when on the name can be provisioned again; `None` where nothing of the dataset was there.
    pub usable_from: Option<Timestamp>,
}

/// What has to be done to remove a dataset, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatasetRemoval {
    /// The steps.
    pub steps: Vec<Step>,
    /// What stays, and why.
    pub notes: Vec<String>,
}

/// The steps that remove a dataset. Pure.
///
/// # Errors
/// When it is not the owner's, or a table of its name is not ours.
pub fn plan_dataset(wanted: &Wanted, found: &Found) -> std::result::Result<DatasetRemoval, Refusal> {
    let keyspace = &wanted.dataset.keyspace;
    let mut removal = DatasetRemoval::default();
    if !is_ours(wanted, found)? {
        return Ok(removal);
    }
    let mut step = |action, text: String, why: &str| {
        removal.steps.push(Step { action, cql: Cql::new(text), why: why.to_owned() });
    };
    if let (Some(role), FoundRole::Present { superuser, .. }) = (&wanted.role, &found.role)
        && role.is_of(keyspace)
    {
        if *superuser {
            return Err(Refusal::Superuser { role: role.name.clone() });
        }
        step(Action::DropRole, format!("DROP ROLE IF EXISTS {}", role.name), "nobody is to write to what goes");
    }
    // A copy of one of our tables has our mark as well, and may be somebody's only one.
    let is_foreign = |name: &str, table: &FoundTable| !table.is_marked() || table_of(keyspace, name).is_none();
    let foreign: Vec<_> =
        found.tables.iter().filter(|(name, table)| is_foreign(name, table)).map(|(name, _)| name.as_str()).collect();
    let has_created_keyspace = found.tables.get(OWNER).is_some_and(FoundTable::has_created_keyspace);
    if has_created_keyspace && foreign.is_empty() {
        step(Action::DropKeyspace, format!("DROP KEYSPACE IF EXISTS {keyspace}"), "it was created for the dataset");
        return Ok(removal);
    }
    let mut last = Vec::new();
    for (name, there) in found.tables.iter().filter(|(_, table)| table.is_marked()) {
        let Some(table) = table_of(keyspace, name) else { continue };
        if let Some(differs) = table.differs(there) {
            return Err(Refusal::foreign_table(&table, differs));
        }
        let drop = Step { cql: table.drop(), why: "it is the dataset's".to_owned(), action: Action::DropTable(table) };
        // The slices say which events tables there are, and the owner's table whose all that is.
        match name.as_str() {
            SLICES => last.insert(0, drop),
            OWNER => last.push(drop),
            _ => removal.steps.push(drop),
        }
    }
    removal.steps.append(&mut last);
    removal.notes.push(if foreign.is_empty() {
        format!("keyspace {keyspace} stays: it was there before the dataset")
    } else {
        format!(
            "keyspace {keyspace} stays: it holds {}, which this version of Tallyman does not create",
            foreign.join(", ")
        )
    });
    Ok(removal)
}

/// The table of ours that has this name.
fn table_of(keyspace: &str, name: &str) -> Option<Table> {
    match name {
        OWNER => Some(Table::owner(keyspace)),
        ROLLUP => Some(Table::rollup(keyspace)),
        SLICES => Some(Table::slices(keyspace)),
        REMOVED => Some(Table::removed(keyspace)),
        // Where it ends is not to be seen of a table that is there.
        name => events_start(name).map(|start| Table::events(keyspace, start, start.plus(Duration::from_secs(1)))),
    }
}

/// Whether there is something of ours to remove; `false` where there is nothing of Tallyman's.
fn is_ours(wanted: &Wanted, found: &Found) -> std::result::Result<bool, Refusal> {
    let (dataset, claimant) = (wanted.dataset.keyspace.clone(), wanted.owner.clone());
    match &found.owner {
        Some(owner) if Some(owner) == wanted.owner.as_ref() => Ok(true),
        Some(owner) => Err(Refusal::OwnedByAnother { dataset, owner: owner.clone(), claimant }),
        None if found.tables.values().any(FoundTable::is_marked) => Err(Refusal::OwnedByNobody { dataset, claimant }),
        None => Ok(false),
    }
}

/// What is there. What is not listed is taken to be gone for good, and nobody looks again: nodes that have just started and know an
/// old schema are not believed, whether they differ from others or no other is there yet.
async fn found(ddl: &Ddl, wanted: &Wanted) -> Result<Found> {
    let doing = format!("remove what is in {}", wanted.dataset.keyspace);
    // The nodes that agree are those that are here by then: one that comes after that is looked at by nobody.
    let before = all_here(ddl, wanted, &doing).await;
    ddl.agreement(&format!("before: {doing}")).await?;
    let found = read::found(ddl.session(), wanted, async { Ok(true) }).await?;
    if found.owner.is_none() {
        before?;
        all_here(ddl, wanted, &doing).await?;
    }
    Ok(found)
}

impl Provisioner {
    /// Deletes everything that a namespace has in a dataset which other namespaces use on. Those are in `wanted`, this one is not
    /// any more. From [`Removal::usable_from`] on the name can be provisioned again; each call moves that on.
    ///
    /// May take long, and waits for nothing but the cluster; memory is bounded. Can be called again after any failure.
    ///
    /// # Errors
    /// When something may be left, or the dataset is not the owner's.
    pub async fn remove_namespace(&self, wanted: &Wanted, namespace: &NamespaceName) -> Result<Removal> {
        let (ddl, keyspace) = (self.ddl().map_err(unavailable)?, &wanted.dataset.keyspace);
        if wanted.dataset.namespaces.contains(namespace) {
            let (dataset, namespace) = (keyspace.clone(), namespace.clone());
            return Err(Refusal::StillWanted { dataset, namespace }.into());
        }
        let found = found(&ddl, wanted).await?;
        if !is_ours(wanted, &found)? {
            return Ok(Removal::default());
        }
        ddl.create_table(&Table::removed(keyspace)).await?;
        let floor = self.raise_floor(&ddl, wanted, &found, namespace).await?;
        let usable_from = Some(floors::until(floor, settings(wanted, &found)));
        let sweep = Sweep { ddl: &ddl, keyspace, namespace, floor };
        let mut removal = Removal { usable_from, ..Removal::default() };
        // Rows first: without them, no rollup looks for events.
        if found.tables.get(ROLLUP).is_some_and(FoundTable::is_marked) {
            removal.counters = sweep.rollups().await?;
        }
        let is_events = |name: &str, table: &FoundTable| table.is_marked() && events_start(name).is_some();
        for (name, _) in found.tables.iter().filter(|(name, table)| is_events(name, table)) {
            removal.event_partitions += sweep.events(name).await?;
        }
        Ok(removal)
    }

    /// Whether the dataset holds counters of other namespaces than this one: those of a namespace that is gone and whose rows were to
    /// stay, too.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn holds_others(&self, wanted: &Wanted, namespace: &NamespaceName) -> Result<bool> {
        let (ddl, keyspace) = (self.ddl().map_err(unavailable)?, &wanted.dataset.keyspace);
        let found = found(&ddl, wanted).await?;
        if !is_ours(wanted, &found)? || !found.tables.get(ROLLUP).is_some_and(FoundTable::is_marked) {
            return Ok(false);
        }
        let list = format!("SELECT DISTINCT namespace, counter_name FROM {keyspace}.{ROLLUP}");
        let list = query::repeatable(list, Consistency::LocalQuorum);
        let keys = query::row_stream::<(String, String)>(ddl.session(), "look for other namespaces", list).await?;
        let others = keys.try_filter(|key| std::future::ready(key.0 != namespace.as_str()));
        Ok(std::pin::pin!(others).try_next().await?.is_some())
    }

    /// Records a floor that lies far enough ahead of the moment at which it is durable.
    async fn raise_floor(
        &self,
        ddl: &Ddl,
        wanted: &Wanted,
        found: &Found,
        namespace: &NamespaceName,
    ) -> Result<Timestamp> {
        let keyspace = &wanted.dataset.keyspace;
        let doing = format!("record that namespace {namespace} of {keyspace} is deleted");
        let before = found.floors.get(namespace.as_str()).copied().unwrap_or(Timestamp::MIN);
        let raise = || async {
            let floor = floors::floor_for(self.trusted_now(wanted).await?, settings(wanted, found)).max(before);
            // After the time was told: a floor that is written late is an old one, and harms nobody who counts by then.
            ddl.ask_permit().await?;
            let text = floors::raise_text(keyspace, namespace, floor);
            tracing::info!(statement = %text, "deleting a namespace");
            query::run(ddl.session(), &doing, query::repeatable(text.to_run(), Consistency::LocalQuorum)).await?;
            if self.trusted_now(wanted).await?.plus(floors::lead(settings(wanted, found))) > floor {
                let reason = "the floor was recorded too slowly to be known everywhere in time".to_owned();
                return Err(Error::Timeout { doing: doing.clone(), reason });
            }
            Ok(floor)
        };
        repeated(Error::is_retryable, raise).await
    }

    /// Removes a dataset with everything that Tallyman created for it. Nothing where there is nothing of the kind. `progress` is told of
    /// each step before it is carried out. Can be called again after any failure.
    ///
    /// # Errors
    /// When something may be left, or the dataset is not the owner's.
    pub async fn remove_dataset(
        &self,
        wanted: &Wanted,
        progress: &mut (dyn FnMut(&Step) + Send),
    ) -> Result<DatasetRemoval> {
        let (ddl, keyspace) = (self.ddl().map_err(unavailable)?, &wanted.dataset.keyspace);
        let doing = format!("remove dataset {keyspace}");
        // What is listed goes, keyspace and all, so that a node which knows an old schema must not be the one that lists it: all are
        // here from before they agree until after the look.
        all_here(&ddl, wanted, &doing).await?;
        let found = found(&ddl, wanted).await?;
        let removal = plan_dataset(wanted, &found)?;
        // A node that does not hear of the end would bring the old rows back, should the dataset be made again under its name.
        for step in &removal.steps {
            all_here(&ddl, wanted, &doing).await?;
            progress(step);
            match &step.action {
                Action::DropTable(table) => drop(ddl.drop_table(table).await?),
                _ => ddl.run(&doing, &step.cql).await?,
            }
        }
        if !removal.steps.is_empty() {
            all_here(&ddl, wanted, &doing).await?;
            ddl.agreement(&format!("after: {doing}")).await?;
        }
        Ok(removal)
    }
}

/// The deletion of a namespace's rows at or before a floor.
struct Sweep<'a> {
    ddl: &'a Ddl,
    keyspace: &'a str,
    namespace: &'a NamespaceName,
    floor: Timestamp,
}

impl Sweep<'_> {
    /// Counters whose rows were deleted.
    async fn rollups(&self) -> Result<u64> {
        let of_namespace = |(namespace, _): &(String, String)| *namespace == self.namespace.as_str();
        self.partitions(ROLLUP, &["namespace", "counter_name"], of_namespace).await
    }

    /// Partitions of an events table that were deleted.
    async fn events(&self, table: &str) -> Result<u64> {
        type Key = (String, String, String, i64, i32);
        let of_namespace = |key: &Key| key.0 == self.namespace.as_str();
        let columns = ["namespace", "counter_name", "region", "time_bucket", "event_bucket"];
        self.partitions(table, &columns, of_namespace).await
    }

    /// Reads the keys of a table, page by page, and deletes the partitions that are of the namespace. No table has them in order.
    async fn partitions<K>(&self, table: &str, columns: &[&str], of_namespace: impl Fn(&K) -> bool) -> Result<u64>
    where
        K: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata> + SerializeRow + 'static,
    {
        let (session, table) = (self.ddl.session(), format!("{}.{table}", self.keyspace));
        let doing = format!("delete namespace {} out of {table}", self.namespace);
        let key = columns.iter().map(|column| format!("{column} = ?")).collect::<Vec<_>>().join(" AND ");
        // Sent as a value of the statement, the floor would have to be part of every key.
        let text = format!("DELETE FROM {table} USING TIMESTAMP {} WHERE {key}", self.floor.as_micros());
        let delete = prepared(session, &doing, &text).await?;
        let list =
            query::repeatable(format!("SELECT DISTINCT {} FROM {table}", columns.join(", ")), Consistency::LocalQuorum);
        let keys = query::row_stream::<K>(session, &doing, list).await?;
        let of_namespace = keys.try_filter(|key| std::future::ready(of_namespace(key)));
        let mut pages = std::pin::pin!(of_namespace.try_chunks(ROWS_AT_ONCE));
        let mut deleted = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|broken| broken.1)?;
            self.ddl.ask_permit().await?;
            deleted += page.len() as u64;
            let deletions = page.into_iter().map(|key| deletion(session, &delete, &doing, key));
            stream::iter(deletions).buffer_unordered(DELETIONS_AT_ONCE).try_collect::<()>().await?;
        }
        Ok(deleted)
    }
}

/// Deletes one partition. By itself and not a closure, so that its future can be sent to another thread.
async fn deletion<K: SerializeRow>(session: &Session, delete: &PreparedStatement, doing: &str, key: K) -> Result<()> {
    let run = || async {
        let run = session.execute_unpaged(delete, &key).await;
        run.map(drop).map_err(|error| Error::of_execution(doing, &error))
    };
    repeated(Error::is_retryable, run).await
}

async fn prepared(session: &Session, doing: &str, text: &str) -> Result<PreparedStatement> {
    let prepared = session.prepare(text).await;
    let mut prepared =
        prepared.map_err(|error| Error::Unavailable { doing: doing.to_owned(), reason: error.to_string() })?;
    prepared.set_consistency(Consistency::LocalQuorum);
    prepared.set_is_idempotent(true);
    Ok(prepared)
}
