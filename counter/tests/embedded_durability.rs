//! The embedded store on damaged, foreign and contested directories: it opens with everything acknowledged, or says why not.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tallyman_counter::backend::embedded::{Database, Dataset, OpenError};
use tallyman_counter::model::{
    CounterKey, CounterName, Event, EventItem, NamespaceName, Partition, SliceRecord, SliceSettings, Timestamp, Token,
};
use tallyman_counter::store::{Append, Error, EventStore, RollupStore, Scan, Share, Touch};

fn slice() -> SliceRecord {
    let settings = SliceSettings {
        buckets_per_id: NonZeroU16::MIN,
        bucket_width: Duration::from_secs(3600),
        accept_limit: Duration::from_secs(5),
        write_timeout: Duration::from_secs(2),
        max_clock_skew: Duration::from_secs(1),
    };
    SliceRecord::new(Timestamp::EPOCH, Timestamp::EPOCH.plus(Duration::from_secs(3600)), settings).unwrap()
}

fn counter() -> CounterKey {
    CounterKey { namespace: NamespaceName::new("n").unwrap(), name: CounterName::new("c").unwrap() }
}

fn append(nth: i64) -> Append {
    let event = Event {
        event_time: Timestamp::from_micros(nth),
        event_id: Token::new(&format!("token-{nth}")).unwrap(),
        item: EventItem::Add(nth),
    };
    Append { partition: Partition::of(&counter(), &event, &slice()), event }
}

async fn dataset(database: &Database) -> Dataset {
    let dataset = database.dataset("d", "r").await.unwrap();
    dataset.create_slice(slice()).await.unwrap();
    dataset
}

/// Appends one event a commit.
async fn append_each(dataset: &Dataset, range: std::ops::Range<i64>) {
    for nth in range {
        assert!(matches!(dataset.append(vec![append(nth)]).await.as_slice(), [Ok(())]));
    }
}

/// The deltas of all events, oldest first.
async fn deltas(dataset: &Dataset) -> Vec<i64> {
    let partition = append(0).partition;
    let scan = Scan { partition, after: Timestamp::MIN, through: Timestamp::MAX, resume: None, limit: 100_000 };
    let page = dataset.scan(scan).await.unwrap();
    let delta = |event: &Event| match event.item {
        EventItem::Add(delta) => delta,
        EventItem::Clear => unreachable!("nothing is cleared"),
    };
    page.events.iter().rev().map(delta).collect()
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The journal that is written to.
fn journal(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("store")).unwrap().map(|entry| entry.unwrap().path());
    let journals = files.filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    journals.max_by_key(|path| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap()).unwrap()
}

/// How much of a journal is written; the rest of it is zeros laid out ahead.
fn written(journal: &[u8]) -> usize {
    journal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_torn_by_a_crash_opens_with_everything_acknowledged_before() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let open = dataset(&database).await;
    append_each(&open, 0..50).await;
    // What a crash would leave, with the number that was recorded before the last commit.
    let image = tempfile::tempdir().unwrap();
    copy_all(dir.path(), image.path());
    let before = written(&fs::read(journal(dir.path())).unwrap());
    append_each(&open, 50..51).await;
    let whole = fs::read(journal(dir.path())).unwrap();
    let after = written(&whole);
    assert!(before < after);
    for (step, zeros_follow) in (0..8).flat_map(|step| [(step, true), (step, false)]) {
        let torn_at = before + (after - before) * step / 8;
        let torn = tempfile::tempdir().unwrap();
        copy_all(image.path(), torn.path());
        let mut bytes = whole[..torn_at].to_vec();
        if zeros_follow {
            bytes.resize(whole.len(), 0);
        }
        fs::write(journal(torn.path()), bytes).unwrap();
        let database = Database::open(torn.path()).unwrap();
        let opened = dataset(&database).await;
        assert_eq!(deltas(&opened).await, (0..50).collect::<Vec<_>>(), "torn at byte {torn_at}");
        append_each(&opened, 50..60).await;
        drop(opened);
        database.close();
        let database = Database::open(torn.path()).unwrap();
        assert_eq!(deltas(&dataset(&database).await).await, (0..60).collect::<Vec<_>>(), "torn at byte {torn_at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_commits_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let open = dataset(&database).await;
    for round in 0..5 {
        append_each(&open, round * 10..(round + 1) * 10).await;
        let image = tempfile::tempdir().unwrap();
        copy_all(dir.path(), image.path());
        let crashed = Database::open(image.path()).unwrap();
        assert_eq!(deltas(&dataset(&crashed).await).await, (0..(round + 1) * 10).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_cut_short_after_a_clean_close_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    append_each(&dataset(&database).await, 0..50).await;
    database.close();
    let journal = journal(dir.path());
    let length = written(&fs::read(&journal).unwrap());
    let file = fs::OpenOptions::new().write(true).open(&journal).unwrap();
    file.set_len(length as u64 - 10).unwrap();
    let refused = Database::open(dir.path()).unwrap_err();
    let OpenError::LostWrites { recovered, recorded, .. } = &refused else { panic!("{refused}") };
    assert!(recovered < recorded, "{refused}");
    assert!(refused.to_string().contains(dir.path().to_str().unwrap()), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_of_a_journal_is_refused_and_never_hides_events() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    append_each(&dataset(&database).await, 0..40).await;
    database.close();
    let whole = fs::read(journal(dir.path())).unwrap();
    let length = written(&whole);
    let mut refused = 0;
    for step in 1..40 {
        let damaged = tempfile::tempdir().unwrap();
        copy_all(dir.path(), damaged.path());
        let mut bytes = whole.clone();
        for byte in &mut bytes[length * step / 41..length * step / 41 + 4] {
            *byte ^= 0x5a;
        }
        fs::write(journal(damaged.path()), bytes).unwrap();
        match Database::open(damaged.path()) {
            Err(error) => {
                assert!(error.to_string().contains(damaged.path().to_str().unwrap()), "{error}");
                refused += 1;
            }
            Ok(database) => {
                let found = deltas(&dataset(&database).await).await;
                assert_eq!(found, (0..40).collect::<Vec<_>>(), "opened with less than was acknowledged");
            }
        }
    }
    assert!(refused > 35, "only {refused} of 39 damages were noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_gone_is_refused_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    append_each(&dataset(&database).await, 0..3).await;
    database.close();
    fs::remove_dir_all(dir.path().join("store")).unwrap();
    let refused = Database::open(dir.path()).unwrap_err();
    assert!(matches!(refused, OpenError::LostWrites { recovered: 0, .. }), "{refused}");
}

#[test]
fn a_second_open_is_refused_and_names_the_directory_and_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let refused = Database::open(dir.path()).unwrap_err();
    let OpenError::InUse { holder, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*holder, Some(std::process::id()));
    assert!(refused.to_string().contains(dir.path().to_str().unwrap()), "{refused}");
    drop(database);
    Database::open(dir.path()).unwrap();
}

#[test]
fn an_unknown_format_and_a_foreign_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Database::open(dir.path()).unwrap());
    let format = dir.path().join("FORMAT");
    let known = fs::read_to_string(&format).unwrap();
    fs::write(&format, known.replace('1', "2")).unwrap();
    let refused = Database::open(dir.path()).unwrap_err();
    assert!(matches!(&refused, OpenError::Format { found, .. } if found.ends_with("format 2")), "{refused}");
    fs::remove_file(&format).unwrap();
    let refused = Database::open(dir.path()).unwrap_err();
    assert!(matches!(&refused, OpenError::Format { found, .. } if found.is_empty()), "{refused}");
    fs::write(&format, known).unwrap();
    Database::open(dir.path()).unwrap();
}

#[test]
fn a_first_open_that_crashed_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(Database::open(dir.path()).unwrap());
    // As if the crash had come before the store was moved to its place.
    fs::rename(dir.path().join("store"), dir.path().join("store.new")).unwrap();
    Database::open(dir.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_database_answers_unavailable_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let dataset = dataset(&database).await;
    append_each(&dataset, 0..1).await;
    assert_eq!(database.health(), Ok(()));
    database.close();
    database.close();
    assert!(database.health().unwrap_err().contains("closed"));
    let scan =
        Scan { partition: append(0).partition, after: Timestamp::MIN, through: Timestamp::MAX, resume: None, limit: 1 };
    assert!(matches!(dataset.scan(scan).await, Err(Error::Unavailable { .. })));
    assert!(matches!(dataset.append(vec![append(1)]).await.as_slice(), [Err(Error::Unavailable { .. })]));
    assert!(matches!(dataset.slices().await, Err(Error::Unavailable { .. })));
    assert!(matches!(dataset.read(&counter()).await, Err(Error::Unavailable { .. })));
    assert!(matches!(dataset.list(Share::ALL, None, 1).await, Err(Error::Unavailable { .. })));
    assert!(matches!(dataset.touch(&counter(), Touch::default()).await, Err(Error::Unavailable { .. })));
    assert!(matches!(database.dataset("d", "r").await, Err(Error::Unavailable { .. })));
    // The directory is free again although handles are left.
    Database::open(dir.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_before_a_close_is_answered_and_durable() {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    let open = dataset(&database).await;
    let writers: Vec<_> = (0..200)
        .map(|nth| {
            let open = open.clone();
            tokio::spawn(async move { (nth, open.append(vec![append(nth)]).await.remove(0)) })
        })
        .collect();
    tokio::task::spawn_blocking(move || database.close()).await.unwrap();
    let mut acknowledged = Vec::new();
    for writer in writers {
        match writer.await.unwrap() {
            (nth, Ok(())) => acknowledged.push(nth),
            (_, Err(Error::Unavailable { .. })) => {}
            (_, Err(error)) => panic!("{error}"),
        }
    }
    let database = Database::open(dir.path()).unwrap();
    assert_eq!(deltas(&dataset(&database).await).await, acknowledged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_close_leaves_a_short_journal_and_every_event() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = 0;
    for _ in 0..4 {
        let database = Database::open(dir.path()).unwrap();
        let open = dataset(&database).await;
        assert_eq!(deltas(&open).await, (0..expected).collect::<Vec<_>>());
        for _ in 0..20 {
            let results = open.append((expected..expected + 1000).map(append).collect()).await;
            assert!(results.iter().all(Result::is_ok));
            expected += 1000;
        }
        let touch = Touch { last_write_ts: Some(Timestamp::from_micros(expected)), first_write_ts: None };
        open.touch(&counter(), touch).await.unwrap();
        assert!(written(&fs::read(journal(dir.path())).unwrap()) > 1 << 20);
        database.close();
        assert_eq!(fs::metadata(journal(dir.path())).unwrap().len(), 0, "what it held is in the tables");
    }
    // A crash after such a close finds the new journal, and the tables below it.
    let database = Database::open(dir.path()).unwrap();
    let open = dataset(&database).await;
    append_each(&open, expected..expected + 10).await;
    let image = tempfile::tempdir().unwrap();
    copy_all(dir.path(), image.path());
    let crashed = dataset(&Database::open(image.path()).unwrap()).await;
    assert_eq!(deltas(&crashed).await, (0..expected + 10).collect::<Vec<_>>());
    let row = crashed.read(&counter()).await.unwrap().unwrap();
    assert_eq!(row.last_write_ts, Some(Timestamp::from_micros(expected)));
}
