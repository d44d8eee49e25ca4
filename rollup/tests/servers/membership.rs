//! The list of rollup servers changes while counters are written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tallyman_counter::pipeline::Statistics;

use crate::world::{ANY_PORT, Server, World, document, eventually, group};

const COALESCE: Duration = Duration::from_millis(400);
/// Counters that are written all the time.
const HOT: usize = 20;
/// Rollups by which duplicates are judged.
const JUDGED: u64 = 400;

fn total(servers: &[&Server], of: impl Fn(&Statistics) -> u64) -> u64 {
    servers.iter().map(|server| of(&server.statistics())).sum()
}

fn sweeps(servers: &[&Server]) -> Vec<u64> {
    servers.iter().map(|server| server.statistics().sweeps).collect()
}

/// Lets the servers work on, and holds the duplicates among their rollups against 5 %. Before the list changed they had swept
/// so many times.
async fn agree(servers: &[&Server], swept_before: &[u64]) {
    // A server sweeps when it learns of a change, and once more when what it may have missed is overdue.
    eventually("each has swept twice since the list changed", async || {
        sweeps(servers).iter().zip(swept_before).all(|(now, before)| *now >= before + 2)
    })
    .await;
    // What was in hand then is done with once these have come.
    let begun = total(servers, |statistics| statistics.rolled_up);
    eventually("they roll up", async || total(servers, |statistics| statistics.rolled_up) > begun + JUDGED).await;
    let (rolled_up, duplicates) = (total(servers, |s| s.rolled_up), total(servers, |s| s.duplicates));
    eventually("they roll up", async || total(servers, |s| s.rolled_up) > rolled_up + JUDGED).await;
    let (rolled_up, duplicates) =
        (total(servers, |s| s.rolled_up) - rolled_up, total(servers, |s| s.duplicates) - duplicates);
    assert!(duplicates * 20 < rolled_up, "{duplicates} of {rolled_up}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_come_and_go_while_counters_are_written_and_every_count_is_exact() {
    let world = Arc::new(World::new(&document(&[], COALESCE)).await);
    let first = world.start(ANY_PORT).await;
    world.configure(&document(&[first.address], COALESCE).to_string());
    let _endpoints = world.route(&[first.address]);

    let (writing, written) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let writer = tokio::spawn({
        let (world, writing, written) = (world.clone(), writing.clone(), written.clone());
        async move {
            while writing.load(Ordering::SeqCst) {
                world.add(group("hot", HOT)).await;
                written.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    world.add(group("before", 50)).await;
    agree(&[&first], &[0]).await;

    let (second, third) = (world.start(ANY_PORT).await, world.start(ANY_PORT).await);
    world.add(group("between", 50)).await;
    let three = [first.address, second.address, third.address];
    let swept = sweeps(&[&first, &second, &third]);
    world.configure(&document(&three, COALESCE).to_string());
    let _endpoints = world.route(&three);
    world.add(group("after", 50)).await;
    agree(&[&first, &second, &third], &swept).await;
    for server in [&second, &third] {
        assert!(server.statistics().rolled_up > 0, "a new server takes its part");
    }
    for counters in ["before", "between", "after"] {
        world.wait_for(group(counters, 50), 1).await;
    }

    world.add(group("last", 50)).await;
    let two = [second.address, third.address];
    let swept = sweeps(&[&second, &third]);
    world.configure(&document(&two, COALESCE).to_string());
    let _endpoints = world.route(&two);
    first.stop().await;
    agree(&[&second, &third], &swept).await;
    world.wait_for(group("last", 50), 1).await;

    writing.store(false, Ordering::SeqCst);
    writer.await.unwrap();
    world.wait_for(group("hot", HOT), i128::from(written.load(Ordering::SeqCst))).await;
    assert_eq!(world.touched.dropped(), 0);
    second.stop().await;
    third.stop().await;
}
