//! Best-effort counters on two replicas.

use std::sync::Arc;
use std::time::Duration;

use tallyman_counter::backend::memcached::{BestEffort, Cluster};
use tallyman_counter::store::{BestEffortStore, Error};
use tokio::task::JoinHandle;

use super::{
    LONG, Server, StoppedClock, all_answered, answering, cluster, cluster_by, count_at, counter, healed, pair, played,
    refused_only_when_silent, until,
};

/// The counts that two servers have, read past the store.
async fn counts_at(replicas: &[Server; 2], name: &str) -> [Option<i64>; 2] {
    [count_at(&replicas[0], name).await, count_at(&replicas[1], name).await]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn every_replica_gets_every_add() {
    played(async || {
        let replicas = pair();
        let cluster = cluster(&replicas);
        let store = BestEffort::new(&cluster);
        for delta in [5, -7, 1] {
            store.add(&counter("c"), delta, LONG).await?;
        }
        all_answered(&cluster)?;
        assert_eq!(counts_at(&replicas, "c").await, [Some(-1); 2]);
        assert_eq!(store.statistics(), Default::default());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_replica_that_restarts_empty_is_told_the_count_and_never_answers_a_restarted_one() {
    played(async || {
        for lost in [0, 1] {
            let mut replicas = pair();
            let cluster = cluster(&replicas);
            let store = BestEffort::new(&cluster);
            assert_eq!(store.add(&counter("added"), 100, LONG).await?, 100);
            assert_eq!(store.add(&counter("read"), 100, LONG).await?, 100);
            all_answered(&cluster)?;
            replicas[lost].restart();
            assert_eq!(store.add(&counter("added"), 1, LONG).await?, 101);
            assert_eq!(store.get(&counter("added")).await?, Some(101));
            assert_eq!(store.get(&counter("read")).await?, Some(100));
            healed(&store).await;
            assert_eq!(count_at(&replicas[lost], "added").await, Some(101));
            assert_eq!(store.add(&counter("added"), 1, LONG).await?, 102);
            // The one that always knew is gone for good now.
            replicas[1 - lost].kill();
            assert_eq!(store.get(&counter("added")).await?, Some(102));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_flushed_replica_is_told_the_counts_as_well() {
    played(async || {
        for lost in [0, 1] {
            let replicas = pair();
            let cluster = cluster(&replicas);
            let store = BestEffort::new(&cluster);
            for nth in 0..100 {
                store.add(&counter(&nth.to_string()), 1_000 + nth, LONG).await?;
            }
            all_answered(&cluster)?;
            replicas[lost].flush();
            for nth in 0..100 {
                let counted = if nth % 2 == 0 {
                    store.add(&counter(&nth.to_string()), 0, LONG).await?
                } else {
                    store.get(&counter(&nth.to_string())).await?.unwrap()
                };
                assert_eq!(counted, 1_000 + nth);
            }
            healed(&store).await;
            for nth in (0..100).step_by(2) {
                assert_eq!(count_at(&replicas[lost], &nth.to_string()).await, Some(1_000 + nth));
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn another_process_finds_the_flushed_replica_as_well_and_takes_no_miss_for_a_new_counter() {
    played(async || {
        let replicas = pair();
        let clusters = [cluster(&replicas), cluster(&replicas)];
        let (one, other) = (BestEffort::new(&clusters[0]), BestEffort::new(&clusters[1]));
        for store in [&one, &other] {
            store.add(&counter("warm"), 1, LONG).await?;
        }
        one.add(&counter("c"), 50, LONG).await?;
        clusters.iter().try_for_each(all_answered)?;
        replicas[0].flush();
        // What was made only just before is no new counter either.
        assert_eq!(one.add(&counter("warm"), 1, LONG).await?, 3);
        // While one repairs a counter, another process's add to it may count twice: repairing.rs.
        healed(&one).await;
        assert_eq!(other.add(&counter("warm"), 1, LONG).await?, 4);
        assert_eq!(other.add(&counter("c"), 1, LONG).await?, 51);
        healed(&one).await;
        healed(&other).await;
        assert_eq!(counts_at(&replicas, "c").await, [Some(51); 2]);
        assert_eq!(counts_at(&replicas, "warm").await, [Some(4); 2]);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn counters_start_anew_when_all_replicas_were_flushed() {
    played(async || {
        let replicas = pair();
        let cluster = cluster(&replicas);
        let store = BestEffort::new(&cluster);
        store.add(&counter("c"), 5, LONG).await?;
        all_answered(&cluster)?;
        replicas.iter().for_each(Server::flush);
        assert_eq!(store.get(&counter("c")).await?, None);
        assert_eq!(store.add(&counter("c"), 2, LONG).await?, 2);
        all_answered(&cluster)?;
        assert_eq!(counts_at(&replicas, "c").await, [Some(2); 2]);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn adds_go_on_while_a_replica_is_down_and_it_has_them_when_it_is_back() {
    played(async || {
        for down in [0, 1] {
            let mut replicas = pair();
            let cluster = cluster(&replicas);
            let store = BestEffort::new(&cluster);
            assert_eq!(store.add(&counter("old"), 10, LONG).await?, 10);
            all_answered(&cluster)?;
            replicas[down].kill();
            for nth in 1..=20 {
                let add = async |name: &str, delta: i64| {
                    let added = store.add(&counter(name), delta, LONG).await;
                    refused_only_when_silent(added, &cluster, 1 - down)
                };
                assert_eq!(add("old", 1).await?, 10 + nth);
                assert_eq!(add("new", -1).await?, -nth);
                assert_eq!(store.get(&counter("new")).await?, Some(-nth));
            }
            replicas[down].restart();
            healed(&store).await;
            assert_eq!(counts_at(&replicas, "old").await, [Some(30); 2]);
            assert_eq!(counts_at(&replicas, "new").await, [Some(-20); 2]);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_replica_that_stood_still_ends_with_every_add_once() {
    played(async || {
        for still in [0, 1] {
            let replicas = pair();
            let cluster = cluster(&replicas);
            let store = BestEffort::new(&cluster);
            assert_eq!(store.add(&counter("c"), 10, LONG).await?, 10);
            all_answered(&cluster)?;
            replicas[still].pause();
            for nth in 1..=20 {
                assert_eq!(store.add(&counter("c"), 1, LONG).await?, 10 + nth);
                assert_eq!(store.get(&counter("c")).await?, Some(10 + nth));
            }
            let other = if still == 0 { [false, true] } else { [true, false] };
            answering(&cluster, &other).await;
            replicas[still].resume();
            healed(&store).await;
            assert_eq!(counts_at(&replicas, "c").await, [Some(30); 2]);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_caller_that_gives_up_makes_nobody_forget_what_was_acknowledged() {
    played(async || {
        for still in [0, 1] {
            let replicas = pair();
            let cluster = cluster(&replicas);
            let store = BestEffort::new(&cluster);
            store.add(&counter("c"), 10, LONG).await?;
            all_answered(&cluster)?;
            replicas[still].pause();
            let adding = tokio::spawn({
                let store = store.clone();
                async move { store.add(&counter("c"), 1, LONG).await }
            });
            let other = &replicas[1 - still];
            until("one has the add", async || count_at(other, "c").await == Some(11)).await;
            // Most likely it waits for the other one.
            adding.abort();
            for nth in 1..=20 {
                assert_eq!(store.add(&counter("c"), 1, LONG).await?, 11 + nth);
            }
            answering(&cluster, if still == 0 { &[false, true] } else { &[true, false] }).await;
            replicas[still].resume();
            healed(&store).await;
            assert_eq!(counts_at(&replicas, "c").await, [Some(31); 2]);
        }
        Ok(())
    })
    .await;
}

/// The key by which a counter is announced before it is made.
async fn announcement_key(name: &str) -> Result<String, Error> {
    let replicas = pair();
    let cluster = cluster(&replicas);
    BestEffort::new(&cluster).add(&counter(name), 1, LONG).await?;
    all_answered(&cluster)?;
    Ok(replicas[0].keys().into_iter().find(|key| key.starts_with("new/")).expect("it was announced"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn an_announcement_that_comes_late_makes_no_second_counter_beside_what_was_counted_meanwhile() {
    played(async || {
        let announcement = announcement_key("c").await?;
        for late in [0, 1] {
            let mut replicas = pair();
            replicas[late].kill();
            let clusters = [cluster(&replicas), cluster(&replicas)];
            let [one, other] = [BestEffort::new(&clusters[0]), BestEffort::new(&clusters[1])];
            assert_eq!(one.add(&counter("c"), 5, LONG).await?, 5);
            // It knows what is owed, and tells nobody any more.
            drop(one);
            replicas[late].restart();
            replicas[late].client().await.set(&announcement, "1").send().await.unwrap();
            answering(&clusters[1], &[true, true]).await;
            assert_eq!(other.add(&counter("c"), 3, LONG).await?, 8);
            assert_eq!(other.get(&counter("c")).await?, Some(8));
            healed(&other).await;
            assert_eq!(counts_at(&replicas, "c").await, [Some(8); 2]);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_counter_that_is_cleared_is_not_in_the_making_any_more() {
    played(async || {
        let replicas = pair();
        let cluster = cluster(&replicas);
        let store = BestEffort::new(&cluster);
        store.add(&counter("c"), 5, LONG).await?;
        all_answered(&cluster)?;
        let announcement = announcement_key("c").await?;
        for replica in &replicas {
            replica.client().await.set(&announcement, "1").send().await.unwrap();
        }
        store.clear(&counter("c")).await?;
        for replica in &replicas {
            assert_eq!(replica.keys(), Vec::<String>::new());
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn what_a_replica_knows_that_comes_back_outweighs_what_a_forgetful_one_counted_meanwhile() {
    played(async || {
        let replicas = pair();
        let cluster = cluster(&replicas);
        let store = BestEffort::new(&cluster);
        store.add(&counter("c"), 1_000, LONG).await?;
        all_answered(&cluster)?;
        replicas[1].pause();
        replicas[0].flush();
        answering(&cluster, &[true, false]).await;
        assert_eq!(store.add(&counter("c"), 1, LONG).await?, 1, "nobody who answers knows more");
        replicas[1].resume();
        healed(&store).await;
        assert_eq!(counts_at(&replicas, "c").await, [Some(1_000); 2]);
        // And for a process that has no part in all that.
        let other = BestEffort::new(&super::cluster(&replicas));
        assert_eq!(other.get(&counter("c")).await?, Some(1_000));
        Ok(())
    })
    .await;
}

/// Two replicas whose process takes a silent one for slow until its clock is let go.
struct Patient {
    replicas: [Server; 2],
    clock: Arc<StoppedClock>,
    cluster: Cluster,
    store: BestEffort,
}

impl Patient {
    fn new() -> Self {
        let replicas = pair();
        let clock = StoppedClock::new();
        let cluster = cluster_by(clock.clone(), &replicas);
        let store = BestEffort::new(&cluster);
        Self { replicas, clock, cluster, store }
    }

    fn adding(&self, name: &'static str, delta: i64) -> JoinHandle<Result<i64, Error>> {
        let store = self.store.clone();
        tokio::spawn(async move { store.add(&counter(name), delta, LONG).await })
    }

    fn reading(&self, name: &'static str) -> JoinHandle<Result<Option<i64>, Error>> {
        let store = self.store.clone();
        tokio::spawn(async move { store.get(&counter(name)).await })
    }

    /// Waits until the replica has not answered `times` more.
    async fn silent(&self, replica: usize, times: u64) {
        let before = self.cluster.status()[replica].failures;
        until("it did not answer", async || self.cluster.status()[replica].failures >= before + times).await;
    }

    /// The count that both replicas have in the end.
    async fn settled(&self, name: &str) -> Option<i64> {
        self.clock.let_go();
        healed(&self.store).await;
        let counts = counts_at(&self.replicas, name).await;
        assert_eq!(counts[0], counts[1]);
        counts[0]
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_counter_is_not_taken_for_new_while_the_replica_that_knows_it_is_only_slow() {
    played(async || {
        for (slow, forgetful) in [(0, 1), (1, 0)] {
            let process = Patient::new();
            for name in ["added", "read"] {
                process.store.add(&counter(name), 1_000, LONG).await?;
            }
            all_answered(&process.cluster)?;
            process.replicas[slow].pause();
            process.replicas[forgetful].flush();
            let adding = process.adding("added", 1);
            process.silent(slow, 1).await;
            let reading = process.reading("read");
            process.silent(slow, 2).await;
            process.replicas[slow].resume();
            let (added, read) = (adding.await.unwrap(), reading.await.unwrap());
            if process.cluster.status()[forgetful].failures == 0 {
                // It was sent to the slow one, and whether it arrived nobody can say.
                assert!(matches!(added, Err(Error::Timeout { .. })), "{added:?}");
            }
            assert_eq!(read?, Some(1_000));
            let counted = process.settled("added").await;
            assert!(matches!(counted, Some(1_000 | 1_001)), "{counted:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn adds_that_wait_for_a_slow_replica_to_tell_that_a_counter_is_new_all_count() {
    played(async || {
        for slow in [0, 1] {
            let process = Patient::new();
            process.store.add(&counter("warm"), 1, LONG).await?;
            all_answered(&process.cluster)?;
            process.replicas[slow].pause();
            // One is sent before the other replica is known to be silent, and some after that.
            let mut adding = vec![process.adding("new", 1)];
            process.silent(slow, 1).await;
            adding.extend((1..16).map(|nth| process.adding("new", 1 << nth)));
            process.silent(slow, 2).await;
            process.replicas[slow].resume();
            for added in adding {
                added.await.unwrap()?;
            }
            assert_eq!(process.settled("new").await, Some(0xffff));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_replica_whose_process_has_ended_is_not_waited_for() {
    played(async || {
        for gone in [0, 1] {
            let mut process = Patient::new();
            process.store.add(&counter("warm"), 1, LONG).await?;
            process.replicas[gone].kill();
            // By the clock, no time passes.
            assert_eq!(process.store.add(&counter("new"), 5, LONG).await?, 5);
            assert_eq!(process.store.get(&counter("never")).await?, None);
            process.replicas[gone].restart();
            assert_eq!(process.settled("new").await, Some(5));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_clear_while_a_replica_is_down_is_refused_and_clears_nothing() {
    played(async || {
        for down in [0, 1] {
            let mut replicas = pair();
            let store = BestEffort::new(&cluster(&replicas));
            store.add(&counter("c"), 5, LONG).await?;
            replicas[down].kill();
            // The first may still find the connection that was there.
            let refused = store.clear(&counter("c")).await.unwrap_err();
            assert!(matches!(refused, Error::Timeout { .. } | Error::Unavailable { .. }), "{refused}");
            store.add(&counter("d"), 5, LONG).await?;
            let refused = store.clear(&counter("d")).await.unwrap_err();
            assert!(matches!(refused, Error::Unavailable { .. }), "{refused}");
            assert_eq!(store.get(&counter("d")).await?, Some(5));
            replicas[down].restart();
            for name in ["c", "d"] {
                store.clear(&counter(name)).await?;
                healed(&store).await;
                assert_eq!(store.get(&counter(name)).await?, None);
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_healed_copy_ends_with_the_counter_that_it_was_made_from() {
    played(async || {
        let mut replicas = pair();
        let cluster = cluster(&replicas);
        let store = BestEffort::new(&cluster);
        store.add(&counter("c"), 5, Duration::from_secs(120)).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        all_answered(&cluster)?;
        replicas[0].restart();
        store.add(&counter("c"), 1, LONG).await?;
        healed(&store).await;
        assert_eq!(count_at(&replicas[0], "c").await, Some(6));
        let client = replicas[0].client().await;
        let read = memcache::exp::Get::new("n:c").meta(memcache::exp::Meta::NONE.ttl());
        let left = client.run(read).await.unwrap().item.ttl.unwrap();
        assert!((0..=118).contains(&left), "{left} seconds left");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn two_processes_that_make_counters_at_the_same_time_agree_on_every_replica() {
    played(async || {
        let replicas = pair();
        let clusters = [cluster(&replicas), cluster(&replicas)];
        let stores = [BestEffort::new(&clusters[0]), BestEffort::new(&clusters[1])];
        for round in 0..50 {
            let counter = counter(&format!("r{round}"));
            let adds = (0..16).map(|nth| {
                let (store, counter) = (stores[nth % 2].clone(), counter.clone());
                tokio::spawn(async move { store.add(&counter, 1 << nth, LONG).await })
            });
            for added in futures::future::join_all(adds).await {
                added.unwrap()?;
            }
            clusters.iter().try_for_each(all_answered)?;
            for store in &stores {
                assert_eq!(store.get(&counter).await?, Some(0xffff), "in round {round}");
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
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn adds_under_load_all_count_once_though_a_replica_restarts_under_them() {
    played(async || {
        const WRITERS: usize = 8;
        const ADDS_EACH: i64 = 400;
        let mut replicas = pair();
        let cluster = cluster(&replicas);
        let store = BestEffort::new(&cluster);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, cluster) = (store.clone(), cluster.clone());
                tokio::spawn(async move {
                    for nth in 0..ADDS_EACH {
                        let hot = counter(&format!("hot-{}", (nth as usize + writer) % 4));
                        refused_only_when_silent(store.add(&hot, 1, LONG).await, &cluster, 1)?;
                    }
                    Ok::<_, Error>(())
                })
            })
            .collect();
        until("some adds are through", async || count_at(&replicas[1], "hot-0").await > Some(20)).await;
        replicas[0].restart();
        for writer in writers {
            writer.await.unwrap()?;
        }
        healed(&store).await;
        for replica in &replicas {
            let mut sum = 0;
            for nth in 0..4 {
                sum += count_at(replica, &format!("hot-{nth}")).await.unwrap();
            }
            assert_eq!(sum, WRITERS as i64 * ADDS_EACH);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_replica_that_stays_away_does_not_hold_up_the_healing_of_another() {
    played(async || {
        const COUNTERS: usize = 2_000;
        let mut replicas = [Server::start(), Server::start(), Server::start()];
        let store = BestEffort::new(&cluster(&replicas));
        let add_to_all = async |store: &BestEffort| {
            let adds = (0..COUNTERS).map(|nth| {
                let store = store.clone();
                async move { store.add(&counter(&nth.to_string()), 1, LONG).await }
            });
            futures::future::try_join_all(adds).await
        };
        add_to_all(&store).await?;
        replicas[2].kill();
        replicas[1].restart();
        add_to_all(&store).await?;
        until("all is healed but what is away", async || store.statistics().debts <= COUNTERS as u64).await;
        for nth in [0, COUNTERS / 2, COUNTERS - 1] {
            assert_eq!(count_at(&replicas[1], &nth.to_string()).await, Some(2));
        }
        Ok(())
    })
    .await;
}
