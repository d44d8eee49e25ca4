//! The statements of one dataset, prepared when they are first needed. Events tables come and go with their slices.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfileHandle;
use scylla::client::session::Session;
use scylla::errors::{ExecutionError, PrepareError};
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::OnceCell;

use super::error::{self, Extent};
use super::schema::tables::{ROLLUP, SLICES, events_name};
use crate::model::Timestamp;
use crate::store::{Error, Result};

/// How long the nodes may take to prepare a statement. The driver waits for all of them.
const PREPARE_TIME_MAX: Duration = Duration::from_secs(3);
/// How long a look at the schema may take.
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);

/// The statements of one events table.
pub(super) struct EventStatements {
    pub slice_start: Timestamp,
    pub insert: PreparedStatement,
    /// A page from the newest event of a window.
    pub scan: PreparedStatement,
    /// A page from a key downwards.
    pub resume: PreparedStatement,
}

/// The statements of the rollup table.
pub(super) struct RowStatements {
    pub last_write: PreparedStatement,
    pub first_write: PreparedStatement,
    pub checkpoint: PreparedStatement,
    pub read: PreparedStatement,
    pub list: PreparedStatement,
}

/// Prepared statements by what they are for.
pub(super) struct Statements {
    keyspace: String,
    writing: ExecutionProfileHandle,
    rows: Mutex<Arc<OnceCell<Arc<RowStatements>>>>,
    events: Mutex<HashMap<Timestamp, Arc<OnceCell<Arc<EventStatements>>>>>,
}

/// What the schema has of a table that a statement needs.
enum Presence {
    NoKeyspace,
    NoTable,
    There,
}

impl Statements {
    pub fn new(keyspace: String, writing: ExecutionProfileHandle) -> Self {
        Self { keyspace, writing, rows: Mutex::default(), events: Mutex::default() }
    }

    /// The statements of the rollup table.
    pub async fn rows(&self, session: &Session) -> Result<Arc<RowStatements>> {
        // A panic of another holder left the cell whole; here and below.
        let cell = self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let prepared = cell.get_or_try_init(|| self.prepare_rows(session)).await?;
        Ok(prepared.clone())
    }

    /// The statements of a slice's events table.
    pub async fn events(&self, session: &Session, slice_start: Timestamp) -> Result<Arc<EventStatements>> {
        let cell = {
            let mut known = self.events.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry(slice_start).or_default().clone()
        };
        let prepared = cell.get_or_try_init(|| self.prepare_events(session, slice_start)).await;
        if prepared.is_err() {
            // Names of slices that never were must not gather.
            self.forget_events(slice_start);
        }
        prepared.cloned()
    }

    /// Forgets a slice's statements; they are prepared again when they are needed.
    pub fn forget_events(&self, slice_start: Timestamp) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).remove(&slice_start);
    }

    fn forget_rows(&self) {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    /// After a statement of a slice did not fit the schema: what is wrong.
    pub async fn events_mismatch(&self, session: &Session, slice_start: Timestamp, error: &str) -> Error {
        self.forget_events(slice_start);
        match self.presence(session, &events_name(slice_start)).await {
            Ok(Presence::NoTable) => Error::MissingSlice { slice_start },
            Ok(presence) => self.mismatch(&presence, &events_name(slice_start), error),
            Err(unknown) => unknown,
        }
    }

    /// After a statement of the rollup table did not fit the schema: what is wrong.
    pub async fn rows_mismatch(&self, session: &Session, error: &str) -> Error {
        self.forget_rows();
        match self.presence(session, ROLLUP).await {
            Ok(presence) => self.mismatch(&presence, ROLLUP, error),
            Err(unknown) => unknown,
        }
    }

    /// The store's error for a failed read of rollup rows.
    pub async fn of_row_read(&self, session: &Session, error: &ExecutionError) -> Error {
        match error::extent(error) {
            Extent::NothingForTheSchema => self.rows_mismatch(session, &error.to_string()).await,
            _ => error::of_read(error),
        }
    }

    /// The store's error for a failed read of events.
    pub async fn of_event_read(&self, session: &Session, slice_start: Timestamp, error: &ExecutionError) -> Error {
        match error::extent(error) {
            Extent::NothingForTheSchema => self.events_mismatch(session, slice_start, &error.to_string()).await,
            _ => error::of_read(error),
        }
    }

    fn mismatch(&self, presence: &Presence, table: &str, error: &str) -> Error {
        let keyspace = &self.keyspace;
        let reason = match presence {
            Presence::NoKeyspace => missing_keyspace(keyspace),
            Presence::NoTable => missing_table(keyspace, table),
            Presence::There => format!("{keyspace}.{table}: {error}"),
        };
        Error::Unavailable { reason }
    }

    async fn presence(&self, session: &Session, table: &str) -> Result<Presence> {
        let look = async {
            let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?";
            if has_rows(session, tables, (&self.keyspace, table)).await? {
                return Ok(Presence::There);
            }
            let keyspaces = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
            let there = has_rows(session, keyspaces, (&self.keyspace,)).await?;
            Ok(if there { Presence::NoTable } else { Presence::NoKeyspace })
        };
        in_time(LOOK_TIME_MAX, "to say which tables there are", look).await
    }

    /// Why the dataset cannot be used now: its keyspace or one of the tables that it always has is missing.
    pub async fn check(&self, session: &Session) -> std::result::Result<(), String> {
        for table in [ROLLUP, SLICES] {
            match self.presence(session, table).await {
                Ok(Presence::There) => {}
                Ok(Presence::NoTable) => return Err(missing_table(&self.keyspace, table)),
                Ok(Presence::NoKeyspace) => return Err(missing_keyspace(&self.keyspace)),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    async fn prepare_rows(&self, session: &Session) -> Result<Arc<RowStatements>> {
        let table = format!("{}.{ROLLUP}", self.keyspace);
        let row = "namespace = ? AND counter_name = ? AND region = ?";
        let update = |column| format!("UPDATE {table} USING TIMESTAMP ? SET {column} = ? WHERE {row}");
        let cells = "checkpoint, last_write_ts, first_write_ts";
        let prepare = async {
            Ok(Arc::new(RowStatements {
                last_write: self.prepare_write(session, &update("last_write_ts")).await?,
                first_write: self.prepare_write(session, &update("first_write_ts")).await?,
                checkpoint: self.prepare_write(session, &update("checkpoint")).await?,
                read: prepare(session, &format!("SELECT {cells} FROM {table} WHERE {row}")).await?,
                list: prepare(
                    session,
                    &format!(
                        "SELECT namespace, counter_name, region, {cells} FROM {table} \
                         WHERE token(namespace, counter_name) > ? AND token(namespace, counter_name) <= ?"
                    ),
                )
                .await?,
            }))
        };
        match in_time(PREPARE_TIME_MAX, "to prepare the rollup table's statements", async { Ok(prepare.await) }).await?
        {
            Ok(prepared) => Ok(prepared),
            Err(error) if error::of_prepare(&error) => Err(self.rows_mismatch(session, &error.to_string()).await),
            Err(error) => Err(Error::Unavailable { reason: error.to_string() }),
        }
    }

    async fn prepare_events(&self, session: &Session, slice_start: Timestamp) -> Result<Arc<EventStatements>> {
        let table = format!("{}.{}", self.keyspace, events_name(slice_start));
        let select = format!(
            "SELECT event_time, event_id, event_item_key, event_item_value FROM {table} \
             WHERE namespace = ? AND counter_name = ? AND region = ? AND time_bucket = ? AND event_bucket = ?"
        );
        let insert = format!(
            "INSERT INTO {table} (namespace, counter_name, region, time_bucket, event_bucket, \
             event_time, event_id, event_item_key, event_item_value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
        );
        let scan = format!("{select} AND event_time > ? AND event_time <= ?");
        let resume = format!("{select} AND (event_time) > (?) AND (event_time, event_id, event_item_key) < (?, ?, ?)");
        let prepare = async {
            Ok(Arc::new(EventStatements {
                slice_start,
                insert: self.prepare_write(session, &insert).await?,
                scan: prepare(session, &scan).await?,
                resume: prepare(session, &resume).await?,
            }))
        };
        let prepared =
            in_time(PREPARE_TIME_MAX, "to prepare an events table's statements", async { Ok(prepare.await) });
        match prepared.await? {
            Ok(prepared) => Ok(prepared),
            Err(error) if error::of_prepare(&error) => {
                Err(self.events_mismatch(session, slice_start, &error.to_string()).await)
            }
            Err(error) => Err(Error::Unavailable { reason: error.to_string() }),
        }
    }

    async fn prepare_write(
        &self,
        session: &Session,
        text: &str,
    ) -> std::result::Result<PreparedStatement, PrepareError> {
        let mut prepared = prepare(session, text).await?;
        prepared.set_execution_profile_handle(Some(self.writing.clone()));
        Ok(prepared)
    }
}

fn missing_keyspace(keyspace: &str) -> String {
    format!("there is no keyspace {keyspace} for this dataset; create it with `tallyman schema apply`")
}

fn missing_table(keyspace: &str, table: &str) -> String {
    format!("there is no table {keyspace}.{table}; create it with `tallyman schema apply`")
}

/// Every statement of ours may be repeated: it reads, or writes with a timestamp of its own.
async fn prepare(session: &Session, text: &str) -> std::result::Result<PreparedStatement, PrepareError> {
    let mut prepared = session.prepare(text).await?;
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

async fn has_rows(session: &Session, text: &str, values: impl scylla::serialize::row::SerializeRow) -> Result<bool> {
    let answer = session.query_unpaged(text, values).await.map_err(|error| error::of_read(&error))?;
    let rows = answer.into_rows_result().map_err(|error| error::damaged("the schema", error))?;
    Ok(rows.rows_num() > 0)
}

async fn in_time<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let timed_out = || Error::Unavailable { reason: format!("the nodes took longer than {limit:?} {what}") };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(timed_out()))
}
