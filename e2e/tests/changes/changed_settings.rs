//! Settings of slices change under load, and reach each process at another time.

use std::time::Duration;

use tallyman_e2e::load::Load;
use tallyman_e2e::plane::{NAMESPACE, Plane, Reader, Settings};
use tallyman_e2e::tables::slices::Slice;
use tallyman_e2e::{convergence, now_micros, tables};

use crate::{one_node, plan};

/// Between one process and the next. They look at their documents every few seconds.
const APART: Duration = Duration::from_secs(20);
/// Beyond the time within which processes read slices anew (10 s), and what a busy machine takes to create them.
const AHEAD: Duration = Duration::from_secs(45);

/// Settings, and the start of the first slice that is to have them.
struct Applied {
    settings: Settings,
    from: i64,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts Cassandra: cargo xtask test"]
async fn changed_settings_begin_with_the_first_slice_not_yet_created_whoever_learns_of_them_when() {
    let seconds = Duration::from_secs;
    let servers = one_node();
    let mut plane = Plane::start(
        &servers,
        Settings {
            slice_width: seconds(20),
            bucket_width: seconds(5),
            ahead: Some(AHEAD),
            ..crate::settings("settings")
        },
    );
    let mut applied = vec![Applied { settings: plane.settings.clone(), from: 0 }];
    let watch = plane.keyspace.watch_checkpoints();
    let mut operator = plane.operator();
    let load = Load::start(plane.clients(), plan(100));

    let first =
        Settings { buckets_per_id: 5, bucket_width: seconds(2), slice_width: seconds(20), ..plane.settings.clone() };
    let second =
        Settings { accept_limit: seconds(4), write_timeout: seconds(1), slice_width: seconds(12), ..first.clone() };
    let third = Settings {
        accept_limit: seconds(15),
        write_timeout: seconds(3),
        buckets_per_id: 1,
        bucket_width: seconds(6),
        slice_width: seconds(30),
        ..second.clone()
    };
    let orders = [
        (first, [Reader::Sidecar(0), Reader::Schema, Reader::Sidecar(1), Reader::Rollups]),
        (second, [Reader::Schema, Reader::Rollups, Reader::Sidecar(0), Reader::Sidecar(1)]),
        (third, [Reader::Rollups, Reader::Sidecar(1), Reader::Schema, Reader::Sidecar(0)]),
    ];
    for (settings, order) in orders {
        plane.settings = settings;
        for reader in order {
            if reader == Reader::Schema {
                operator.stop();
                let from = plane.keyspace.slices().last().unwrap().end;
                applied.push(Applied { settings: plane.settings.clone(), from });
                plane.tell(reader);
                plane.apply_schema();
                operator = plane.operator();
            } else {
                plane.tell(reader);
            }
            tokio::time::sleep(APART).await;
        }
        // Until it counts under these settings.
        let from = applied.last().unwrap().from;
        while now_micros() < from * 1_000_000 {
            load.acknowledges(50).await;
        }
        load.acknowledges(500).await;
    }

    let ledger = load.stop().await;
    operator.stop();
    convergence::accurately(&plane.clients(), NAMESPACE, &ledger).await;
    convergence::with_ledger(&plane.clients(), NAMESPACE, &ledger).await;
    tables::agree_with_ledger(&plane.keyspace.totals(NAMESPACE), &ledger);
    assert!(watch.finish().counters() > 0);
    assert_as_applied(&plane.keyspace.slices(), &applied);
    plane.stop();
    drop(servers);
}

/// Each slice has the settings that were last applied before it was created, and its events lie where these say.
fn assert_as_applied(slices: &[Slice], applied: &[Applied]) {
    for (number, Applied { settings, from }) in applied.iter().enumerate() {
        let until = applied.get(number + 1).map_or(i64::MAX, |next| next.from);
        let under: Vec<&Slice> = slices.iter().filter(|slice| (*from..until).contains(&slice.start)).collect();
        let events: u64 = under.iter().map(|slice| slice.events()).sum();
        eprintln!("{} slices from {from} on with {events} events", under.len());
        assert!(events > 0, "nothing was counted under {settings:?}");
        for slice in under {
            let told = (
                slice.buckets_per_id,
                Duration::from_secs(slice.seconds_per_bucket),
                Duration::from_micros(slice.accept_limit_us),
                Duration::from_micros(slice.write_timeout_us),
            );
            let expected =
                (settings.buckets_per_id, settings.bucket_width, settings.accept_limit, settings.write_timeout);
            assert_eq!(told, expected, "{slice:?}");
            assert_eq!(slice.contents.as_ref().map(|contents| contents.misplaced), Some(0), "{slice:?}");
        }
    }
}
