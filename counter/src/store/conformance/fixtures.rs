//! What the suites write and read: names, slices, events, and scans of whole partitions.

use std::num::NonZeroU16;
use std::time::Duration;

use crate::model::{
    Checkpoint, CounterKey, CounterName, Event, EventItem, NamespaceName, Partition, SliceRecord, SliceSettings,
    Timestamp, Token,
};
use crate::store::{Append, Error, EventStore, Scan};

/// Where the suites' slices begin: far from the epoch, at a whole second.
pub const SLICE_START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
/// How long the suites' slices are.
pub const SLICE_WIDTH: Duration = Duration::from_secs(3600);

pub fn settings() -> SliceSettings {
    SliceSettings {
        buckets_per_id: NonZeroU16::new(3).expect("3 is not 0"),
        bucket_width: Duration::from_secs(60),
        accept_limit: Duration::from_secs(5),
        write_timeout: Duration::from_secs(2),
        max_clock_skew: Duration::from_secs(1),
    }
}

/// The suites' `index`-th slice.
pub fn slice(index: u32) -> SliceRecord {
    let start = SLICE_START.plus(SLICE_WIDTH * index);
    SliceRecord::new(start, start.plus(SLICE_WIDTH), settings()).expect("whole seconds, in order")
}

/// `micros` after the start of the first slice.
pub fn at(micros: u64) -> Timestamp {
    SLICE_START.plus(Duration::from_micros(micros))
}

/// A counter in a namespace that no other test uses, also on a shared server.
pub fn counter(name: &str) -> CounterKey {
    in_namespace(&own_namespace(), name)
}

/// A namespace that no other test uses, also on a shared server.
pub fn own_namespace() -> String {
    format!("t-{}", uuid::Uuid::now_v7().simple())
}

pub fn in_namespace(namespace: &str, name: &str) -> CounterKey {
    CounterKey {
        namespace: NamespaceName::new(namespace).expect("a valid namespace name"),
        name: CounterName::new(name).expect("a valid counter name"),
    }
}

/// Counters whose names a careless key encoding would mix up.
pub fn odd_counters() -> Vec<CounterKey> {
    let own = own_namespace();
    let own = own.get(..own.len() - 3).unwrap_or(&own);
    let longest = "ü".repeat(256);
    let mut names: Vec<&str> = vec![
        "a",
        "ab",
        "abc",
        "b",
        "a/b",
        "a:b",
        "a b",
        " ",
        "a ",
        "a\u{a0}",
        "a%2Fb",
        "/",
        "//",
        ":",
        "::",
        "a:",
        ":a",
        "\u{1f600}",
        "\u{10ffff}",
        "%",
        "*",
        "'",
        "\"",
        "a\\",
        &longest,
        "A",
    ];
    let nearly_longest = format!("{}x", &longest[..510]);
    names.push(&nearly_longest);
    let mut counters: Vec<CounterKey> = names.iter().map(|name| in_namespace(own, name)).collect();
    // Namespaces that are prefixes of one another, with names that fill the difference.
    counters.push(in_namespace(&format!("{own}a"), "b"));
    counters.push(in_namespace(&format!("{own}ab"), "c"));
    counters.push(in_namespace(&format!("{own}-a"), "b"));
    counters
}

pub fn token(text: &str) -> Token {
    Token::new(text).expect("a valid token")
}

pub fn event(event_time: Timestamp, id: &str, item: EventItem) -> Event {
    Event { event_time, event_id: token(id), item }
}

pub fn add(event_time: Timestamp, id: &str, delta: i64) -> Event {
    event(event_time, id, EventItem::Add(delta))
}

pub fn checkpoint(micros: u64, last_rollup_count: i128) -> Checkpoint {
    Checkpoint { last_rollup_ts: at(micros), last_rollup_count }
}

/// The append of `event` where it belongs in `slice`.
pub fn append_in(counter: &CounterKey, slice: &SliceRecord, event: &Event) -> Append {
    Append { partition: Partition::of(counter, event, slice), event: event.clone() }
}

/// The append of `event` where it belongs in the first slice.
pub fn append(counter: &CounterKey, event: &Event) -> Append {
    append_in(counter, &slice(0), event)
}

/// Appends all at once and expects every one to be taken.
pub async fn append_all(store: &dyn EventStore, appends: Vec<Append>) {
    let count = appends.len();
    let results = store.append(appends).await;
    assert_eq!(results.len(), count, "one result for each append");
    for result in results {
        result.expect("the append is taken");
    }
}

/// A scan of a whole partition in pages of `limit`.
pub fn whole(partition: &Partition, limit: usize) -> Scan {
    Scan { partition: partition.clone(), after: Timestamp::MIN, through: Timestamp::MAX, resume: None, limit }
}

/// Every event of a scan, page after page, checking each page's size and order.
pub async fn scan_pages(store: &dyn EventStore, mut scan: Scan) -> Result<Vec<Event>, Error> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let page = store.scan(scan.clone()).await?;
        assert!(page.events.len() <= scan.limit, "a page of {} for a limit of {}", page.events.len(), scan.limit);
        events.extend(page.events);
        assert!(events.is_sorted_by(|newer, older| newer.key() > older.key()), "newest first, none twice: {events:?}");
        match page.next {
            None => return Ok(events),
            Some(next) => {
                assert!(scan.resume.as_ref().is_none_or(|resume| next < *resume), "pages go on");
                scan.resume = Some(next);
            }
        }
    }
}

/// Every event of the partition that `event` lies in.
pub async fn events_beside(store: &dyn EventStore, counter: &CounterKey, event: &Event) -> Vec<Event> {
    let partition = Partition::of(counter, event, &slice(0));
    scan_pages(store, whole(&partition, 1000)).await.expect("the partition is readable")
}
