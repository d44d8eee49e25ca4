//! The embedded store when its disk takes no more. Alone in its process, whose file size limit it sets.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::fs;
use std::num::NonZeroU16;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tallyman_counter::backend::embedded::{Database, Dataset};
use tallyman_counter::model::{
    CounterKey, CounterName, Event, EventItem, NamespaceName, Partition, SliceRecord, SliceSettings, Timestamp, Token,
};
use tallyman_counter::store::{Append, Error, EventStore, Scan};

const SIGXFSZ: i32 = 25;

/// Lets files of this process grow to `limit`, and no further: writes beyond it fail as on a full disk.
fn limit_file_size(limit: &str) {
    let pid = std::process::id().to_string();
    let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:")]).status().unwrap();
    assert!(status.success());
}

fn journal_bytes(dir: &Path) -> u64 {
    let files = fs::read_dir(dir.join("store")).unwrap().map(|entry| entry.unwrap());
    let journals = files.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "jnl"));
    journals.map(|entry| entry.metadata().unwrap().len()).max().unwrap()
}

fn append(nth: i64, slice: &SliceRecord) -> Append {
    let counter = CounterKey { namespace: NamespaceName::new("n").unwrap(), name: CounterName::new("c").unwrap() };
    let event_id = Token::new(&format!("token-{nth}")).unwrap();
    let event = Event { event_time: Timestamp::from_micros(nth), event_id, item: EventItem::Add(nth) };
    Append { partition: Partition::of(&counter, &event, slice), event }
}

async fn open(dir: &Path, slice: &SliceRecord) -> (Database, Dataset) {
    let database = Database::open(dir).unwrap();
    let dataset = database.dataset("d", "r").await.unwrap();
    dataset.create_slice(slice.clone()).await.unwrap();
    (database, dataset)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_write_that_could_not_be_synced_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    // Caught, the signal leaves the write to fail with an error.
    let _caught = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(SIGXFSZ)).unwrap();
    let settings = SliceSettings {
        buckets_per_id: NonZeroU16::MIN,
        bucket_width: Duration::from_secs(3600),
        accept_limit: Duration::from_secs(5),
        write_timeout: Duration::from_secs(2),
        max_clock_skew: Duration::from_secs(1),
    };
    let slice = SliceRecord::new(Timestamp::EPOCH, Timestamp::EPOCH.plus(Duration::from_secs(3600)), settings).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (database, dataset) = open(dir.path(), &slice).await;
    assert!(matches!(dataset.append(vec![append(0, &slice)]).await.as_slice(), [Ok(())]));
    database.close();
    // Recovery cuts the journal to what is written.
    let (database, dataset) = open(dir.path(), &slice).await;
    assert!(matches!(dataset.append(vec![append(1, &slice)]).await.as_slice(), [Ok(())]));
    assert_eq!(database.health(), Ok(()));
    limit_file_size(&(journal_bytes(dir.path()) + 20_000).to_string());
    let mut acknowledged = 2;
    let first_refusal = loop {
        match dataset.append(vec![append(acknowledged, &slice)]).await.remove(0) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "the limit has no effect");
    };
    assert!(first_refusal.is_outcome_unknown(), "{first_refusal}");
    for nth in 0..10 {
        let later = dataset.append(vec![append(20_000 + nth, &slice)]).await.remove(0);
        assert!(matches!(later, Err(Error::Unavailable { .. })), "{later:?}");
    }
    assert!(database.health().unwrap_err().contains("could not be synced"));
    database.close();
    drop(dataset);
    limit_file_size("unlimited");
    let (_database, dataset) = open(dir.path(), &slice).await;
    let scan = Scan {
        partition: append(0, &slice).partition,
        after: Timestamp::MIN,
        through: Timestamp::MAX,
        resume: None,
        limit: 100_000,
    };
    let found = dataset.scan(scan).await.unwrap().events.len() as i64;
    // The one whose outcome was unknown may be there or not; what was refused is not.
    assert!(found == acknowledged || found == acknowledged + 1, "{found} found, {acknowledged} acknowledged");
    assert!(matches!(dataset.append(vec![append(30_000, &slice)]).await.as_slice(), [Ok(())]));
}
