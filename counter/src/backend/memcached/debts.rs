//! Which counters each server may have wrong: it missed an add, or may have, or has forgotten them. They are put right from
//! another replica as soon as both answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::cluster::Place;

/// The most counters remembered for one server. More are forgotten: it then answers what it has.
const COUNTERS_MAX: usize = 64 * 1024;

/// What may be wrong with a server's copy of a counter. The better copy is first in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owed {
    /// It may differ from others by adds that nobody was told had counted: with these or without them, it is as good as another.
    Unacknowledged,
    /// Adds that were acknowledged may be missing.
    Acknowledged,
}

/// What a server owes a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Debt {
    pub owed: Owed,
    /// An add may still be on its way to the server.
    pub may_arrive: bool,
    /// When that was last so, or when it was made, by monotonic time.
    pub since: Duration,
    /// Tells a debt from a later one of the same counter.
    nth: u64,
}

#[derive(Default)]
struct OfServer {
    counters: Mutex<HashMap<Arc<str>, Debt>>,
    count: AtomicUsize,
}

impl OfServer {
    fn counters(&self) -> MutexGuard<'_, HashMap<Arc<str>, Debt>> {
        // Nothing panics while it is held half changed.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self, counters: &HashMap<Arc<str>, Debt>) {
        self.count.store(counters.len(), Ordering::Release);
    }
}

/// The debts of every server of a cluster.
pub(super) struct Debts {
    servers: Vec<OfServer>,
    made: AtomicU64,
    forgotten: AtomicU64,
    new: Notify,
}

impl Debts {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            servers: std::iter::repeat_with(OfServer::default).take(servers).collect(),
            made: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            new: Notify::new(),
        }
    }

    /// The server at `place` has `key` wrong since `now`.
    pub(super) fn owe(&self, place: Place, key: &str, now: Duration, owed: Owed, may_arrive: bool) {
        let server = &self.servers[place];
        let mut counters = server.counters();
        let nth = self.made.fetch_add(1, Ordering::Relaxed);
        if let Some(debt) = counters.get_mut(key) {
            // Adds that never left here put nothing off.
            let since = if may_arrive { now } else { debt.since };
            *debt = Debt { owed: owed.max(debt.owed), may_arrive: may_arrive || debt.may_arrive, since, nth };
        } else if counters.len() < COUNTERS_MAX {
            counters.insert(key.into(), Debt { owed, may_arrive, since: now, nth });
        } else {
            self.forgotten.fetch_add(1, Ordering::Relaxed);
        }
        server.counted(&counters);
        drop(counters);
        self.new.notify_one();
    }

    /// What the server at `place` owes `key`.
    pub(super) fn of(&self, place: Place, key: &str) -> Option<Debt> {
        let server = &self.servers[place];
        if server.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        server.counters().get(key).copied()
    }

    /// What the server at `place` owes `key`, if anything: the less, the better its copy.
    pub(super) fn owed(&self, place: Place, key: &str) -> Option<Owed> {
        self.of(place, key).map(|debt| debt.owed)
    }

    /// `debt` is paid, unless there is a later one by now.
    pub(super) fn paid(&self, place: Place, key: &str, debt: Debt) {
        let server = &self.servers[place];
        let mut counters = server.counters();
        if counters.get(key) == Some(&debt) {
            counters.remove(key);
        }
        server.counted(&counters);
    }

    /// The counter is gone everywhere.
    pub(super) fn cancel(&self, place: Place, key: &str) {
        let server = &self.servers[place];
        if server.count.load(Ordering::Acquire) > 0 {
            let mut counters = server.counters();
            counters.remove(key);
            server.counted(&counters);
        }
    }

    /// Up to `most` counters that the server at `place` owes and that `is_due`.
    pub(super) fn due(&self, place: Place, most: usize, is_due: impl Fn(&str, &Debt) -> bool) -> Vec<Arc<str>> {
        let counters = self.servers[place].counters();
        counters.iter().filter(|(key, debt)| is_due(key, debt)).take(most).map(|(key, _)| key.clone()).collect()
    }

    /// Debts of all servers.
    pub(super) fn count(&self) -> usize {
        self.servers.iter().map(|server| server.count.load(Ordering::Acquire)).sum()
    }

    /// Debts that there was no room for.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Waits for a new debt.
    pub(super) async fn arise(&self) {
        self.new.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    #[test]
    fn a_debt_that_was_made_again_meanwhile_is_not_paid() {
        let debts = Debts::new(2);
        debts.owe(1, "k", NOW, Owed::Acknowledged, false);
        let first = debts.of(1, "k").unwrap();
        debts.owe(1, "k", NOW, Owed::Acknowledged, false);
        debts.paid(1, "k", first);
        let second = debts.of(1, "k").unwrap();
        debts.paid(1, "k", second);
        assert_eq!((debts.of(1, "k"), debts.count()), (None, 0));
    }

    #[test]
    fn a_debt_is_as_grave_as_the_gravest_that_it_was_made_for() {
        let debts = Debts::new(1);
        let grave = [Owed::Unacknowledged, Owed::Acknowledged, Owed::Unacknowledged].map(|owed| {
            debts.owe(0, "k", NOW, owed, false);
            debts.owed(0, "k").unwrap()
        });
        assert_eq!(grave, [Owed::Unacknowledged, Owed::Acknowledged, Owed::Acknowledged]);
        assert!(debts.owed(0, "other") < Some(Owed::Unacknowledged));
    }

    #[test]
    fn a_debt_is_put_off_by_adds_that_may_arrive_and_by_no_others() {
        let debts = Debts::new(1);
        let since = [(1, true), (2, false), (3, true), (4, false)].map(|(seconds, may_arrive)| {
            debts.owe(0, "k", Duration::from_secs(seconds), Owed::Acknowledged, may_arrive);
            let debt = debts.of(0, "k").unwrap();
            assert!(debt.may_arrive);
            debt.since.as_secs()
        });
        assert_eq!(since, [1, 1, 3, 3]);
    }

    #[test]
    fn debts_are_bounded_and_what_is_forgotten_is_counted() {
        let debts = Debts::new(1);
        for nth in 0..COUNTERS_MAX + 3 {
            debts.owe(0, &nth.to_string(), NOW, Owed::Acknowledged, true);
        }
        debts.owe(0, "0", NOW, Owed::Acknowledged, true);
        assert_eq!((debts.count(), debts.forgotten()), (COUNTERS_MAX, 3));
        assert_eq!(debts.due(0, 10, |_, _| true).len(), 10);
        assert_eq!(debts.due(0, 10, |_, debt| debt.since > NOW).len(), 0);
    }
}
