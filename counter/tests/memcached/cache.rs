//! Cached checkpoints on two replicas.

use std::time::Duration;

use tallyman_counter::backend::memcached::{BestEffort, Cache};
use tallyman_counter::model::{Checkpoint, Timestamp};
use tallyman_counter::store::{BestEffortStore, Error, RollupCache};

use super::{LONG, Server, answering, cluster, counter, pair, played, until};

const EXPIRY: Duration = Duration::from_secs(600);

fn checkpoint(micros: i64, last_rollup_count: i128) -> Checkpoint {
    Checkpoint { last_rollup_ts: Timestamp::from_micros(micros), last_rollup_count }
}

/// What one server has, read past the cluster.
async fn cached_at(server: &Server, name: &str) -> Option<Checkpoint> {
    let client = server.client().await;
    let value = client.get(format!("checkpoint/s/n:{name}")).send().await.unwrap().value?;
    Some(Checkpoint::decode(&value).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn every_replica_gets_every_offer() {
    played(async || {
        let replicas = pair();
        let cache = Cache::new(&cluster(&replicas), "s", EXPIRY);
        cache.offer(&counter("c"), checkpoint(7, 1)).await?;
        for replica in &replicas {
            assert_eq!(cached_at(replica, "c").await, Some(checkpoint(7, 1)));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_dead_replica_is_read_past_at_once_and_gets_the_offers_that_it_missed() {
    played(async || {
        for down in [0, 1] {
            let mut replicas = pair();
            let cluster = cluster(&replicas);
            let cache = Cache::new(&cluster, "s", EXPIRY);
            cache.offer(&counter("c"), checkpoint(7, 1)).await?;
            replicas[down].pause();
            // Not taken by all, and so an error; the one that answers has it.
            assert!(cache.offer(&counter("c"), checkpoint(8, 2)).await.is_err());
            assert_eq!(cache.get(&counter("c")).await?, Some(checkpoint(8, 2)));
            let other = if down == 0 { [false, true] } else { [true, false] };
            answering(&cluster, &other).await;
            assert!(matches!(cache.offer(&counter("c"), checkpoint(9, 3)).await, Err(Error::Unavailable { .. })));
            replicas[down].resume();
            until("the late offer is taken", async || cached_at(&replicas[down], "c").await == Some(checkpoint(9, 3)))
                .await;
            // Also where it comes back empty.
            replicas[down].kill();
            assert!(cache.offer(&counter("c"), checkpoint(10, 4)).await.is_err());
            replicas[down].restart();
            until("the late offer is taken", async || cached_at(&replicas[down], "c").await == Some(checkpoint(10, 4)))
                .await;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn readers_never_see_a_checkpoint_go_back_while_a_replica_stands_still_and_comes_back() {
    played(async || {
        let replicas = pair();
        let cluster = cluster(&replicas);
        let cache = Cache::new(&cluster, "s", EXPIRY);
        let mut last = None;
        let mut micros = 0;
        let mut offer_and_read = async |rounds: usize| {
            for _ in 0..rounds {
                micros += 1;
                // An offer may fail: somebody did not take it.
                let _ = cache.offer(&counter("c"), checkpoint(micros, 0)).await;
                let read = cache.get(&counter("c")).await?;
                assert!(read >= last, "{read:?} after {last:?}");
                last = read;
            }
            Ok::<_, Error>(())
        };
        offer_and_read(20).await?;
        replicas[0].pause();
        offer_and_read(20).await?;
        answering(&cluster, &[false, true]).await;
        replicas[0].resume();
        offer_and_read(200).await?;
        answering(&cluster, &[true, true]).await;
        offer_and_read(20).await?;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn without_a_server_the_cache_says_so() {
    played(async || {
        let mut replicas = pair();
        let cluster = cluster(&replicas);
        let cache = Cache::new(&cluster, "s", EXPIRY);
        replicas.iter_mut().for_each(Server::kill);
        answering(&cluster, &[false, false]).await;
        assert!(matches!(cache.get(&counter("c")).await, Err(Error::Unavailable { .. })));
        assert!(matches!(cache.offer(&counter("c"), checkpoint(1, 1)).await, Err(Error::Unavailable { .. })));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn a_flushed_replica_answers_nothing_and_takes_the_next_offer() {
    played(async || {
        let replicas = pair();
        let cache = Cache::new(&cluster(&replicas), "s", EXPIRY);
        cache.offer(&counter("c"), checkpoint(7, 1)).await?;
        replicas[0].flush();
        assert_eq!(cache.get(&counter("c")).await?, None);
        cache.offer(&counter("c"), checkpoint(7, 1)).await?;
        assert_eq!(cached_at(&replicas[0], "c").await, Some(checkpoint(7, 1)));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn checkpoints_and_counters_of_one_name_and_those_of_two_stores_never_meet() {
    played(async || {
        let replicas = pair();
        let cluster = cluster(&replicas);
        let (one, other) = (Cache::new(&cluster, "s", EXPIRY), Cache::new(&cluster, "t", EXPIRY));
        let counts = BestEffort::new(&cluster);
        for name in ["c", "a b"] {
            one.offer(&counter(name), checkpoint(7, 1)).await?;
            assert_eq!(other.get(&counter(name)).await?, None);
            assert_eq!(counts.get(&counter(name)).await?, None);
            assert_eq!(counts.add(&counter(name), 3, LONG).await?, 3);
            counts.clear(&counter(name)).await?;
            assert_eq!(one.get(&counter(name)).await?, Some(checkpoint(7, 1)));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs memcached: cargo xtask test"]
async fn what_cannot_be_read_is_absent_and_gives_way_to_the_next_offer() {
    played(async || {
        let replicas = pair();
        let cache = Cache::new(&cluster(&replicas), "s", EXPIRY);
        for replica in &replicas {
            let client = replica.client().await;
            client.set("checkpoint/s/n:c", "of another version").send().await.unwrap();
        }
        assert_eq!(cache.get(&counter("c")).await?, None);
        cache.offer(&counter("c"), checkpoint(7, 1)).await?;
        assert_eq!(cache.get(&counter("c")).await?, Some(checkpoint(7, 1)));
        Ok(())
    })
    .await;
}
