//! Best-effort counters on two replicas.

use std::time::Duration;

use tallyman_counter::backend::memcached::BestEffort;
use tallyman_counter::store::{BestEffortStore, Error};

use super::{LONG, Server, answering, cluster, count_at, counter, healed, pair, until};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn every_replica_gets_every_add() {
    let replicas = pair();
    let store = BestEffort::new(&cluster(&replicas));
    for delta in [5, -7, 1] {
        store.add(&counter("c"), delta, LONG).await.unwrap();
    }
    for replica in &replicas {
        assert_eq!(count_at(replica, "c").await, Some(-1));
    }
    assert_eq!(store.statistics(), Default::default());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_replica_that_restarts_empty_is_told_the_count_and_never_answers_a_restarted_one() {
    for lost in [0, 1] {
        let mut replicas = pair();
        let cluster = cluster(&replicas);
        let store = BestEffort::new(&cluster);
        assert_eq!(store.add(&counter("added"), 100, LONG).await.unwrap(), 100);
        assert_eq!(store.add(&counter("read"), 100, LONG).await.unwrap(), 100);
        replicas[lost].restart();
        assert_eq!(store.add(&counter("added"), 1, LONG).await.unwrap(), 101);
        assert_eq!(store.get(&counter("added")).await.unwrap(), Some(101));
        assert_eq!(store.get(&counter("read")).await.unwrap(), Some(100));
        healed(&store).await;
        assert_eq!(count_at(&replicas[lost], "added").await, Some(101));
        assert_eq!(store.add(&counter("added"), 1, LONG).await.unwrap(), 102);
        // The one that always knew is gone for good now.
        replicas[1 - lost].kill();
        assert_eq!(store.get(&counter("added")).await.unwrap(), Some(102));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_flushed_replica_is_told_the_counts_as_well() {
    for lost in [0, 1] {
        let replicas = pair();
        let store = BestEffort::new(&cluster(&replicas));
        for nth in 0..100 {
            store.add(&counter(&nth.to_string()), 1_000 + nth, LONG).await.unwrap();
        }
        replicas[lost].flush();
        for nth in 0..100 {
            let counted = if nth % 2 == 0 {
                store.add(&counter(&nth.to_string()), 0, LONG).await.unwrap()
            } else {
                store.get(&counter(&nth.to_string())).await.unwrap().unwrap()
            };
            assert_eq!(counted, 1_000 + nth);
        }
        healed(&store).await;
        for nth in (0..100).step_by(2) {
            assert_eq!(count_at(&replicas[lost], &nth.to_string()).await, Some(1_000 + nth));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn another_process_finds_the_flushed_replica_as_well_and_takes_no_miss_for_a_new_counter() {
    let replicas = pair();
    let (one, other) = (BestEffort::new(&cluster(&replicas)), BestEffort::new(&cluster(&replicas)));
    for store in [&one, &other] {
        store.add(&counter("warm"), 1, LONG).await.unwrap();
    }
    one.add(&counter("c"), 50, LONG).await.unwrap();
    replicas[0].flush();
    // What was made only just before is no new counter either.
    assert_eq!(one.add(&counter("warm"), 1, LONG).await.unwrap(), 3);
    // While one repairs a counter, another process's add to it may count twice: repairing.rs.
    healed(&one).await;
    assert_eq!(other.add(&counter("warm"), 1, LONG).await.unwrap(), 4);
    assert_eq!(other.add(&counter("c"), 1, LONG).await.unwrap(), 51);
    healed(&one).await;
    healed(&other).await;
    for replica in &replicas {
        assert_eq!(count_at(replica, "c").await, Some(51));
        assert_eq!(count_at(replica, "warm").await, Some(4));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn counters_start_anew_when_all_replicas_were_flushed() {
    let replicas = pair();
    let store = BestEffort::new(&cluster(&replicas));
    store.add(&counter("c"), 5, LONG).await.unwrap();
    replicas.iter().for_each(Server::flush);
    assert_eq!(store.get(&counter("c")).await.unwrap(), None);
    assert_eq!(store.add(&counter("c"), 2, LONG).await.unwrap(), 2);
    for replica in &replicas {
        assert_eq!(count_at(replica, "c").await, Some(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn adds_go_on_while_a_replica_is_down_and_it_has_them_when_it_is_back() {
    for down in [0, 1] {
        let mut replicas = pair();
        let cluster = cluster(&replicas);
        let store = BestEffort::new(&cluster);
        assert_eq!(store.add(&counter("old"), 10, LONG).await.unwrap(), 10);
        replicas[down].kill();
        for nth in 1..=20 {
            assert_eq!(store.add(&counter("old"), 1, LONG).await.unwrap(), 10 + nth);
            assert_eq!(store.add(&counter("new"), -1, LONG).await.unwrap(), -nth);
            assert_eq!(store.get(&counter("new")).await.unwrap(), Some(-nth));
        }
        replicas[down].restart();
        healed(&store).await;
        for replica in &replicas {
            assert_eq!(count_at(replica, "old").await, Some(30));
            assert_eq!(count_at(replica, "new").await, Some(-20));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_replica_that_stood_still_ends_with_every_add_once() {
    for still in [0, 1] {
        let replicas = pair();
        let cluster = cluster(&replicas);
        let store = BestEffort::new(&cluster);
        assert_eq!(store.add(&counter("c"), 10, LONG).await.unwrap(), 10);
        replicas[still].pause();
        for nth in 1..=20 {
            assert_eq!(store.add(&counter("c"), 1, LONG).await.unwrap(), 10 + nth);
            assert_eq!(store.get(&counter("c")).await.unwrap(), Some(10 + nth));
        }
        let other = if still == 0 { [false, true] } else { [true, false] };
        answering(&cluster, &other).await;
        replicas[still].resume();
        healed(&store).await;
        for replica in &replicas {
            assert_eq!(count_at(replica, "c").await, Some(30));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn what_a_replica_knows_that_comes_back_outweighs_what_a_forgetful_one_counted_meanwhile() {
    let replicas = pair();
    let cluster = cluster(&replicas);
    let store = BestEffort::new(&cluster);
    store.add(&counter("c"), 1_000, LONG).await.unwrap();
    replicas[1].pause();
    replicas[0].flush();
    answering(&cluster, &[true, false]).await;
    assert_eq!(store.add(&counter("c"), 1, LONG).await.unwrap(), 1, "nobody who answers knows more");
    replicas[1].resume();
    healed(&store).await;
    for replica in &replicas {
        assert_eq!(count_at(replica, "c").await, Some(1_000));
    }
    // And for a process that has no part in all that.
    let other = BestEffort::new(&super::cluster(&replicas));
    assert_eq!(other.get(&counter("c")).await.unwrap(), Some(1_000));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_clear_while_a_replica_is_down_is_refused_and_clears_nothing() {
    for down in [0, 1] {
        let mut replicas = pair();
        let store = BestEffort::new(&cluster(&replicas));
        store.add(&counter("c"), 5, LONG).await.unwrap();
        replicas[down].kill();
        // The first may still find the connection that was there.
        let refused = store.clear(&counter("c")).await.unwrap_err();
        assert!(matches!(refused, Error::Timeout { .. } | Error::Unavailable { .. }), "{refused}");
        store.add(&counter("d"), 5, LONG).await.unwrap();
        let refused = store.clear(&counter("d")).await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
        assert_eq!(store.get(&counter("d")).await.unwrap(), Some(5));
        replicas[down].restart();
        for name in ["c", "d"] {
            store.clear(&counter(name)).await.unwrap();
            healed(&store).await;
            assert_eq!(store.get(&counter(name)).await.unwrap(), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_healed_copy_ends_with_the_counter_that_it_was_made_from() {
    let mut replicas = pair();
    let store = BestEffort::new(&cluster(&replicas));
    store.add(&counter("c"), 5, Duration::from_secs(120)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    replicas[0].restart();
    store.add(&counter("c"), 1, LONG).await.unwrap();
    healed(&store).await;
    assert_eq!(count_at(&replicas[0], "c").await, Some(6));
    let client = replicas[0].client().await;
    let read = memcache::exp::Get::new("n:c").meta(memcache::exp::Meta::NONE.ttl());
    let left = client.run(read).await.unwrap().item.ttl.unwrap();
    assert!((0..=118).contains(&left), "{left} seconds left");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn two_processes_that_make_counters_at_the_same_time_agree_on_every_replica() {
    let replicas = pair();
    let stores = [BestEffort::new(&cluster(&replicas)), BestEffort::new(&cluster(&replicas))];
    for round in 0..50 {
        let counter = counter(&format!("r{round}"));
        let adds = (0..16).map(|nth| {
            let (store, counter) = (stores[nth % 2].clone(), counter.clone());
            tokio::spawn(async move { store.add(&counter, 1 << nth, LONG).await.unwrap() })
        });
        futures::future::join_all(adds).await;
        for store in &stores {
            assert_eq!(store.get(&counter).await.unwrap(), Some(0xffff), "in round {round}");
        }
    }
    for store in &stores {
        healed(store).await;
    }
    for replica in &replicas {
        for round in 0..50 {
            assert_eq!(count_at(replica, &format!("r{round}")).await, Some(0xffff), "in round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn adds_under_load_all_count_once_though_a_replica_restarts_under_them() {
    const WRITERS: usize = 8;
    const ADDS_EACH: i64 = 400;
    let mut replicas = pair();
    let store = BestEffort::new(&cluster(&replicas));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for nth in 0..ADDS_EACH {
                    let hot = counter(&format!("hot-{}", (nth as usize + writer) % 4));
                    store.add(&hot, 1, LONG).await.expect("one replica is always there");
                }
            })
        })
        .collect();
    until("some adds are through", async || count_at(&replicas[1], "hot-0").await > Some(20)).await;
    replicas[0].restart();
    for writer in writers {
        writer.await.unwrap();
    }
    healed(&store).await;
    for replica in &replicas {
        let mut sum = 0;
        for nth in 0..4 {
            sum += count_at(replica, &format!("hot-{nth}")).await.unwrap();
        }
        assert_eq!(sum, WRITERS as i64 * ADDS_EACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_replica_that_stays_away_does_not_hold_up_the_healing_of_another() {
    const COUNTERS: usize = 2_000;
    let mut replicas = [Server::start(), Server::start(), Server::start()];
    let store = BestEffort::new(&cluster(&replicas));
    let add_to_all = async |store: &BestEffort| {
        let adds = (0..COUNTERS).map(|nth| {
            let store = store.clone();
            async move { store.add(&counter(&nth.to_string()), 1, LONG).await.unwrap() }
        });
        futures::future::join_all(adds).await;
    };
    add_to_all(&store).await;
    replicas[2].kill();
    replicas[1].restart();
    add_to_all(&store).await;
    until("all is healed but what is away", async || store.statistics().debts <= COUNTERS as u64).await;
    for nth in [0, COUNTERS / 2, COUNTERS - 1] {
        assert_eq!(count_at(&replicas[1], &nth.to_string()).await, Some(2));
    }
}
