//! Load in which every add can be told from every other one, sent at a steady pace through all sidecars, some adds twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tallyman_api::client::{Client, Error};
use tallyman_api::proto::IdempotencyToken;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::ledger::{ADDS_MAX, Fate, Ledger, delta};
use crate::{PATIENCE, now};

/// Requests under way at once; where they are not answered, no more are sent.
const IN_FLIGHT_MAX: usize = 256;
/// Sendings of an add that is not acknowledged.
const SENDINGS_MAX: usize = 4;
const POLL: Duration = Duration::from_millis(50);

/// What is sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The namespace.
    pub namespace: String,
    /// Counters that are counted on at the same time; once each has had all its adds, as many others follow.
    pub counters: usize,
    /// Adds per second.
    pub adds_per_second: u32,
    /// Of five adds, so many are sent again to another sidecar though they were acknowledged.
    pub resent_of_five: u64,
}

/// Load that runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    books: Arc<Mutex<Books>>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

/// An add that was acknowledged.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// Its counter.
    pub counter: String,
    /// Its event's time, in microseconds since the epoch.
    pub event_time: i64,
    /// When its sender knew.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct Books {
    ledger: Ledger,
    acknowledged: Vec<Acknowledged>,
    /// How often which error was seen.
    errors: BTreeMap<String, u64>,
}

/// One add on its way.
#[derive(Debug, Clone)]
struct Sending {
    namespace: Arc<str>,
    counter: String,
    add: usize,
    token: IdempotencyToken,
}

impl Load {
    /// Begins. There is a client per sidecar.
    pub fn start(clients: Vec<Client>, plan: Plan) -> Self {
        assert!(!clients.is_empty() && plan.counters > 0, "there is somebody to send to, and something to count");
        let books = Arc::new(Mutex::new(Books::default()));
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(clients, plan, books.clone(), stop.clone()));
        Self { books, stop, running }
    }

    /// Waits until so many more adds are acknowledged: that long the load goes on, and it does go on.
    pub async fn acknowledges(&self, more: usize) {
        let acknowledged = || self.books.lock().unwrap().ledger.number_of(Fate::Acknowledged);
        let (before, started) = (acknowledged(), now());
        while acknowledged() < before + more {
            assert!(!self.running.is_finished(), "the load has ended");
            let summary = self.summary();
            assert!(started.elapsed() < PATIENCE, "not {more} more adds acknowledged within {PATIENCE:?}: {summary}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends nothing more, waits for every answer that is due, and returns the books.
    pub async fn stop(self) -> Ledger {
        self.stop_and_tell_times().await.0
    }

    /// As [`Load::stop`], with when each add was acknowledged.
    pub async fn stop_and_tell_times(self) -> (Ledger, Vec<Acknowledged>) {
        self.stop.cancel();
        let summary = self.books.clone();
        self.running.await.unwrap();
        let books = std::mem::take(&mut *summary.lock().unwrap());
        eprintln!("load: {}; errors: {:?}", books.ledger, books.errors);
        (books.ledger, books.acknowledged)
    }

    fn summary(&self) -> String {
        let books = self.books.lock().unwrap();
        format!("{}; errors: {:?}", books.ledger, books.errors)
    }
}

async fn run(clients: Vec<Client>, plan: Plan, books: Arc<Mutex<Books>>, stop: CancellationToken) {
    let mut pace = tokio::time::interval(Duration::from_secs(1) / plan.adds_per_second);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut in_flight = JoinSet::new();
    for (number, (counter, add)) in adds(plan.counters).enumerate() {
        while in_flight.len() >= IN_FLIGHT_MAX {
            in_flight.join_next().await.unwrap().unwrap();
        }
        tokio::select! {
            () = stop.cancelled() => break,
            _ = pace.tick() => {}
        }
        while in_flight.try_join_next().is_some() {}
        let sending =
            Sending { namespace: plan.namespace.as_str().into(), counter, add, token: clients[0].new_token() };
        let dice = mixed(number as u64);
        let is_resent = dice % 5 < plan.resent_of_five;
        let first = usize::try_from((dice >> 32) % clients.len() as u64).unwrap();
        in_flight.spawn(settle(clients.clone(), first, sending, is_resent, books.clone()));
    }
    while let Some(settled) = in_flight.join_next().await {
        settled.unwrap();
    }
}

/// All adds there will ever be: each counter gets its adds one by one between those of others.
fn adds(counters: usize) -> impl Iterator<Item = (String, usize)> {
    (0_u64..).flat_map(move |generation| {
        let add = move |add: usize| (0..counters).map(move |counter| (format!("{generation}/{counter}"), add));
        (0..ADDS_MAX).flat_map(add)
    })
}

/// Sends an add until it is acknowledged, to one sidecar after the other, always with its token.
async fn settle(clients: Vec<Client>, first: usize, sending: Sending, is_resent: bool, books: Arc<Mutex<Books>>) {
    let record = |fate| books.lock().unwrap().ledger.record(&sending.counter, sending.add, fate);
    let client = |nth: usize| &clients[(first + nth) % clients.len()];
    // From now on it may have been applied, until something else is known.
    let mut fate = Fate::Refused;
    let mut sendings = 0;
    while sendings < SENDINGS_MAX && fate != Fate::Acknowledged {
        fate = fate.max(sending.send(client(sendings), &books).await);
        sendings += 1;
    }
    record(fate);
    if fate == Fate::Acknowledged {
        let acknowledged = sending.acknowledged();
        books.lock().unwrap().acknowledged.push(acknowledged);
    }
    if is_resent {
        record(sending.send(client(sendings), &books).await);
    }
}

impl Sending {
    fn acknowledged(&self) -> Acknowledged {
        let time = self.token.generation_time.as_ref().unwrap();
        let event_time = time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000;
        Acknowledged { counter: self.counter.clone(), event_time, at: now() }
    }

    async fn send(&self, client: &Client, books: &Mutex<Books>) -> Fate {
        let sent = client.add(&self.namespace, &self.counter, delta(self.add), Some(self.token.clone())).await;
        let Err(error) = sent else { return Fate::Acknowledged };
        *books.lock().unwrap().errors.entry(name(&error).to_owned()).or_default() += 1;
        match error {
            Error::OutcomeUnknown { .. } => Fate::Unknown,
            Error::EventTimeOutOfRange(_)
            | Error::ClockSkew(_)
            | Error::Overloaded(_)
            | Error::Unavailable(_)
            | Error::NamespaceUnknown(_) => Fate::Refused,
            error => panic!("{}, add {}: {error}", self.counter, self.add),
        }
    }
}

fn name(error: &Error) -> &'static str {
    match error {
        Error::OutcomeUnknown { .. } => "outcome unknown",
        Error::EventTimeOutOfRange(_) => "event time out of range",
        Error::ClockSkew(_) => "clock skew",
        Error::Overloaded(_) => "overloaded",
        Error::Unavailable(_) => "unavailable",
        Error::NamespaceUnknown(_) => "namespace unknown",
        _ => "other",
    }
}

/// Numbers as if drawn (splitmix64), the same in every run.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_gets_every_add_once_between_those_of_others() {
        let all: Vec<_> = adds(3).take(2 * 3 * ADDS_MAX).collect();
        assert_eq!(
            all[..4].iter().map(|(counter, add)| (counter.as_str(), *add)).collect::<Vec<_>>(),
            [("0/0", 0), ("0/1", 0), ("0/2", 0), ("0/0", 1)]
        );
        assert_eq!(all[3 * ADDS_MAX], ("1/0".to_owned(), 0));
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn adds_are_spread_over_sidecars_and_a_fifth_is_sent_again() {
        let draws: Vec<u64> = (0..10_000).map(mixed).collect();
        let share = |is_so: fn(&u64) -> bool| draws.iter().filter(|draw| is_so(draw)).count();
        assert!((1_800..2_200).contains(&share(|draw| draw % 5 < 1)));
        assert!((4_700..5_300).contains(&share(|draw| (draw >> 32) % 2 == 0)));
    }
}
