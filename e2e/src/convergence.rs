//! Waits until the API shows what must be shown. Nothing wrong may show on the way, however early.

use std::collections::BTreeMap;
use std::time::Duration;

use tallyman_api::client::Client;

use crate::ledger::{Fault, Ledger};
use crate::{PATIENCE, now};

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
