//! Putting right what replicas have wrong.
//!
//! A copy is read, then the one that is right, then the first is replaced if it is as it was read: an add that reached both, or
//! neither, before is in both afterwards. Adds of this process wait meanwhile; of those of other processes, one whose two legs
//! lie on either side of the whole repair may end up counted on one of the two only, or twice. The counters are best effort.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use memcache::exp::Delete;

use super::answer;
use super::best_effort::Shared;
use super::cluster::Place;
use super::copies::{Copy, Repair, Seen, Witness, repair};
use super::debts::Debt;
use super::encoding;
use super::health::ARRIVAL_MAX;
use crate::store::Result;

/// Counters repaired in one go, and of these at once.
const REPAIRS_TOGETHER: usize = 1024;
const REPAIRS_AT_ONCE: usize = 64;
/// How soon what could not be repaired is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Attempts at a counter that changes under the repair.
const ATTEMPTS_MAX: u32 = 4;

/// What repairs did.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    copies_healed: AtomicU64,
}

impl Repairs {
    pub(super) fn copies_healed(&self) -> u64 {
        self.copies_healed.load(Ordering::Relaxed)
    }
}

/// Repairs what is owed, for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let due: Vec<Arc<str>> = (0..shared.cluster.servers().len()).flat_map(|place| shared.due_at(place)).collect();
        if due.is_empty() {
            if shared.debts.count() == 0 {
                shared.debts.arise().await;
            } else {
                tokio::time::sleep(RETRY_AFTER).await;
            }
            continue;
        }
        let repaired = stream::iter(due).map(|key| {
            let shared = &shared;
            async move { shared.repair(&key).await }
        });
        // To the last one: what cannot be put right yet, as with a third replica away, holds up no other.
        let all_went_well = repaired
            .buffer_unordered(REPAIRS_AT_ONCE)
            .fold(true, |so_far, repaired| async move { so_far && repaired })
            .await;
        if !all_went_well {
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }
}

impl Shared {
    /// Counters that the server at `place` owes and that can be repaired now: it answers, another replica does as well, and
    /// no add is on its way any more to those that answer.
    fn due_at(&self, place: Place) -> Vec<Arc<str>> {
        let answers = |place: Place| !self.cluster.server(place).health().is_down();
        if !answers(place) {
            return Vec::new();
        }
        self.debts.due(place, REPAIRS_TOGETHER, |key, debt| {
            let replicas: Vec<Place> = self.cluster.places(key).into_iter().filter(|&place| answers(place)).collect();
            // Nobody else looks at one server's debts while it holds those of another.
            let debt_of = |replica| if replica == place { Some(*debt) } else { self.debts.of(replica, key) };
            replicas.len() > 1
                && replicas.iter().all(|&replica| debt_of(replica).is_none_or(|debt| !self.may_arrive(replica, &debt)))
        })
    }

    /// Whether adds that were sent to the server at `place` may still arrive there. While it does not answer, they may.
    fn may_arrive(&self, place: Place, debt: &Debt) -> bool {
        let arrivals_until = self.cluster.server(place).health().arrivals_until().unwrap_or(Duration::MAX);
        debt.may_arrive && self.now() < arrivals_until.max(debt.since + ARRIVAL_MAX)
    }

    /// Makes the copies of a counter agree. Whether all is well now.
    async fn repair(&self, key: &str) -> bool {
        let _alone = self.stripes.of(key).write().await;
        let places = self.cluster.places(key);
        for _ in 0..ATTEMPTS_MAX {
            let debts: Vec<Option<Debt>> = places.iter().map(|&place| self.debts.of(place, key)).collect();
            match self.repair_once(key, &places, &debts).await {
                Ok(Repaired::Agree { unheard }) => {
                    for (nth, debt) in debts.iter().enumerate().filter(|(nth, _)| !unheard.contains(nth)) {
                        if let Some(debt) = debt {
                            self.debts.paid(places[nth], key, *debt);
                        }
                    }
                    return unheard.is_empty();
                }
                Ok(Repaired::Changed) => {}
                Err(error) => {
                    tracing::debug!(key, %error, "a counter's copies could not be put right yet");
                    return false;
                }
            }
        }
        false
    }

    async fn repair_once(&self, key: &str, places: &[Place], debts: &[Option<Debt>]) -> Result<Repaired> {
        let mut witnesses = Vec::with_capacity(places.len());
        for (&place, debt) in places.iter().zip(debts) {
            let is_away = self.cluster.server(place).health().is_down();
            // One that has begun to answer just now.
            let is_early = debt.is_some_and(|debt| self.may_arrive(place, &debt));
            let seen = match is_away || is_early {
                true => Seen::Unreachable,
                false => match self.copy(place, key).await {
                    Ok(Some(copy)) => Seen::Copy(copy),
                    Ok(None) => Seen::Absent,
                    Err(_) => Seen::Unreachable,
                },
            };
            witnesses.push(Witness { seen, owes: debt.map(|debt| debt.owed) });
        }
        let unheard: Vec<usize> = (0..places.len()).filter(|&nth| witnesses[nth].seen == Seen::Unreachable).collect();
        let Some(repair) = repair(&witnesses) else {
            // Nobody knows it: those who did not answer owe it still.
            return Ok(Repaired::Agree { unheard });
        };
        let mut unpaid = unheard.clone();
        if !unheard.is_empty() && (witnesses[repair.source].owes.is_some() || !repair.confirms) {
            // Somebody who did not answer may know better.
            unpaid.push(repair.source);
        }
        // Read again, after those that it is going to replace.
        let Some(source) = self.copy(places[repair.source], key).await? else { return Ok(Repaired::Changed) };
        if source.seconds_left == 0 {
            // It ends now, on all replicas.
            return Ok(Repaired::Agree { unheard: unpaid });
        }
        if self.copy_to_targets(key, places, &witnesses, &repair, source).await? {
            Ok(Repaired::Agree { unheard: unpaid })
        } else {
            Ok(Repaired::Changed)
        }
    }

    /// Whether nothing changed meanwhile.
    async fn copy_to_targets(
        &self,
        key: &str,
        places: &[Place],
        witnesses: &[Witness],
        repair: &Repair,
        source: Copy,
    ) -> Result<bool> {
        let ttl = encoding::ttl_seconds(Duration::from_secs(source.seconds_left.into()), self.cluster.clock().now());
        let provisional = source.provisional && !repair.confirms;
        let write = || Copy::write(key, source.stored, ttl, provisional).return_cas();
        let mut unchanged = true;
        let mut healed = Vec::new();
        for &nth in &repair.targets {
            let write = match witnesses[nth].seen {
                Seen::Copy(copy) => write().compare_cas(copy.cas),
                Seen::Absent | Seen::Unreachable => write().add(),
            };
            let server = self.cluster.server(places[nth]);
            match answer::stored(server.send(key, write).get().await?)? {
                Some(cas) => healed.push((nth, cas)),
                None => unchanged = false,
            }
        }
        if self.copy(places[repair.source], key).await?.is_none() {
            // It was cleared meanwhile: the copies made of it go as well, where nobody has added to them.
            for (nth, cas) in healed {
                let delete = Delete::new(key).compare_cas(cas);
                answer::deleted(self.cluster.server(places[nth]).send(key, delete).get().await?)?;
            }
            return Ok(false);
        }
        self.repairs.copies_healed.fetch_add(healed.len() as u64, Ordering::Relaxed);
        if repair.confirms {
            let confirmed = write().compare_cas(source.cas);
            let server = self.cluster.server(places[repair.source]);
            unchanged &= answer::stored(server.send(key, confirmed).get().await?)?.is_some();
        }
        Ok(unchanged)
    }
}

enum Repaired {
    /// All copies agree, except those of the replicas that were not heard.
    Agree { unheard: Vec<usize> },
    /// Somebody changed one meanwhile.
    Changed,
}

#[cfg(test)]
mod tests {
    use super::super::cluster::Cluster;
    use super::super::debts::{Debts, Owed};
    use super::super::health::tests::Hand;
    use super::super::stripes::Stripes;
    use super::*;

    #[tokio::test]
    async fn an_increment_that_the_network_may_send_again_is_waited_for() {
        let clock = Arc::new(Hand(AtomicU64::new(0)));
        // Nothing listens there, and nothing is sent: this test waits for nothing.
        let replicas = [vec!["127.0.0.1:9".to_owned()], vec!["127.0.0.2:9".to_owned()]];
        let cluster = Cluster::new(&replicas, clock.clone());
        let debts = Debts::new(2);
        let shared = Shared { cluster, debts, stripes: Stripes::default(), repairs: Repairs::default() };
        let health = shared.cluster.server(0).health();
        health.failed();
        for (key, may_arrive) in [("sent", true), ("not sent", false)] {
            shared.debts.owe(0, key, shared.now(), Owed::Acknowledged, may_arrive);
            // A repair that is due for one server is one for all of them.
            shared.debts.owe(1, key, shared.now(), Owed::Unacknowledged, may_arrive);
        }
        let due_at = |seconds: u64| {
            clock.0.store(seconds * 1_000, Ordering::Relaxed);
            [0, 1].map(|place| {
                let mut due: Vec<String> = shared.due_at(place).iter().map(ToString::to_string).collect();
                due.sort();
                due
            })
        };
        assert_eq!(due_at(30), [[""; 0], [""; 0]]);
        health.answered();
        assert_eq!(due_at(59), [["not sent"], ["not sent"]]);
        assert_eq!(due_at(61), [["not sent", "sent"], ["not sent", "sent"]]);
    }
}
