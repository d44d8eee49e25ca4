//! The tables of a dataset: columns, options, ids, and how one that is there compares. Pure.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::time::Duration;

use uuid::Uuid;

use super::cql::{self, Cql};
use crate::model::Timestamp;

/// How the comment of every table that Tallyman created begins.
pub const MARK: &str = "tallyman ";
/// Checkpoints and the bounds of what was written, a row per counter and region.
pub const ROLLUP: &str = "rollup";
/// Slice records, a partition per region.
pub const SLICES: &str = "slices";
/// What the comment of the owner's table ends in where its keyspace was created with it.
const KEYSPACE_CREATED: &str = "; its keyspace was created with it";
/// Whom the dataset belongs to: at most one row.
pub const OWNER: &str = "dataset_owner";
/// Which namespaces were deleted, and up to when nothing of theirs counts.
pub const REMOVED: &str = "removed_namespaces";
/// How events are laid out in the tables that this version creates and reads.
pub const EVENTS_FORMAT: i32 = 1;
const EVENTS_PREFIX: &str = "events_";

/// A dataset, as part of what ids follow from: they are Tallyman's own, and differ from keyspace to keyspace.
const ID_SPACE: &str = "tallyman.dev/table";

/// The name of the events table of the slice that starts at `start`. No name has a minus sign: `m` stands for it.
#[must_use]
pub fn events_name(start: Timestamp) -> String {
    let seconds = seconds(start);
    let sign = if seconds < 0 { "m" } else { "" };
    format!("{EVENTS_PREFIX}{sign}{}", seconds.unsigned_abs())
}

/// The start of the slice whose events table has this name.
#[must_use]
pub fn events_start(table: &str) -> Option<Timestamp> {
    let seconds = table.strip_prefix(EVENTS_PREFIX)?;
    let seconds: i64 = match seconds.strip_prefix('m') {
        Some(before) => -before.parse::<i64>().ok()?,
        None => seconds.parse().ok()?,
    };
    let start = Timestamp::from_micros(seconds.checked_mul(MICROS_PER_SECOND)?);
    (events_name(start) == table).then_some(start)
}

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;

/// Whole seconds since the epoch, as slices start and end.
pub(super) fn seconds(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(MICROS_PER_SECOND)
}

/// The id of a table, whoever creates it, whenever: the same name in the same keyspace is the same table.
#[must_use]
pub fn id(keyspace: &str, table: &str) -> Uuid {
    // Neither name can hold a zero byte, so that no two pairs are one text.
    let hash = xxhash_rust::xxh3::xxh3_128(format!("{ID_SPACE}\0{keyspace}\0{table}").as_bytes());
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}

/// A column's part in the primary key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// In the partition key, at this place.
    Partition(i32),
    /// A clustering column, at this place.
    Clustering(i32, Order),
    /// No part in it.
    Regular,
}

/// How a clustering column is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Order {
    /// Ascending.
    Ascending,
    /// Descending.
    Descending,
}

/// A column, wanted or found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column {
    /// Its part in the primary key.
    pub part: Part,
    /// Its name.
    pub name: String,
    /// Its CQL type.
    pub cql_type: String,
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.cql_type)?;
        match self.part {
            Part::Partition(place) => write!(f, " (partition key {place})"),
            Part::Clustering(place, Order::Ascending) => write!(f, " (clustering {place}, ascending)"),
            Part::Clustering(place, Order::Descending) => write!(f, " (clustering {place}, descending)"),
            Part::Regular => Ok(()),
        }
    }
}

/// Which table options a server knows beyond those that all do. Found out by looking, as versions and forks differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownOptions {
    /// `read_repair`, since Cassandra 4.0.
    pub read_repair: bool,
    /// `allow_auto_snapshot`, since Cassandra 4.1.
    pub allow_auto_snapshot: bool,
}

impl KnownOptions {
    /// Those of Cassandra 5.
    pub const CASSANDRA_5: Self = Self { read_repair: true, allow_auto_snapshot: true };
}

/// A table as it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its keyspace.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    columns: Vec<Column>,
    comment: &'static str,
    compaction: Vec<(&'static str, String)>,
    /// Whether Cassandra may keep a copy of what is dropped. Not of events: their end is the end of their retention.
    snapshot_when_dropped: bool,
}

/// A table as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTable {
    /// Its id.
    pub id: Uuid,
    /// Its comment.
    pub comment: String,
    /// Its columns.
    pub columns: BTreeSet<Column>,
    /// `default_time_to_live`, in seconds; 0 is none.
    pub default_time_to_live: i32,
    /// `read_repair`, where the server has such an option.
    pub read_repair: Option<String>,
}

impl FoundTable {
    /// Whether Tallyman says that it created it.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.comment.starts_with(MARK)
    }

    /// Whether it is the owner's table of a dataset whose keyspace Tallyman created.
    #[must_use]
    pub fn has_created_keyspace(&self) -> bool {
        self.is_marked() && self.comment.ends_with(KEYSPACE_CREATED)
    }
}

impl Table {
    /// The rollup table. Levelled compaction: rows are small, replaced again and again, and read one at a time, so that a read
    /// should meet few old versions; available in every version and fork, unlike Cassandra 5's unified one, whose `L10` is the
    /// same. What is never deleted leaves no tombstones, but for a namespace that is: the grace period stays the usual ten days.
    #[must_use]
    pub fn rollup(keyspace: &str) -> Self {
        let columns = [
            ("namespace", "text", Part::Partition(0)),
            ("counter_name", "text", Part::Partition(1)),
            ("region", "text", Part::Clustering(0, Order::Ascending)),
            ("checkpoint", "blob", Part::Regular),
            ("last_write_ts", "bigint", Part::Regular),
            ("first_write_ts", "bigint", Part::Regular),
        ];
        let compaction = vec![("class", "LeveledCompactionStrategy".to_owned())];
        Self::new(keyspace, ROLLUP, &columns, "tallyman rollup, layout 1: a checkpoint per counter", compaction)
    }

    /// The table of slice records.
    #[must_use]
    pub fn slices(keyspace: &str) -> Self {
        let columns = [
            ("region", "text", Part::Partition(0)),
            ("slice_start", "bigint", Part::Clustering(0, Order::Ascending)),
            ("slice_end", "bigint", Part::Regular),
            ("buckets_per_id", "int", Part::Regular),
            ("seconds_per_bucket", "bigint", Part::Regular),
            ("accept_limit_us", "bigint", Part::Regular),
            ("write_timeout_us", "bigint", Part::Regular),
            ("max_clock_skew_us", "bigint", Part::Regular),
            ("format", "int", Part::Regular),
            ("state", "int", Part::Regular),
        ];
        let comment = "tallyman slices, layout 1: the settings and state of each events table";
        Self::new(keyspace, SLICES, &columns, comment, small())
    }

    /// The table that says whom the dataset belongs to.
    #[must_use]
    pub fn owner(keyspace: &str) -> Self {
        let columns = [("dataset", "text", Part::Partition(0)), ("owner", "text", Part::Regular)];
        Self::new(keyspace, OWNER, &columns, "tallyman owner, layout 1: whom the dataset belongs to", small())
    }

    /// The same in a keyspace that Tallyman created: whoever removes the dataset learns from its comment that the keyspace goes with it.
    #[must_use]
    pub fn owner_with_keyspace(keyspace: &str) -> Self {
        let comment = "tallyman owner, layout 1: whom the dataset belongs to; its keyspace was created with it";
        Self { comment, ..Self::owner(keyspace) }
    }

    /// The table of namespaces that were deleted.
    #[must_use]
    pub fn removed(keyspace: &str) -> Self {
        let columns = [("namespace", "text", Part::Partition(0)), ("floor_us", "bigint", Part::Regular)];
        let comment = "tallyman removed namespaces, layout 1: up to when nothing of them counts";
        Self::new(keyspace, REMOVED, &columns, comment, small())
    }

    /// The events table of the slice from `start` to `end`. No TTL: an event lives until its slice is dropped, which the sweep
    /// decides. Rows are deleted only with their namespace, so that the grace period stays the usual ten days.
    #[must_use]
    pub fn events(keyspace: &str, start: Timestamp, end: Timestamp) -> Self {
        let columns = [
            ("namespace", "text", Part::Partition(0)),
            ("counter_name", "text", Part::Partition(1)),
            ("region", "text", Part::Partition(2)),
            ("time_bucket", "bigint", Part::Partition(3)),
            ("event_bucket", "int", Part::Partition(4)),
            ("event_time", "bigint", Part::Clustering(0, Order::Descending)),
            ("event_id", "text", Part::Clustering(1, Order::Descending)),
            ("event_item_key", "tinyint", Part::Clustering(2, Order::Descending)),
            ("event_item_value", "blob", Part::Regular),
        ];
        let window = Window::of(end.since(start));
        let compaction = vec![
            ("class", "TimeWindowCompactionStrategy".to_owned()),
            ("compaction_window_unit", window.unit.to_owned()),
            ("compaction_window_size", window.size.to_string()),
        ];
        let comment = "tallyman events, layout 1: the events of one slice";
        let table = Self::new(keyspace, &events_name(start), &columns, comment, compaction);
        Self { snapshot_when_dropped: false, ..table }
    }

    fn new(
        keyspace: &str,
        name: &str,
        columns: &[(&str, &str, Part)],
        comment: &'static str,
        compaction: Vec<(&'static str, String)>,
    ) -> Self {
        let columns = columns.iter().map(|&(name, cql_type, part)| Column {
            part,
            name: name.to_owned(),
            cql_type: cql_type.to_owned(),
        });
        Self {
            keyspace: keyspace.to_owned(),
            name: name.to_owned(),
            columns: columns.collect(),
            comment,
            compaction,
            snapshot_when_dropped: true,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        id(&self.keyspace, &self.name)
    }

    /// Its columns, as they are listed in its statement.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The statement that creates it, unless it is there.
    #[must_use]
    pub fn create(&self, known: KnownOptions) -> Cql {
        let mut text = format!("CREATE TABLE IF NOT EXISTS {}.{} (\n", self.keyspace, self.name);
        for column in &self.columns {
            // Writing into a String does not fail.
            let _ = writeln!(text, "    {} {},", column.name, column.cql_type);
        }
        let named = |wanted: fn(&Part) -> bool| {
            let columns = self.columns.iter().filter(move |column| wanted(&column.part));
            columns.map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let partition = named(|part| matches!(part, Part::Partition(_)));
        let clustering = named(|part| matches!(part, Part::Clustering(..)));
        let clustering = if clustering.is_empty() { clustering } else { format!(", {clustering}") };
        let _ = write!(text, "    PRIMARY KEY (({partition}){clustering})\n) WITH id = {}", self.id());
        let descending: Vec<_> = self
            .columns
            .iter()
            .filter(|column| matches!(column.part, Part::Clustering(_, Order::Descending)))
            .map(|column| format!("{} DESC", column.name))
            .collect();
        let mut options = Vec::new();
        // All clustering columns of a table are ordered the same way.
        if !descending.is_empty() {
            options.push(format!("CLUSTERING ORDER BY ({})", descending.join(", ")));
        }
        options.push(format!("comment = {}", cql::string(self.comment)));
        let compaction = self.compaction.iter().map(|(key, value)| (*key, value.as_str()));
        options.push(format!("compaction = {}", cql::map(compaction)));
        options.push(format!("compression = {}", cql::map([("class", "LZ4Compressor")])));
        // A read at a quorum never sees less than an earlier one did.
        if known.read_repair {
            options.push("read_repair = 'BLOCKING'".to_owned());
        }
        if known.allow_auto_snapshot && !self.snapshot_when_dropped {
            options.push("allow_auto_snapshot = false".to_owned());
        }
        for option in options {
            let _ = write!(text, "\n    AND {option}");
        }
        Cql::new(text)
    }

    /// The statement that drops it, if it is there.
    #[must_use]
    pub fn drop(&self) -> Cql {
        Cql::new(format!("DROP TABLE IF EXISTS {}.{}", self.keyspace, self.name))
    }

    /// What makes the table that is there another than this one; `None` when it is this one.
    #[must_use]
    pub fn differs(&self, found: &FoundTable) -> Option<String> {
        let mut differences = Vec::new();
        if !found.is_marked() {
            differences.push(format!(
                "its comment is {:?} and does not begin with {:?}",
                found.comment,
                MARK.trim_end()
            ));
        }
        if found.id != self.id() {
            differences.push(format!("its id is {}, not {}", found.id, self.id()));
        }
        let wanted: BTreeSet<Column> = self.columns.iter().cloned().collect();
        let listed = |columns: Vec<&Column>| columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let lacking: Vec<_> = wanted.difference(&found.columns).collect();
        if !lacking.is_empty() {
            differences.push(format!("it lacks {}", listed(lacking)));
        }
        let more: Vec<_> = found.columns.difference(&wanted).collect();
        if !more.is_empty() {
            differences.push(format!("it has {}", listed(more)));
        }
        (!differences.is_empty()).then(|| differences.join("; "))
    }

    /// Options of a table of ours that a person changed and that cost data or promises.
    #[must_use]
    pub fn dangers(&self, found: &FoundTable) -> Vec<String> {
        let name = format!("{}.{}", self.keyspace, self.name);
        let mut dangers = Vec::new();
        if found.default_time_to_live != 0 {
            dangers.push(format!(
                "{name} has default_time_to_live = {}, which deletes what is counted: run ALTER TABLE {name} WITH default_time_to_live = 0",
                found.default_time_to_live
            ));
        }
        if let Some(read_repair) = found.read_repair.as_deref().filter(|set| *set != "BLOCKING") {
            dangers.push(format!(
                "{name} has read_repair = '{read_repair}', so that counts may go back: run ALTER TABLE {name} WITH read_repair = 'BLOCKING'"
            ));
        }
        dangers
    }
}

/// For tables of a few rows.
fn small() -> Vec<(&'static str, String)> {
    vec![("class", "SizeTieredCompactionStrategy".to_owned())]
}

/// A window of time-window compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    size: u64,
    unit: &'static str,
}

/// Windows that a slice is cut into: old ones are left alone while the newest is compacted.
const WINDOWS_PER_SLICE: u32 = 24;
const MINUTE_S: u64 = 60;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 86_400;
/// No slice is configured wider than this. A longer one spans a time in which nobody created slices, the first one that
/// since the epoch, and takes events in its last part only.
const SLICE_WIDTH_MAX: Duration = Duration::from_secs(365 * DAY_S);

impl Window {
    /// The window for a slice of this width: about a 24th of it, in the largest unit that it is at least one of, rounded up.
    fn of(width: Duration) -> Self {
        if width > SLICE_WIDTH_MAX {
            return Self { size: 1, unit: "DAYS" };
        }
        let seconds = (width / WINDOWS_PER_SLICE).as_secs();
        let (unit_s, unit) = match seconds {
            DAY_S.. => (DAY_S, "DAYS"),
            HOUR_S.. => (HOUR_S, "HOURS"),
            _ => (MINUTE_S, "MINUTES"),
        };
        Self { size: seconds.div_ceil(unit_s).max(1), unit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * MICROS_PER_SECOND)
    }

    fn found(table: &Table) -> FoundTable {
        FoundTable {
            id: table.id(),
            comment: table.comment.to_owned(),
            columns: table.columns.iter().cloned().collect(),
            default_time_to_live: 0,
            read_repair: Some("BLOCKING".to_owned()),
        }
    }

    #[test]
    fn an_id_is_that_of_its_keyspace_and_name_for_ever() {
        // A changed id would make every existing table a foreign one.
        assert_eq!(id("plays", ROLLUP).to_string(), "c8c95429-9841-81bf-a5a9-8ca825279ccc");
        assert_eq!(id("plays", ROLLUP).get_version_num(), 8);
        assert_ne!(id("plays", ROLLUP), id("play", "s_rollup"));
        assert_ne!(id("plays", "events_0"), id("plays", "events_1"));
        assert_ne!(id("plays", ROLLUP), id("likes", ROLLUP));
    }

    #[test]
    fn the_name_of_an_events_table_tells_its_start() {
        for seconds in [0, 1, 86_400, 1_700_000_000] {
            assert_eq!(events_start(&events_name(at(seconds))), Some(at(seconds)));
        }
        for other in ["events_", "events_x", "events_01", "events_+1", "rollup", "events_9223372036854775807"] {
            assert_eq!(events_start(other), None, "{other}");
        }
    }

    #[test]
    fn windows_are_about_a_24th_of_the_slice_in_whole_units() {
        let cases = [
            (1, (1, "MINUTES")),
            (3600, (3, "MINUTES")),
            (86_400, (1, "HOURS")),
            (7 * 86_400, (7, "HOURS")),
            (30 * 86_400, (2, "DAYS")),
            (365 * 86_400, (16, "DAYS")),
            (20_000 * 86_400, (1, "DAYS")),
        ];
        for (width, (size, unit)) in cases {
            assert_eq!(Window::of(Duration::from_secs(width)), Window { size, unit }, "{width} s");
        }
    }

    #[test]
    fn a_table_that_is_there_as_it_is_wanted_does_not_differ() {
        for table in [
            Table::rollup("plays"),
            Table::slices("plays"),
            Table::owner("plays"),
            Table::owner_with_keyspace("plays"),
            Table::removed("plays"),
            Table::events("plays", at(0), at(86_400)),
        ] {
            assert_eq!(table.differs(&found(&table)), None);
            assert_eq!(table.dangers(&found(&table)), Vec::<String>::new());
        }
    }

    #[test]
    fn what_differs_is_named_both_ways() {
        let table = Table::owner("plays");
        let mut other = found(&table);
        other.comment = "mine".to_owned();
        other.id = Uuid::nil();
        other.columns.pop_last();
        other.columns.insert(Column { part: Part::Regular, name: "owner".to_owned(), cql_type: "blob".to_owned() });
        assert_eq!(
            table.differs(&other).unwrap(),
            format!(
                "its comment is \"mine\" and does not begin with \"tallyman\"; \
                 its id is 00000000-0000-0000-0000-000000000000, not {}; it lacks owner text; it has owner blob",
                table.id()
            )
        );
    }

    #[test]
    fn a_changed_order_or_place_in_the_key_is_another_table() {
        let table = Table::slices("plays");
        let mut other = found(&table);
        let start = other.columns.iter().find(|column| column.name == "slice_start").unwrap().clone();
        other.columns.remove(&start);
        other.columns.insert(Column { part: Part::Clustering(0, Order::Descending), ..start });
        let differs = table.differs(&other).unwrap();
        assert!(differs.contains("lacks slice_start bigint (clustering 0, ascending)"), "{differs}");
    }

    #[test]
    fn a_ttl_and_reads_that_do_not_repair_are_dangers() {
        let table = Table::rollup("plays");
        let changed = FoundTable { default_time_to_live: 60, read_repair: Some("NONE".to_owned()), ..found(&table) };
        assert_eq!(table.dangers(&changed).len(), 2);
    }
}
