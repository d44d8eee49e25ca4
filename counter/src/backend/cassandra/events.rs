//! The event store of a dataset.

use async_trait::async_trait;
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

use super::clocks;
use super::dataset::Dataset;
use super::error;
use super::schema::slices;
use super::values;
use crate::model::{Event, EventKey, SliceRecord, SliceState, Timestamp, Token};
use crate::store::{Append, Capabilities, Error, EventPage, EventStore, NodeClock, Result, Scan};

/// The most rows asked for at once; a longer page of ours takes several requests.
const ROWS_AT_ONCE_MAX: usize = 5_000;

/// The columns `event_time`, `event_id`, `event_item_key`, `event_item_value`.
type EventRow<'a> = (i64, &'a str, i8, Option<&'a [u8]>);

fn event_of((event_time, event_id, item_key, value): EventRow<'_>) -> Result<Event> {
    let foreign = |error| Error::Corrupt { reason: format!("an event of id {event_id:?}: {error}") };
    Ok(Event {
        event_time: Timestamp::from_micros(event_time),
        event_id: Token::new(event_id).map_err(foreign)?,
        item: values::item_from(item_key, value)?,
    })
}

#[async_trait]
impl EventStore for Dataset {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn append(&self, appends: Vec<Append>) -> Vec<Result<()>> {
        match self.cluster.session() {
            Ok(session) => self.writer.append(&session, appends).await,
            Err(error) => vec![Err(error); appends.len()],
        }
    }

    async fn scan(&self, scan: Scan) -> Result<EventPage> {
        let Scan { partition, after, through, resume, limit } = scan;
        let session = self.cluster.session()?;
        let slice_start = partition.slice_start;
        let statements = self.statements.events(&session, slice_start).await?;
        let place = (
            partition.counter.namespace.as_str(),
            partition.counter.name.as_str(),
            &*self.region,
            i64::from(partition.time_bucket),
            i32::from(partition.event_bucket),
        );
        let (namespace, name, region, time_bucket, event_bucket) = place;
        let limit = limit.max(1);
        let read = match resume {
            // What is less than the key is not later than `through` either.
            Some(EventKey { event_time, event_id, event_item_key }) if event_time <= through => {
                let (after, time, item_key) =
                    (after.as_micros(), event_time.as_micros(), values::item_key(event_item_key));
                let id = event_id.as_str();
                let row = (namespace, name, region, time_bucket, event_bucket, after, time, id, item_key);
                read_page(&session, &statements.resume, row, limit).await
            }
            _ => {
                let (after, through) = (after.as_micros(), through.as_micros());
                let row = (namespace, name, region, time_bucket, event_bucket, after, through);
                read_page(&session, &statements.scan, row, limit).await
            }
        };
        match read {
            Ok(page) => Ok(page),
            Err(ReadError::Execution(error)) => Err(self.statements.of_event_read(&session, slice_start, &error).await),
            Err(ReadError::Store(error)) => Err(error),
        }
    }

    async fn slices(&self) -> Result<Vec<SliceRecord>> {
        let session = self.cluster.session()?;
        // Often enough that no row has to wait for them.
        self.floors.refresh(&session, &self.keyspace).await?;
        Ok(slices::read(&session, &self.keyspace, &self.region).await?)
    }

    async fn create_slice(&self, record: SliceRecord) -> Result<()> {
        let ddl = self.ddl()?;
        Ok(slices::create(&ddl, &self.keyspace, &self.region, &record).await?)
    }

    async fn set_slice_state(&self, slice_start: Timestamp, state: SliceState) -> Result<()> {
        let ddl = self.ddl()?;
        slices::set_state(&ddl, &self.keyspace, &self.region, slice_start, state).await?;
        if state == SliceState::Dropped {
            self.statements.forget_events(slice_start);
        }
        Ok(())
    }

    async fn node_clocks(&self) -> Result<Vec<NodeClock>> {
        clocks::ask(&*self.cluster.session()?, self.cluster.local_datacenter()).await
    }
}

enum ReadError {
    Execution(Box<ExecutionError>),
    Store(Error),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// The first `limit` events of a partition's part, all or an error.
async fn read_page(
    session: &Session,
    statement: &PreparedStatement,
    values: impl SerializeRow,
    limit: usize,
) -> std::result::Result<EventPage, ReadError> {
    let damaged = |error: &dyn std::fmt::Display| error::damaged("a page of events", error);
    let mut statement = statement.clone();
    let mut events: Vec<Event> = Vec::new();
    let mut state = PagingState::start();
    loop {
        let wanted = (limit - events.len()).min(ROWS_AT_ONCE_MAX);
        statement.set_page_size(i32::try_from(wanted).unwrap_or(i32::MAX));
        let page = session.execute_single_page(&statement, &values, state).await;
        let (answer, more) = page.map_err(|error| ReadError::Execution(Box::new(error)))?;
        let rows = answer.into_rows_result().map_err(|error| damaged(&error))?;
        events.reserve(rows.rows_num());
        for row in rows.rows::<EventRow<'_>>().map_err(|error| damaged(&error))? {
            events.push(event_of(row.map_err(|error| damaged(&error))?)?);
        }
        match more {
            // A page may be short, even empty, and not be the last.
            PagingStateResponse::HasMorePages { state: next } if events.len() < limit => state = next,
            PagingStateResponse::HasMorePages { .. } => {
                events.truncate(limit);
                let next = events.last().map(Event::key);
                return Ok(EventPage { events, next });
            }
            PagingStateResponse::NoMorePages => return Ok(EventPage { events, next: None }),
        }
    }
}
