//! Floors: up to when nothing of a namespace counts, because it was deleted. A row per name that was ever deleted.
//!
//! Deleting rows is not enough. A sidecar or a rollup server that has not heard of it yet writes on; a node that was down brings
//! rows back by its hints; the mark of a counter's first write is written with a *falling* timestamp, so that the deletion hides that
//! of a namespace created again under the name; and caches remember. So a deletion first records a floor `F`, and whoever reads
//! rows applies it (`Floors`): a checkpoint or a last write at or before `F` is none, and counting begins after `F`, whether or not the
//! first mark is there. Rows that are at or before `F` are garbage from then on, which [`super::removal`] sweeps up at leisure.
//!
//! Why no old count can come back:
//! - *Readers know in time.* No row is read with floors that were read longer than [`KNOWN_FOR_MAX`] before; and `F` lies at least
//!   [`KNOWN_FOR_MAX`] and what clocks and events may be ahead after the moment at which it is durable ([`floor_for`]). Who reads a row
//!   without knowing `F` took its time (always before the row) at or before `F`, so whatever checkpoint it makes of old rows, at
//!   once or after hours of standing still, is one at or before `F`: nobody who knows `F` sees it, in the store or in a cache.
//! - *Who knows `F` starts after it.* Its first checkpoint is made of events after `F` alone, and goes on from there.
//! - *No new event is lost.* The name is provisioned again only when no event at or before `F` can be acknowledged any more
//!   ([`until`]). An event after `F` has a `last_write_ts` after `F` in its row: what a sidecar remembers as written up to before `F`
//!   does not cover it, so it writes it anew; and the deletion's timestamp is `F`, which hides no cell that is later.
//! - *Floors only rise*, as cells are written at their own timestamp, and a row is never deleted. It is needed for as long as
//!   something old may turn up.
//!
//! The price: within the grace period of the deletion's tombstones, a counter of the new namespace has no first mark, so its first
//! rollup reads the time buckets since the floor, or since the last slice that is closed.

use std::collections::BTreeMap;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use scylla::client::session::Session;
use scylla::statement::Consistency;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::cql::{self, Cql};
use super::tables::{REMOVED, Table};
use super::{Error, Result, query, read};
use crate::model::{NamespaceName, SliceSettings, Timestamp};
use crate::store::RollupRow;

/// How long floors that were read may be gone by.
pub const KNOWN_FOR_MAX: Duration = Duration::from_secs(30);
/// What recording a floor may take, and what rounds `last_write_ts` up.
const SLACK: Duration = Duration::from_secs(10);
/// Floors are whole seconds, as what is shown to people is.
const STEP: Duration = Duration::from_secs(1);

/// How far ahead of the moment at which it is durable a floor has to lie, where slices have these settings.
#[must_use]
pub fn lead<'a>(settings: impl IntoIterator<Item = &'a SliceSettings>) -> Duration {
    let ahead = settings.into_iter().map(|settings| settings.accept_limit + settings.max_clock_skew * 2).max();
    KNOWN_FOR_MAX + ahead.unwrap_or_default()
}

/// The floor for a deletion that begins at `now`, where slices have these settings.
#[must_use]
pub fn floor_for<'a>(now: Timestamp, settings: impl IntoIterator<Item = &'a SliceSettings>) -> Timestamp {
    now.plus(lead(settings) + SLACK).rounded_up(STEP)
}

/// When a name with this floor can be used again: from then on no event at or before the floor can be acknowledged.
#[must_use]
pub fn until<'a>(floor: Timestamp, settings: impl IntoIterator<Item = &'a SliceSettings>) -> Timestamp {
    let lag = settings.into_iter().map(SliceSettings::lag).max();
    Timestamp::from_micros(floor.plus(lag.unwrap_or_default()).as_micros().saturating_add(1))
}

/// The row as it counts above a floor. Pure.
#[must_use]
pub fn above(floor: Timestamp, row: RollupRow) -> Option<RollupRow> {
    let checkpoint = row.checkpoint.filter(|checkpoint| checkpoint.last_rollup_ts > floor);
    let last_write_ts = row.last_write_ts.filter(|last| *last > floor);
    let after = Timestamp::from_micros(floor.as_micros().saturating_add(1));
    let is_written = checkpoint.is_some() || last_write_ts.is_some();
    let first_write_ts = is_written.then(|| row.first_write_ts.map_or(after, |first| first.max(after)));
    is_written.then_some(RollupRow { checkpoint, last_write_ts, first_write_ts })
}

/// The statement that raises a floor: of two, the later stays.
#[must_use]
pub fn raise_text(keyspace: &str, namespace: &NamespaceName, floor: Timestamp) -> Cql {
    let floor = floor.as_micros();
    let namespace = cql::string(namespace.as_str());
    Cql::new(format!(
        "UPDATE {keyspace}.{REMOVED} USING TIMESTAMP {floor} SET floor_us = {floor} WHERE namespace = {namespace}"
    ))
}

/// All floors of a dataset, by namespace; `None` where there is no table of them, as where a version provisioned that made it with the
/// first deletion, or as far as a node knows that has not heard of it.
///
/// # Errors
/// When they cannot be read whole.
pub async fn read(session: &Session, keyspace: &str) -> Result<Option<BTreeMap<String, Timestamp>>> {
    match read::table(session, keyspace, REMOVED).await? {
        None => Ok(None),
        Some(found) => match Table::removed(keyspace).differs(&found) {
            None => read_table(session, keyspace).await.map(Some),
            Some(reason) => Err(Error::Unreadable { what: format!("{keyspace}.{REMOVED}"), reason }),
        },
    }
}

async fn read_table(session: &Session, keyspace: &str) -> Result<BTreeMap<String, Timestamp>> {
    let text = format!("SELECT namespace, floor_us FROM {keyspace}.{REMOVED}");
    let doing = format!("read {keyspace}.{REMOVED}");
    let statement = query::repeatable(text, Consistency::LocalQuorum);
    let rows: Vec<(String, Option<i64>)> = query::all_rows(session, &doing, statement).await?;
    let floor = |(namespace, floor): (String, Option<i64>)| Some((namespace, Timestamp::from_micros(floor?)));
    Ok(rows.into_iter().filter_map(floor).collect())
}

/// The floors of a dataset as a process last read them.
#[derive(Default)]
pub(in crate::backend::cassandra) struct Floors {
    known: ArcSwapOption<Known>,
    reading: Mutex<()>,
}

struct Known {
    floors: BTreeMap<String, Timestamp>,
    /// When the reading began.
    since: Instant,
}

impl Known {
    fn is_current(&self) -> bool {
        self.since.elapsed() < KNOWN_FOR_MAX
    }
}

impl Floors {
    /// Reads them.
    ///
    /// # Errors
    /// When they cannot be read; those known stay, for as long as they are good for.
    pub async fn refresh(&self, session: &Session, keyspace: &str) -> Result<()> {
        let _one = self.reading.lock().await;
        self.read(session, keyspace).await
    }

    async fn read(&self, session: &Session, keyspace: &str) -> Result<()> {
        let since = Instant::now();
        let floors = read(session, keyspace).await?;
        self.learn(floors, since)
            .map_err(|reason| Error::UnknownYet { doing: format!("read {keyspace}.{REMOVED}"), reason })
    }

    /// Takes what was read; refuses, with the reason, to unlearn: floors only rise.
    fn learn(&self, floors: Option<BTreeMap<String, Timestamp>>, since: Instant) -> std::result::Result<(), String> {
        let known_before = || self.known.load().as_ref().is_some_and(|known| !known.floors.is_empty());
        let floors = match floors {
            Some(floors) => floors,
            None if known_before() => return Err("there is no such table, though it was read before".to_owned()),
            None => BTreeMap::new(),
        };
        self.known.store(Some(std::sync::Arc::new(Known { floors, since })));
        Ok(())
    }

    /// Makes sure that what is known is good: to be called before a row is read.
    ///
    /// # Errors
    /// When it is too old and cannot be read again.
    pub async fn be_current(&self, session: &Session, keyspace: &str) -> Result<()> {
        let is_current = || self.known.load().as_ref().is_some_and(|known| known.is_current());
        if is_current() {
            return Ok(());
        }
        let _one = self.reading.lock().await;
        // Another one may have read them while this one waited.
        if is_current() { Ok(()) } else { self.read(session, keyspace).await }
    }

    /// The row as it counts.
    pub fn above(&self, namespace: &str, row: RollupRow) -> Option<RollupRow> {
        let known = self.known.load();
        match known.as_ref().and_then(|known| known.floors.get(namespace)) {
            Some(floor) => above(*floor, row),
            None => Some(row),
        }
    }

    /// Up to when nothing of the namespace counts; `None` while it is not known.
    pub fn removed_until(&self, namespace: &NamespaceName) -> Option<Timestamp> {
        let known = self.known.load();
        let known = known.as_ref().filter(|known| known.is_current())?;
        Some(known.floors.get(namespace.as_str()).copied().unwrap_or(Timestamp::MIN))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::model::Checkpoint;

    fn settings(accept_s: u64) -> SliceSettings {
        SliceSettings {
            buckets_per_id: NonZeroU16::MIN,
            bucket_width: Duration::from_secs(600),
            accept_limit: Duration::from_secs(accept_s),
            write_timeout: Duration::from_secs(2),
            max_clock_skew: Duration::from_secs(1),
        }
    }

    fn times() -> impl Strategy<Value = Timestamp> {
        (-5_i64..5).prop_map(Timestamp::from_micros)
    }

    prop_compose! {
        fn rows()(
            checkpoint in option::of((times(), -3_i128..3)),
            last_write_ts in option::of(times()),
            first_write_ts in option::of(times()),
        ) -> RollupRow {
            let checkpoint = checkpoint
                .map(|(last_rollup_ts, last_rollup_count)| Checkpoint { last_rollup_ts, last_rollup_count });
            RollupRow { checkpoint, last_write_ts, first_write_ts }
        }
    }

    proptest! {
        #[test]
        fn above_a_floor_nothing_is_seen_of_what_was_before(row in rows(), floor in times()) {
            let Some(seen) = above(floor, row) else {
                prop_assert!(row.checkpoint.is_none_or(|checkpoint| checkpoint.last_rollup_ts <= floor));
                prop_assert!(row.last_write_ts.is_none_or(|last| last <= floor));
                return Ok(());
            };
            prop_assert!(seen.checkpoint.is_none_or(|checkpoint| checkpoint.last_rollup_ts > floor));
            prop_assert!(seen.last_write_ts.is_none_or(|last| last > floor));
            prop_assert!(seen.first_write_ts.is_some_and(|first| first > floor), "a count begins after it");
            // What is after the floor is seen as it is.
            if row.last_write_ts.is_some_and(|last| last > floor) {
                prop_assert_eq!(seen.last_write_ts, row.last_write_ts);
            }
            if row.checkpoint.is_some_and(|checkpoint| checkpoint.last_rollup_ts > floor) {
                prop_assert_eq!(seen.checkpoint, row.checkpoint);
            }
            prop_assert!(row.first_write_ts.is_none_or(|first| seen.first_write_ts >= Some(first)));
            prop_assert_eq!(above(floor, seen), Some(seen));
        }
    }

    #[tokio::test]
    async fn a_node_that_has_not_heard_of_floors_makes_nobody_forget_them() {
        let (name, floor) = (NamespaceName::new("plays").unwrap(), Timestamp::from_micros(7));
        let floors = Floors::default();
        floors.learn(None, Instant::now()).unwrap();
        assert_eq!(floors.removed_until(&name), Some(Timestamp::MIN), "no namespace was ever deleted");
        floors.learn(Some(BTreeMap::from([("plays".to_owned(), floor)])), Instant::now()).unwrap();
        floors.learn(None, Instant::now()).unwrap_err();
        assert_eq!(floors.removed_until(&name), Some(floor));
    }

    #[test]
    fn a_floor_is_ahead_of_whoever_does_not_know_it_and_a_name_is_free_when_the_boundary_is_past_it() {
        let now = Timestamp::from_micros(1_700_000_000_250_000);
        let all = [settings(5), settings(60)];
        // 30 s known, 10 s slack, 60 s ahead, twice 1 s of skew, up to the whole second.
        let floor = floor_for(now, &all);
        assert_eq!(floor, Timestamp::from_micros(1_700_000_103_000_000));
        let until = until(floor, &all);
        assert_eq!(until.minus(settings(60).lag()).previous(), floor, "the boundary has just passed it");
        assert!(floor_for(now, []) > now.plus(KNOWN_FOR_MAX));
    }

    #[test]
    fn a_floor_is_written_at_its_own_time_so_that_it_never_falls() {
        let (name, floor) = (NamespaceName::new("plays").unwrap(), Timestamp::from_micros(7));
        assert_eq!(
            raise_text("media", &name, floor).to_string(),
            "UPDATE media.removed_namespaces USING TIMESTAMP 7 SET floor_us = 7 WHERE namespace = 'plays'"
        );
    }
}
