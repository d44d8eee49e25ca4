//! What the Cassandra backend promises beyond the conformance suites, on a real Cassandra.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

#[path = "cassandra/server.rs"]
mod server;

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tallyman_counter::backend::cassandra::{Cluster, Dataset, Reach};
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_counter::model::{
    CounterKey, CounterName, Event, EventItem, NamespaceName, Partition, SliceRecord, SliceSettings, SliceState,
    Timestamp, Token,
};
use tallyman_counter::store::{Append, Error, EventStore, RollupStore, Scan, Touch};

use server::{Keyspaces, contact_points, reach};

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const WIDTH: Duration = Duration::from_secs(3600);

fn slice(nth: u32) -> SliceRecord {
    let start = START.plus(WIDTH * nth);
    let settings = SliceSettings {
        buckets_per_id: NonZeroU16::new(4).unwrap(),
        bucket_width: Duration::from_secs(600),
        accept_limit: Duration::from_secs(5),
        write_timeout: Duration::from_secs(2),
        max_clock_skew: Duration::from_secs(1),
    };
    SliceRecord::new(start, start.plus(WIDTH), settings).unwrap()
}

fn counter(name: &str) -> CounterKey {
    CounterKey { namespace: NamespaceName::new("plays").unwrap(), name: CounterName::new(name).unwrap() }
}

fn add(event_time: Timestamp, id: &str, delta: i64) -> Event {
    Event { event_time, event_id: Token::new(id).unwrap(), item: EventItem::Add(delta) }
}

fn append_of(counter: &CounterKey, slice: &SliceRecord, event: &Event) -> Append {
    Append { partition: Partition::of(counter, event, slice), event: event.clone() }
}

async fn events_beside(dataset: &Dataset, append: &Append) -> Vec<Event> {
    let (after, through) = (Timestamp::MIN, Timestamp::MAX);
    let scan = Scan { partition: append.partition.clone(), after, through, resume: None, limit: 1000 };
    dataset.scan(scan).await.unwrap().events
}

async fn dataset_with_slices(keyspaces: &Keyspaces, count: u32) -> Dataset {
    let dataset = keyspaces.cluster().dataset(&keyspaces.create().await, keyspaces.region());
    for nth in 0..count {
        dataset.create_slice(slice(nth)).await.unwrap();
    }
    dataset
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn of_two_different_writes_of_one_token_the_same_stays_whatever_their_order() {
    let keyspaces = Keyspaces::new().await;
    let dataset = dataset_with_slices(&keyspaces, 1).await;
    for (one, other) in [(1, 2), (-1, 1), (i64::MIN, i64::MAX), (0, -7)] {
        let mut kept = Vec::new();
        for (nth, deltas) in [[one, other], [other, one]].into_iter().enumerate() {
            let counter = counter(&format!("{one}/{other}/{nth}"));
            for delta in deltas {
                let append = append_of(&counter, &slice(0), &add(START, "token", delta));
                dataset.append(vec![append]).await.pop().unwrap().unwrap();
            }
            let beside = append_of(&counter, &slice(0), &add(START, "token", one));
            kept.push(events_beside(&dataset, &beside).await);
        }
        assert_eq!(kept[0].len(), 1, "one token is one event");
        assert_eq!(kept[0], kept[1], "{one} and {other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn many_appends_at_once_are_few_requests_and_each_is_there() {
    const EVENTS: usize = 1000;
    let keyspaces = Keyspaces::new().await;
    let dataset = dataset_with_slices(&keyspaces, 1).await;
    for hot in [true, false] {
        let before = dataset.write_statistics();
        let appends: Vec<Append> = (0..EVENTS)
            .map(|nth| {
                let counter = counter(&if hot { "hot".to_owned() } else { format!("spread-{nth}") });
                append_of(&counter, &slice(0), &add(START, &format!("token-{nth}"), 1))
            })
            .collect();
        let writers = appends.iter().map(|append| {
            let (dataset, append) = (dataset.clone(), append.clone());
            tokio::spawn(async move { dataset.append(vec![append]).await.pop().unwrap() })
        });
        for result in join_all(writers).await {
            result.unwrap().unwrap();
        }
        let after = dataset.write_statistics();
        let (requests, rows) = (after.requests - before.requests, after.rows - before.rows);
        assert_eq!(rows, EVENTS as u64);
        assert!(requests < rows / 2, "{rows} rows in {requests} requests");
        for append in &appends {
            assert!(events_beside(&dataset, append).await.contains(&append.event), "{append:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn touches_of_one_counter_at_once_are_few_rows_and_all_are_in_it() {
    const TOUCHES: u64 = 500;
    let keyspaces = Keyspaces::new().await;
    let dataset = dataset_with_slices(&keyspaces, 0).await;
    let at = |nth: u64| START.plus(Duration::from_micros(nth));
    let touching = (0..TOUCHES).map(|nth| {
        let dataset = dataset.clone();
        let touch = Touch { last_write_ts: Some(at(nth)), first_write_ts: Some(at(nth)) };
        tokio::spawn(async move { dataset.touch(&counter("hot"), touch).await })
    });
    for result in join_all(touching).await {
        result.unwrap().unwrap();
    }
    let row = dataset.read(&counter("hot")).await.unwrap().unwrap();
    assert_eq!((row.last_write_ts, row.first_write_ts), (Some(at(TOUCHES - 1)), Some(at(0))));
    assert!(dataset.write_statistics().rows < TOUCHES, "{:?}", dataset.write_statistics());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_table_that_another_process_dropped_is_missing_and_what_waits_beside_it_can_be_tried_again() {
    let keyspaces = Keyspaces::new().await;
    let dataset = dataset_with_slices(&keyspaces, 2).await;
    let appends = |nth: u32| {
        let of = |slice: SliceRecord| append_of(&counter(&nth.to_string()), &slice, &add(slice.start, "t", 1));
        vec![of(slice(0)), of(slice(1))]
    };
    for result in dataset.append(appends(0)).await {
        result.unwrap();
    }
    keyspaces.reconnect().await;
    let elsewhere = keyspaces.cluster().dataset(&keyspaces.last_created(), keyspaces.region());
    elsewhere.set_slice_state(slice(0).start, SliceState::Dropped).await.unwrap();
    // Some of the first attempts may go by what was prepared; then it is known.
    let mut results = dataset.append(appends(1)).await;
    if results[1].is_err() {
        assert!(results[1].as_ref().unwrap_err().is_retryable(), "{results:?}");
        results = dataset.append(appends(1)).await;
    }
    assert!(matches!(results[0], Err(Error::MissingSlice { slice_start }) if slice_start == slice(0).start));
    assert!(results[1].is_ok(), "{results:?}");
    let partition = appends(1)[0].partition.clone();
    let scan = Scan { partition, after: Timestamp::MIN, through: Timestamp::MAX, resume: None, limit: 10 };
    assert!(matches!(dataset.scan(scan).await, Err(Error::MissingSlice { .. })));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_missing_keyspace_is_told_apart_and_found_when_it_is_made() {
    let keyspaces = Keyspaces::new().await;
    let cluster = keyspaces.cluster();
    let missing = cluster.dataset("t_there_is_no_such_keyspace", keyspaces.region());
    let words = missing.check().await.unwrap_err();
    assert!(words.contains("there is no keyspace t_there_is_no_such_keyspace"), "{words}");
    cluster.check().unwrap();
    let appended = missing.append(vec![append_of(&counter("c"), &slice(0), &add(START, "t", 1))]).await;
    let [Err(error @ Error::Unavailable { .. })] = appended.as_slice() else { panic!("{appended:?}") };
    assert!(error.to_string().contains("there is no keyspace"), "{error}");
    for error in [missing.read(&counter("c")).await.unwrap_err(), missing.slices().await.unwrap_err()] {
        assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    }
    let made = dataset_with_slices(&keyspaces, 0).await;
    made.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn a_wrong_datacenter_is_told_with_the_right_ones() {
    let keyspaces = Keyspaces::new().await;
    let words = why_not(&Cluster::new(reach("nowhere"))).await;
    assert!(words.starts_with("wrong datacenter") && words.contains("\"nowhere\""), "{words}");
    assert!(words.contains(keyspaces.region()), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Cassandra: cargo xtask servers up"]
async fn most_nodes_tell_their_time() {
    let keyspaces = Keyspaces::new().await;
    let dataset = dataset_with_slices(&keyspaces, 0).await;
    let before = SystemClock::new().now();
    let clocks = dataset.node_clocks().await.unwrap();
    assert!(!clocks.is_empty());
    for clock in clocks {
        assert!(clock.time.distance(before) < Duration::from_secs(60), "the machine's own clock: {clock:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_unreachable_contact_point_is_named_and_every_call_says_so() {
    // Ports that nobody may listen on without being root, and that no service has.
    let contact_points =
        vec!["127.0.0.1:2".to_owned(), "127.0.0.1:3".to_owned(), "no-such-host.invalid:9042".to_owned()];
    let cluster = Cluster::new(Reach {
        contact_points: contact_points.clone(),
        local_datacenter: "dc1".to_owned(),
        credentials_file: None,
        tls_ca_file: None,
    });
    let dataset = cluster.dataset("nowhere", "dc1");
    let words = why_not(&cluster).await;
    assert!(words.starts_with("unreachable contact points"), "{words}");
    for contact_point in &contact_points {
        assert!(words.contains(contact_point), "{words}");
    }
    assert_eq!(dataset.check().await.unwrap_err(), words);
    let append = append_of(&counter("c"), &slice(0), &add(START, "t", 1));
    let partition = append.partition.clone();
    let scan = Scan { partition, after: Timestamp::MIN, through: Timestamp::MAX, resume: None, limit: 10 };
    let touch = Touch { last_write_ts: Some(START), first_write_ts: None };
    let errors = [
        dataset.append(vec![append]).await.pop().unwrap().unwrap_err(),
        dataset.scan(scan).await.unwrap_err(),
        dataset.slices().await.unwrap_err(),
        dataset.create_slice(slice(0)).await.unwrap_err(),
        dataset.node_clocks().await.unwrap_err(),
        dataset.touch(&counter("c"), touch).await.unwrap_err(),
        dataset.read(&counter("c")).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, Error::Unavailable { reason } if reason.contains("127.0.0.1:2")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_file_that_cannot_be_used_is_named() {
    let cluster = Cluster::new(Reach {
        contact_points: contact_points(),
        local_datacenter: "dc1".to_owned(),
        credentials_file: None,
        tls_ca_file: Some(PathBuf::from("/nowhere/ca.crt")),
    });
    let words = why_not(&cluster).await;
    assert!(words.contains("/nowhere/ca.crt"), "{words}");
}

/// What a cluster says after it has tried to connect.
async fn why_not(cluster: &Cluster) -> String {
    let cluster = Arc::new(cluster.clone());
    let tried = async {
        loop {
            match cluster.check() {
                Err(words) if !words.starts_with("still connecting") => return words,
                _ => cluster.changed().await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), tried).await.unwrap_or_else(|_| panic!("{:?}", cluster.check()))
}
