//! Slices: their records, and the events tables that go with them.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use scylla::client::session::Session;
use scylla::statement::{Consistency, SerialConsistency};

use super::cql::{self, Cql};
use super::ddl::Ddl;
use super::tables::{EVENTS_FORMAT, MICROS_PER_SECOND, SLICES, Table, seconds};
use super::{Error, Result, first, query};
use crate::model::{SliceRecord, SliceSettings, SliceState, Timestamp};

const COLUMNS: &str = "slice_start, slice_end, buckets_per_id, seconds_per_bucket, accept_limit_us, write_timeout_us, max_clock_skew_us, format, state";

/// All slice records of a region, in order.
///
/// # Errors
/// When they cannot be read whole.
pub async fn read(session: &Session, keyspace: &str, region: &str) -> Result<Vec<SliceRecord>> {
    let text = format!("SELECT {COLUMNS} FROM {keyspace}.{SLICES} WHERE region = {}", cql::string(region));
    let statement = query::repeatable(text, Consistency::LocalQuorum);
    let rows: Vec<Row> = query::all_rows(session, &format!("read {keyspace}.{SLICES}"), statement).await?;
    rows.into_iter().map(|row| row.record(keyspace)).collect()
}

/// The slice records of all regions, each in order.
///
/// # Errors
/// When they cannot be read whole.
pub async fn read_regions(session: &Session, keyspace: &str) -> Result<BTreeMap<String, Vec<SliceRecord>>> {
    let text = format!("SELECT DISTINCT region FROM {keyspace}.{SLICES}");
    let statement = query::repeatable(text, Consistency::LocalQuorum);
    let regions: Vec<(String,)> = query::all_rows(session, &format!("read {keyspace}.{SLICES}"), statement).await?;
    let mut slices = BTreeMap::new();
    for (region,) in regions {
        let records = read(session, keyspace, &region).await?;
        slices.insert(region, records);
    }
    Ok(slices)
}

/// Creates a slice: its record, then its table. The first record of a start wins; where one is there, its table is created if
/// it is missing, unless the slice is closed or dropped.
///
/// # Errors
/// When the slice may not be there.
pub async fn create(ddl: &Ddl, keyspace: &str, region: &str, record: &SliceRecord) -> Result<()> {
    let recorded = match read_one(ddl.session(), keyspace, region, record.start, Consistency::LocalQuorum).await? {
        Some(recorded) => recorded,
        None => insert(ddl, keyspace, region, record).await?,
    };
    let table = Table::events(keyspace, recorded.start, recorded.end);
    if recorded.state != SliceState::Open || !ddl.create_table(&table).await? {
        return Ok(());
    }
    // Dropped while the table was on its way: nobody would drop it again.
    let now = read_one(ddl.session(), keyspace, region, record.start, Consistency::LocalQuorum).await?;
    if now.is_some_and(|now| now.state == SliceState::Dropped) {
        ddl.drop_table(&table).await?;
    }
    Ok(())
}

/// Moves a slice's state on; it never goes back. Dropping records the state first, and then drops the table if it is there.
///
/// # Errors
/// [`Error::MissingSlice`] when there is no such record; else when it may not have happened.
pub async fn set_state(ddl: &Ddl, keyspace: &str, region: &str, start: Timestamp, state: SliceState) -> Result<()> {
    let recorded = read_one(ddl.session(), keyspace, region, start, Consistency::LocalQuorum).await?;
    let recorded = recorded.ok_or(Error::MissingSlice { slice_start: start })?;
    if recorded.state < state {
        let text = update_text(keyspace, region, start, state);
        let statement = query::repeatable(text.to_run(), Consistency::LocalQuorum);
        query::run(ddl.session(), &format!("record that a slice of {keyspace} is {state:?}"), statement).await?;
    }
    if state == SliceState::Dropped {
        ddl.drop_table(&Table::events(keyspace, recorded.start, recorded.end)).await?;
    }
    Ok(())
}

/// The statement that records a slice unless its start is recorded.
#[must_use]
pub fn insert_text(keyspace: &str, region: &str, record: &SliceRecord) -> Cql {
    let settings = &record.settings;
    Cql::new(format!(
        "INSERT INTO {keyspace}.{SLICES} (region, slice_start, slice_end, buckets_per_id, seconds_per_bucket, accept_limit_us, \
         write_timeout_us, max_clock_skew_us, format)\nVALUES ({}, {}, {}, {}, {}, {}, {}, {}, {EVENTS_FORMAT}) IF NOT EXISTS",
        cql::string(region),
        seconds(record.start),
        seconds(record.end),
        settings.buckets_per_id,
        settings.bucket_width.as_secs(),
        settings.accept_limit.as_micros(),
        settings.write_timeout.as_micros(),
        settings.max_clock_skew.as_micros(),
    ))
}

/// The statement that moves a slice's state on: of two, that of the later state wins, whichever comes first.
#[must_use]
pub fn update_text(keyspace: &str, region: &str, start: Timestamp, state: SliceState) -> Cql {
    let state = encoded(state);
    Cql::new(format!(
        "UPDATE {keyspace}.{SLICES} USING TIMESTAMP {state} SET state = {state} WHERE region = {} AND slice_start = {}",
        cql::string(region),
        seconds(start)
    ))
}

async fn insert(ddl: &Ddl, keyspace: &str, region: &str, record: &SliceRecord) -> Result<SliceRecord> {
    let doing = format!("record the slice of {keyspace} that starts at {}", record.start);
    if record.settings.bucket_width.subsec_nanos() != 0 {
        let reason = format!("its time buckets are {:?} wide, which is no whole seconds", record.settings.bucket_width);
        return Err(Error::Rejected { doing, reason });
    }
    let text = insert_text(keyspace, region, record);
    let read = || read_one(ddl.session(), keyspace, region, record.start, Consistency::LocalSerial);
    first::insert(ddl, &doing, &text, SerialConsistency::LocalSerial, read).await
}

async fn read_one(
    session: &Session,
    keyspace: &str,
    region: &str,
    start: Timestamp,
    consistency: Consistency,
) -> Result<Option<SliceRecord>> {
    let text = format!(
        "SELECT {COLUMNS} FROM {keyspace}.{SLICES} WHERE region = {} AND slice_start = {}",
        cql::string(region),
        seconds(start)
    );
    let statement = query::repeatable(text, consistency);
    let rows: Vec<Row> = query::rows(session, &format!("read {keyspace}.{SLICES}"), statement).await?;
    rows.into_iter().next().map(|row| row.record(keyspace)).transpose()
}

fn encoded(state: SliceState) -> i32 {
    match state {
        SliceState::Open => 0,
        SliceState::Closed => 1,
        SliceState::Dropped => 2,
    }
}

/// A row of the slices table, but for its region.
#[derive(Debug, Clone, PartialEq, Eq, scylla::DeserializeRow)]
pub(super) struct Row {
    slice_start: i64,
    slice_end: Option<i64>,
    buckets_per_id: Option<i32>,
    seconds_per_bucket: Option<i64>,
    accept_limit_us: Option<i64>,
    write_timeout_us: Option<i64>,
    max_clock_skew_us: Option<i64>,
    format: Option<i32>,
    state: Option<i32>,
}

impl Row {
    /// What it records.
    pub(super) fn record(self, keyspace: &str) -> Result<SliceRecord> {
        let slice_start = self.slice_start;
        self.checked().map_err(|reason| Error::Unreadable {
            what: format!("the record of {keyspace}.{SLICES} with slice_start {slice_start}"),
            reason,
        })
    }

    fn checked(self) -> std::result::Result<SliceRecord, String> {
        let absent = |column: &str| format!("it has no {column}");
        match self.format.ok_or_else(|| absent("format"))? {
            EVENTS_FORMAT => {}
            other => return Err(format!("its format is {other}; known here: {EVENTS_FORMAT}")),
        }
        let micros = |column: &str, value: Option<i64>| {
            let value = value.ok_or_else(|| absent(column))?;
            u64::try_from(value).map(Duration::from_micros).map_err(|_| format!("its {column} is {value}"))
        };
        let at = |column: &str, seconds: Option<i64>| {
            let seconds = seconds.ok_or_else(|| absent(column))?;
            let micros = seconds.checked_mul(MICROS_PER_SECOND).ok_or_else(|| format!("its {column} is {seconds}"))?;
            Ok::<_, String>(Timestamp::from_micros(micros))
        };
        let buckets = self.buckets_per_id.ok_or_else(|| absent("buckets_per_id"))?;
        let width = self.seconds_per_bucket.ok_or_else(|| absent("seconds_per_bucket"))?;
        let settings = SliceSettings {
            buckets_per_id: u16::try_from(buckets)
                .ok()
                .and_then(NonZeroU16::new)
                .ok_or_else(|| format!("its buckets_per_id is {buckets}"))?,
            bucket_width: u64::try_from(width)
                .map(Duration::from_secs)
                .map_err(|_| format!("its seconds_per_bucket is {width}"))?,
            accept_limit: micros("accept_limit_us", self.accept_limit_us)?,
            write_timeout: micros("write_timeout_us", self.write_timeout_us)?,
            max_clock_skew: micros("max_clock_skew_us", self.max_clock_skew_us)?,
        };
        let start = at("slice_start", Some(self.slice_start))?;
        let mut record =
            SliceRecord::new(start, at("slice_end", self.slice_end)?, settings).map_err(|error| error.to_string())?;
        record.state = match self.state {
            None | Some(0) => SliceState::Open,
            Some(1) => SliceState::Closed,
            Some(2) => SliceState::Dropped,
            Some(other) => return Err(format!("its state is {other}; known here: 0 to 2")),
        };
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            slice_start: 86_400,
            slice_end: Some(172_800),
            buckets_per_id: Some(4),
            seconds_per_bucket: Some(600),
            accept_limit_us: Some(5_000_000),
            write_timeout_us: Some(2_000_000),
            max_clock_skew_us: Some(1_000_000),
            format: Some(1),
            state: None,
        }
    }

    #[test]
    fn a_row_is_read_as_its_record_was_written() {
        let record = row().record("plays").unwrap();
        assert_eq!(
            insert_text("plays", "dc'1", &record).to_string(),
            "INSERT INTO plays.slices (region, slice_start, slice_end, buckets_per_id, seconds_per_bucket, accept_limit_us, \
             write_timeout_us, max_clock_skew_us, format)\nVALUES ('dc''1', 86400, 172800, 4, 600, 5000000, 2000000, 1000000, 1) IF NOT EXISTS"
        );
    }

    #[test]
    fn a_state_is_written_at_its_own_timestamp_so_that_it_cannot_go_back() {
        for (state, number) in [(SliceState::Closed, 1), (SliceState::Dropped, 2)] {
            assert_eq!(
                update_text("plays", "dc1", Timestamp::from_micros(86_400_000_000), state).to_string(),
                format!(
                    "UPDATE plays.slices USING TIMESTAMP {number} SET state = {number} WHERE region = 'dc1' AND slice_start = 86400"
                )
            );
            assert_eq!(Row { state: Some(number), ..row() }.record("plays").unwrap().state, state);
        }
        assert_eq!(Row { state: Some(0), ..row() }.record("plays").unwrap().state, SliceState::Open);
    }

    #[test]
    fn a_row_that_is_not_whole_or_of_a_later_version_is_refused_with_what_is_wrong() {
        let cases = [
            (Row { slice_end: None, ..row() }, "it has no slice_end"),
            (Row { format: None, ..row() }, "it has no format"),
            (Row { format: Some(2), ..row() }, "its format is 2; known here: 1"),
            (Row { state: Some(3), ..row() }, "its state is 3"),
            (Row { buckets_per_id: Some(0), ..row() }, "its buckets_per_id is 0"),
            (Row { accept_limit_us: Some(-1), ..row() }, "its accept_limit_us is -1"),
            (Row { slice_end: Some(86_400), ..row() }, "end after it starts"),
            (Row { slice_end: Some(i64::MAX), ..row() }, "its slice_end is"),
        ];
        for (row, expected) in cases {
            let error = row.record("plays").unwrap_err().to_string();
            assert!(error.contains("plays.slices with slice_start 86400") && error.contains(expected), "{error}");
        }
    }
}
