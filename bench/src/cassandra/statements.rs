//! The three ways to write one add to Cassandra directly, prepared.

use std::time::SystemTime;

use anyhow::{Result, ensure};
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlValue, Row};

use super::Keyspace;
use crate::tokens::Tokens;

/// The only namespace and the only region.
const NAMESPACE: &str = "eventual";
const REGION: &str = "dc1";
/// As in Tallyman's own event tables: seconds of a time bucket, and event buckets.
const SECONDS_PER_BUCKET: i64 = 600;
const BUCKETS_PER_ID: u64 = 4;
/// An event's item: an add of 1, encoded in as many bytes as Tallyman takes.
const ADD: i8 = 0;
const ONE: &[u8] = &[0, 0, 0, 0, 0, 0, 0, 1, 0];

/// How an add is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A counter column is incremented. Whoever repeats it counts twice.
    CounterColumn,
    /// A token is inserted `IF NOT EXISTS`, and if it is new, a counter column is incremented. Whoever crashes between the two
    /// does not count.
    TokenThenCounterColumn,
    /// A row is inserted into a table like our event tables: what any store of events costs at least. Nothing is counted.
    EventRow,
}

impl Kind {
    /// Its name in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::CounterColumn => "counter-column",
            Self::TokenThenCounterColumn => "lwt-token-counter-column",
            Self::EventRow => "event-insert",
        }
    }
}

const COUNTERS: &str = "(namespace text, counter_name text, count counter, PRIMARY KEY ((namespace, counter_name)))";
/// Tokens live as long as Tallyman accepts an event.
const TOKENS: &str = "(id text PRIMARY KEY) WITH default_time_to_live = 10";
const EVENTS: &str = "(namespace text, counter_name text, region text, time_bucket bigint, event_bucket int, event_time bigint, \
    event_id text, event_item_key tinyint, event_item_value blob, \
    PRIMARY KEY ((namespace, counter_name, region, time_bucket, event_bucket), event_time, event_id, event_item_key)) \
    WITH CLUSTERING ORDER BY (event_time DESC, event_id DESC, event_item_key DESC) \
    AND compaction = {'class': 'TimeWindowCompactionStrategy'}";

/// The statements of one kind.
#[derive(Clone)]
pub enum Statements {
    CounterColumn { increment: PreparedStatement },
    TokenThenCounterColumn { insert: PreparedStatement, increment: PreparedStatement },
    EventRow { insert: PreparedStatement },
}

impl Statements {
    /// Makes the tables of one kind and prepares what writes to them.
    pub async fn prepare(kind: Kind, keyspace: &Keyspace) -> Result<Self> {
        let (name, session) = (keyspace.name(), keyspace.session());
        let create = async |table: &str, columns: &str| {
            session.query_unpaged(format!("CREATE TABLE {name}.{table} {columns}"), ()).await
        };
        match kind {
            Kind::CounterColumn => {
                create("counters", COUNTERS).await?;
                Ok(Self::CounterColumn { increment: increment(session, name, "counters").await? })
            }
            Kind::TokenThenCounterColumn => {
                create("deduplicated", COUNTERS).await?;
                create("tokens", TOKENS).await?;
                let insert =
                    session.prepare(format!("INSERT INTO {name}.tokens (id) VALUES (?) IF NOT EXISTS")).await?;
                let increment = increment(session, name, "deduplicated").await?;
                Ok(Self::TokenThenCounterColumn { insert, increment })
            }
            Kind::EventRow => {
                create("events", EVENTS).await?;
                let insert = format!(
                    "INSERT INTO {name}.events (namespace, counter_name, region, time_bucket, event_bucket, event_time, event_id, \
                     event_item_key, event_item_value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?"
                );
                let mut insert = session.prepare(insert).await?;
                insert.set_is_idempotent(true);
                Ok(Self::EventRow { insert })
            }
        }
    }

    /// Writes an add of 1 to a counter; it is acknowledged or it fails.
    pub async fn add(&self, session: &Session, counter: &str, tokens: &mut Tokens) -> Result<()> {
        match self {
            Self::CounterColumn { increment } => {
                session.execute_unpaged(increment, (NAMESPACE, counter)).await?;
            }
            Self::TokenThenCounterColumn { insert, increment } => {
                let reply = session.execute_unpaged(insert, (tokens.next_text(),)).await?.into_rows_result()?;
                // The columns behind the answer are there only where there was a row.
                let row = reply.first_row::<Row>()?;
                let applied = row.columns.first().and_then(Option::as_ref).and_then(CqlValue::as_boolean);
                ensure!(applied == Some(true), "a new token was taken for an old one");
                session.execute_unpaged(increment, (NAMESPACE, counter)).await?;
            }
            Self::EventRow { insert } => {
                let now = SystemTime::UNIX_EPOCH.elapsed()?;
                let now_us = i64::try_from(now.as_micros())?;
                let time_bucket = now_us / 1_000_000 / SECONDS_PER_BUCKET;
                let event_bucket = i32::try_from(tokens.made() % BUCKETS_PER_ID)?;
                let token = tokens.next_text();
                let key = (NAMESPACE, counter, REGION, time_bucket, event_bucket);
                let row = (key.0, key.1, key.2, key.3, key.4, now_us, token, ADD, ONE, now_us);
                session.execute_unpaged(insert, row).await?;
            }
        }
        Ok(())
    }

    /// What tells the counters and how much was added to each: the table, and what to select of it.
    pub fn counted(&self) -> (&'static str, &'static str) {
        match self {
            Self::CounterColumn { .. } => ("counters", "counter_name, CAST(count AS bigint)"),
            Self::TokenThenCounterColumn { .. } => ("deduplicated", "counter_name, CAST(count AS bigint)"),
            Self::EventRow { .. } => ("events", "counter_name, (bigint) 1"),
        }
    }
}

async fn increment(session: &Session, keyspace: &str, table: &str) -> Result<PreparedStatement> {
    let statement = format!("UPDATE {keyspace}.{table} SET count = count + 1 WHERE namespace = ? AND counter_name = ?");
    Ok(session.prepare(statement).await?)
}
