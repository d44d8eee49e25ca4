//! Runs schema changes, one at a time: the nodes agree before each and after it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use scylla::client::session::Session;
use scylla::statement::Consistency;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::cql::Cql;
use super::patience::repeated;
use super::plan::Refusal;
use super::tables::Table;
use super::usable::usable;
use super::{Error, Result, query, read};

/// How long the nodes may take to agree.
pub(in crate::backend::cassandra) const AGREEMENT_LIMIT: Duration = Duration::from_secs(20);
const AGREEMENT_EVERY: Duration = Duration::from_millis(50);
/// How long a node may take for one schema change.
const CHANGE_LIMIT: Duration = Duration::from_secs(20);

/// How long the driver may take for all that it does about a schema change: the statement, an agreement, and a look at the cluster.
const DRIVER_LIMIT: Duration = Duration::from_secs(60);

/// Of this process: one change at a time, whatever the cluster. Schema changes are rare.
static CHANGING: Mutex<()> = Mutex::const_new(());

/// Whether this process may change schemas. Asked before each change, after all waiting.
#[async_trait]
pub trait Permit: Send + Sync + 'static {
    /// `Ok` when it may: it is still the leader, say.
    ///
    /// # Errors
    /// Why it may not, in words for the log.
    async fn may_change_schema(&self) -> std::result::Result<(), String>;
}

/// Runs schema changes over a session.
#[derive(Clone)]
pub struct Ddl {
    session: Arc<Session>,
    permit: Option<Arc<dyn Permit>>,
}

impl Ddl {
    /// Changes schemas over this session, with nobody to ask for a permit.
    #[must_use]
    pub fn new(session: Arc<Session>) -> Self {
        Self { session, permit: None }
    }

    /// The same, asking for a permit before each change.
    #[must_use]
    pub fn with_permit(self, permit: Arc<dyn Permit>) -> Self {
        Self { permit: Some(permit), ..self }
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether a change may be made now.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] when it may not.
    pub(super) async fn ask_permit(&self) -> Result<()> {
        match &self.permit {
            Some(permit) => permit.may_change_schema().await.map_err(Error::NotPermitted),
            None => Ok(()),
        }
    }

    /// Creates a table unless it is there. Answers whether it was created now.
    ///
    /// # Errors
    /// [`Refusal::ForeignTable`] when another table is there under its name; else when it may not be there.
    pub async fn create_table(&self, table: &Table) -> Result<bool> {
        if self.is_usable(table).await? {
            return Ok(false);
        }
        let changing = self.begin(&format!("create {}.{}", table.keyspace, table.name)).await?;
        // Another task or process may have created it, before the nodes agreed.
        if self.is_usable(table).await? {
            return Ok(false);
        }
        let known = read::known_options(&self.session).await?;
        // Others may have created the keyspace, and not every node heard of it.
        let is_early = |error: &Error| matches!(error, Error::UnknownYet { .. });
        let create = table.create(known);
        repeated(is_early, || self.change(&changing, &create)).await?;
        // Whose is it, if somebody was quicker under the same name?
        if self.is_usable(table).await? {
            return Ok(true);
        }
        let doing = format!("create {}.{}", table.keyspace, table.name);
        Err(Error::Unavailable { doing, reason: "it is not there, though its creation was acknowledged".to_owned() })
    }

    /// Drops a table if it is there. Answers whether it was dropped now.
    ///
    /// # Errors
    /// [`Refusal::ForeignTable`] when another table is there under its name; else when it may still be there.
    pub async fn drop_table(&self, table: &Table) -> Result<bool> {
        // One node that does not list it is not believed: the nodes agree first.
        let changing = self.begin(&format!("drop {}.{}", table.keyspace, table.name)).await?;
        if !self.is_there(table).await? {
            return Ok(false);
        }
        self.change(&changing, &table.drop()).await?;
        Ok(true)
    }

    /// Runs one statement that changes the schema, or roles and their permissions.
    ///
    /// # Errors
    /// When it may not have been run.
    pub async fn run(&self, doing: &str, statement: &Cql) -> Result<()> {
        let changing = self.begin(doing).await?;
        self.change(&changing, statement).await
    }

    /// Whether the table is there, and ours; where it is, it can be used by then, through any node.
    async fn is_usable(&self, table: &Table) -> Result<bool> {
        let is_there = self.is_there(table).await?;
        if is_there {
            usable(&self.session, &table.keyspace, &table.name, table.columns()).await?;
        }
        Ok(is_there)
    }

    /// Whether the table is there, and ours.
    async fn is_there(&self, table: &Table) -> Result<bool> {
        match read::table(&self.session, &table.keyspace, &table.name).await? {
            None => Ok(false),
            Some(found) => match table.differs(&found) {
                None => Ok(true),
                Some(differs) => Err(Refusal::foreign_table(table, differs).into()),
            },
        }
    }

    async fn begin(&self, doing: &str) -> Result<Changing> {
        let changing = Changing { doing: doing.to_owned(), _one: CHANGING.lock().await };
        self.agreement(&format!("before: {doing}")).await?;
        Ok(changing)
    }

    async fn change(&self, changing: &Changing, statement: &Cql) -> Result<()> {
        self.ask_permit().await?;
        tracing::info!(statement = %statement, "changing the schema");
        let mut run = query::once(statement.to_run(), Consistency::LocalQuorum);
        run.set_request_timeout(Some(CHANGE_LIMIT));
        self.in_time(&changing.doing, query::run(&self.session, &changing.doing, run)).await?;
        self.agreement(&format!("after: {}", changing.doing)).await.map(drop)
    }

    /// Lets the driver read again what nodes and keyspaces there are: statements on a new one are routed by its replication from then on.
    ///
    /// # Errors
    /// When it was not read.
    pub(super) async fn refresh(&self, doing: &str) -> Result<()> {
        let refresh = self.session.refresh_metadata();
        let unavailable = |reason: String| Error::Unavailable { doing: doing.to_owned(), reason };
        self.in_time(doing, async { refresh.await.map_err(|error| unavailable(error.to_string())) }).await
    }

    /// The driver reads what nodes and keyspaces there are after each change, and waits for that as long as it takes: for ever, where
    /// a node hangs to which it connects by TLS.
    async fn in_time<T>(&self, doing: &str, change: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(DRIVER_LIMIT, change).await.unwrap_or_else(|_| {
            let reason = format!("not done within {DRIVER_LIMIT:?}");
            Err(Error::Timeout { doing: doing.to_owned(), reason })
        })
    }

    /// Waits until all nodes that answer have the same schema, and answers its version.
    pub(super) async fn agreement(&self, when: &str) -> Result<Uuid> {
        let mut last = "no node has told its schema version yet".to_owned();
        let agreed = tokio::time::timeout(AGREEMENT_LIMIT, async {
            loop {
                match self.session.check_schema_agreement().await {
                    Ok(Some(version)) => return version,
                    Ok(None) => last = "their schema versions differ".to_owned(),
                    Err(error) => last = error.to_string(),
                }
                tokio::time::sleep(AGREEMENT_EVERY).await;
            }
        });
        match agreed.await {
            Ok(version) => Ok(version),
            Err(_) => Err(Error::NoAgreement { when: when.to_owned(), limit: AGREEMENT_LIMIT, reason: last }),
        }
    }
}

/// A change under way: proof that no other one is, in this process, and that the nodes agreed when it began.
struct Changing {
    doing: String,
    _one: MutexGuard<'static, ()>,
}
