//! Waits until the API shows what must be shown. Nothing wrong may show on the way, however early.

use std::collections::BTreeMap;
use std::time::Duration;

use tallyman_api::client::Client;
use tokio::task::JoinSet;

use crate::ledger::{Fault, Ledger};
use crate::{PATIENCE, now, now_micros};

/// Accurate reads under way at once.
const READS_IN_FLIGHT: usize = 16;
const POLL: Duration = Duration::from_millis(250);

/// Counts by counter.
pub type Counts = BTreeMap<String, i64>;

/// Waits until every sidecar shows every acknowledged add of the ledger, and returns the counts.
pub async fn with_ledger(clients: &[Client], namespace: &str, ledger: &Ledger) -> Counts {
    let started = now();
    loop {
        let mut missing = BTreeMap::new();
        let mut shown = Vec::new();
        for client in clients {
            let Some(counts) = counts(client, namespace, ledger.counters()).await else { continue };
            missing.extend(check(ledger, &counts));
            shown.push(counts);
        }
        // Sidecars may be a rollup apart; once all have all, adds with an unknown end may still make them differ for a moment.
        let agree = shown.len() == clients.len() && shown.windows(2).all(|two| two[0] == two[1]);
        if missing.is_empty() && agree {
            return shown.remove(0);
        }
        let answered = shown.len();
        assert!(
            started.elapsed() < PATIENCE,
            "not converged within {PATIENCE:?}: {answered} of {} sidecars answer, {} counters are wrong: {:?}",
            clients.len(),
            missing.len(),
            missing.iter().take(10).collect::<Vec<_>>()
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Reads all counters of the ledger accurately, through every sidecar: there is nothing to wait for. The counts of the last one.
pub async fn accurately(clients: &[Client], namespace: &str, ledger: &Ledger) -> Counts {
    let mut counts = Counts::new();
    for client in clients {
        counts.clear();
        let mut names = ledger.counters();
        let mut reading = JoinSet::new();
        loop {
            if reading.len() < READS_IN_FLIGHT
                && let Some(counter) = names.next()
            {
                reading.spawn(read_accurately(client.clone(), namespace.to_owned(), counter.to_owned()));
            } else if let Some(read) = reading.join_next().await {
                let (counter, count) = read.unwrap();
                counts.insert(counter, count);
            } else {
                break;
            }
        }
        let missing = check(ledger, &counts);
        assert!(missing.is_empty(), "accurate reads miss adds: {:?}", missing.iter().take(10).collect::<Vec<_>>());
    }
    counts
}

/// One accurate reading.
pub async fn read_accurately(client: Client, namespace: String, counter: String) -> (String, i64) {
    let (client, began) = (client.with_deadline(PATIENCE), now_micros());
    let reading = client.get(&namespace, &counter, Some(Duration::ZERO)).await;
    let reading = reading.unwrap_or_else(|error| panic!("{counter} cannot be read accurately: {error}"));
    let as_of = reading.as_of.unwrap();
    let as_of = as_of.seconds * 1_000_000 + i64::from(as_of.nanos) / 1_000;
    // The sidecar's clock and ours are the same, or its own is found wrong.
    assert!(as_of >= began, "{counter} was read as of {as_of}, before the reading began at {began}");
    (counter, reading.count)
}

/// What is not counted yet, by counter. Anything else that is wrong will never come right.
fn check(ledger: &Ledger, counts: &Counts) -> BTreeMap<String, Vec<Fault>> {
    let mut missing = BTreeMap::new();
    for (counter, count) in counts {
        let faults = ledger.faults(counter, i128::from(*count));
        for fault in &faults {
            assert!(matches!(fault, Fault::Missing { .. }), "{counter} counts {count}: {fault}");
        }
        if !faults.is_empty() {
            missing.insert(counter.clone(), faults);
        }
    }
    missing
}

/// Waits until every sidecar shows just these counts.
pub async fn to(clients: &[Client], namespace: &str, expected: &Counts) {
    let started = now();
    for client in clients {
        loop {
            let counts = counts(client, namespace, expected.keys().map(String::as_str)).await;
            if counts.as_ref() == Some(expected) {
                break;
            }
            let wrong = |counts: Counts| {
                let differs = |(name, count): &(String, i64)| expected.get(name) != Some(count);
                let wrong = counts.into_iter().filter(differs);
                wrong
                    .map(|(name, count)| format!("{name}: {count} of {}", expected[&name]))
                    .take(10)
                    .collect::<Vec<_>>()
            };
            assert!(
                started.elapsed() < PATIENCE,
                "not converged within {PATIENCE:?}: {:?}",
                counts.map_or_else(|| vec!["no answer".to_owned()], wrong)
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The counts of these counters; `None` unless all could be read.
async fn counts<'a>(client: &Client, namespace: &str, counters: impl Iterator<Item = &'a str>) -> Option<Counts> {
    let names: Vec<String> = counters.map(str::to_owned).collect();
    let readings = client.batch_get(namespace, names.clone()).await;
    names.into_iter().zip(readings).map(|(name, reading)| Some((name, reading.ok()?.count))).collect()
}
