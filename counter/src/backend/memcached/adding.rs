//! An add, on one replica or on several.
//!
//! On several, the increment goes to all that answer, without making the counter where it is absent: only then does a miss show
//! what a replica has forgotten. What a miss means:
//!
//! - All replicas answered, and none has the counter: it is new. That it is about to be made is announced on all of them, for a
//!   few seconds; then each makes it at the delta or, where another process was quicker, adds the delta. So processes that make
//!   one counter at the same time end with the same sum everywhere.
//! - Another replica has it, and here it is announced: this one has forgotten nothing since before the counter was made, it is
//!   only not so far yet. It makes the counter, or adds, just so. Not where the other one's is provisional: this one was given up
//!   on, and the announcement came late.
//! - Another replica has it, and here it is not announced: this one has forgotten it. It is copied from the other one.
//! - Others do not answer: they are asked again for a moment, as one that is only slow has forgotten nothing. Where one stays silent,
//!   the counter is made marked as provisional; whatever a replica knows that comes back is right then. Where all answer, and nothing
//!   was sent to those who had been silent, the add begins afresh. Where something was, and they do not know the counter, it is made
//!   where it was absent, and owed by them; where they know it, the add's outcome is unknown.

use std::time::Duration;

use futures::StreamExt;
use memcache::exp::{Arithmetic, Set};

use super::answer;
use super::best_effort::Shared;
use super::cluster::Place;
use super::copies::Copy;
use super::debts::Owed;
use super::encoding;
use super::server::Reply;
use crate::store::{Error, Result};

/// For how long a counter that is announced may be in the making. Longer than increments that cross on the way take.
const ANNOUNCED_SECONDS: u32 = 5;

/// An add of `delta` to the counter of `key`.
#[derive(Clone, Copy)]
pub(super) struct Adding<'a> {
    pub shared: &'a Shared,
    pub key: &'a str,
    pub delta: i64,
    pub ttl: Duration,
}

/// What became of an increment at one replica.
enum Leg {
    Applied(u64),
    /// There is no such counter; nothing was applied.
    Absent,
    /// It never left this process, or was refused.
    NotApplied(Error),
    /// It may have been applied, or may be yet.
    Unknown(Error),
}

impl Leg {
    fn of(result: Result<Option<u64>>) -> Self {
        match result {
            Ok(Some(stored)) => Self::Applied(stored),
            Ok(None) => Self::Absent,
            Err(error) if error.is_outcome_unknown() => Self::Unknown(error),
            Err(error) => Self::NotApplied(error),
        }
    }
}

/// Whether any replica has the counter, as far as their answers tell.
enum Known {
    Somewhere,
    /// No replica that answers has it.
    Nowhere,
    /// Those that answer do not have it, and others are silent.
    PerhapsBySilent,
}

impl Known {
    fn of(legs: &[Leg]) -> Self {
        let absent = legs.iter().filter(|leg| matches!(leg, Leg::Absent)).count();
        if legs.iter().any(|leg| matches!(leg, Leg::Applied(_))) {
            Self::Somewhere
        } else if absent > 0 && absent < legs.len() {
            Self::PerhapsBySilent
        } else {
            Self::Nowhere
        }
    }
}

/// Until it is told otherwise, nothing is known of an add's legs: a caller who gives up leaves them so, and was told nothing.
struct Unsettled<'a> {
    adding: Adding<'a>,
    places: &'a [Place],
    settled: bool,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.places.iter().for_each(|&place| self.adding.owe(place, Owed::Unacknowledged, true));
        }
    }
}

impl Adding<'_> {
    /// With one replica, what it does not know nobody knows.
    pub(super) async fn on_the_only_replica(self, place: Place) -> Result<i64> {
        let added = answer::incremented(self.make_or_increment(place).get().await?)?;
        added.map(encoding::to_count).ok_or_else(|| Error::Corrupt {
            reason: "memcached neither made the counter nor incremented it".to_owned(),
        })
    }

    pub(super) async fn on_replicas(self, places: &[Place]) -> Result<i64> {
        let mut unsettled = Unsettled { adding: self, places, settled: false };
        let result = self.on_replicas_unguarded(places).await;
        unsettled.settled = true;
        result
    }

    async fn on_replicas_unguarded(self, places: &[Place]) -> Result<i64> {
        let mut stripe = self.shared.stripes.of(self.key).read().await;
        let mut legs = self.increment_all(places).await;
        let mut known = Known::of(&legs);
        if matches!(known, Known::PerhapsBySilent) {
            // Nothing is applied yet, and others of the stripe need not wait, too.
            drop(stripe);
            known = self.ask_silent(places, &legs).await;
            stripe = self.shared.stripes.of(self.key).read().await;
            let nothing_was_sent = !legs.iter().any(|leg| matches!(leg, Leg::Unknown(_)));
            if nothing_was_sent && !matches!(known, Known::PerhapsBySilent) {
                // Afresh: others may have made the counter meanwhile, where it was absent.
                legs = self.increment_all(places).await;
                known = match (known, Known::of(&legs)) {
                    (Known::Somewhere, Known::PerhapsBySilent) => Known::Somewhere,
                    (_, known) => known,
                };
            }
        }
        match known {
            Known::Somewhere => self.make_where_in_the_making(places, &mut legs).await,
            Known::Nowhere => self.make(places, &mut legs).await,
            Known::PerhapsBySilent => self.make_provisionally_where_absent(places, &mut legs).await,
        }
        drop(stripe);
        self.settle(places, legs)
    }

    /// Increments the counter wherever it is.
    async fn increment_all(self, places: &[Place]) -> Vec<Leg> {
        let health = |place: Place| self.shared.cluster.server(place).health();
        // Where nobody answers, all are tried.
        let all_are_down = places.iter().all(|&place| health(place).is_down());
        let answering = |place: &Place| all_are_down || !health(*place).is_down();
        let replies: Vec<Option<Reply>> =
            places.iter().map(|place| answering(place).then(|| self.increment(*place))).collect();
        let mut legs = Vec::with_capacity(places.len());
        for reply in replies {
            legs.push(match reply {
                Some(reply) => Leg::of(reply.get().await.and_then(answer::incremented)),
                None => Leg::NotApplied(Error::Unavailable { reason: "the replica does not answer".to_owned() }),
            });
        }
        legs
    }

    /// Asks those again that have not answered.
    async fn ask_silent(self, places: &[Place], legs: &[Leg]) -> Known {
        let silent = places.iter().zip(legs).filter(|(_, leg)| !matches!(leg, Leg::Absent));
        let mut answers = self.shared.ask_all_again(silent.map(|(&place, _)| place).collect(), self.key);
        let mut known = Known::Nowhere;
        while let Some((_, answer)) = answers.next().await {
            match answer {
                Ok(Some(_)) => return Known::Somewhere,
                Ok(None) => {}
                Err(_) => known = Known::PerhapsBySilent,
            }
        }
        known
    }

    /// Some replica has the counter: makes it, once this add is applied there, where it is about to be made.
    async fn make_where_in_the_making(self, places: &[Place], legs: &mut [Leg]) {
        if !legs.iter().any(|leg| matches!(leg, Leg::Applied(_))) {
            // What was sent to it may have been applied, and be in a copy that was made of it meanwhile.
            return;
        }
        for nth in 0..places.len() {
            if matches!(legs[nth], Leg::Absent)
                && self.shared.is_in_the_making(places[nth], self.key).await
                && self.is_certain_where_applied(places, legs).await
            {
                legs[nth] = Leg::of(self.make_or_increment(places[nth]).get().await.and_then(answer::incremented));
            }
        }
    }

    /// Whether no copy that this add was applied to is provisional. Where one is, an announcement elsewhere came late: whoever sent
    /// it had given up on that replica, and made the counter without it.
    async fn is_certain_where_applied(self, places: &[Place], legs: &[Leg]) -> bool {
        for (&place, _) in places.iter().zip(legs).filter(|(_, leg)| matches!(leg, Leg::Applied(_))) {
            if !matches!(self.shared.copy(place, self.key).await, Ok(Some(copy)) if !copy.provisional) {
                return false;
            }
        }
        true
    }

    /// No replica has the counter: makes it where it was absent from the first.
    async fn make(self, places: &[Place], legs: &mut [Leg]) {
        if legs.iter().all(|leg| matches!(leg, Leg::Absent)) {
            let replies: Vec<Reply> = places.iter().map(|&place| self.announce(place)).collect();
            for (leg, reply) in legs.iter_mut().zip(replies) {
                if let Err(error) = reply.get().await {
                    *leg = Leg::NotApplied(error);
                }
            }
            if !legs.iter().all(|leg| matches!(leg, Leg::Absent)) {
                return self.make_provisionally_where_absent(places, legs).await;
            }
        }
        let make = |(leg, &place): (&Leg, &Place)| matches!(leg, Leg::Absent).then(|| self.make_or_increment(place));
        let replies: Vec<Option<Reply>> = legs.iter().zip(places).map(make).collect();
        for (leg, reply) in legs.iter_mut().zip(replies) {
            if let Some(reply) = reply {
                *leg = Leg::of(reply.get().await.and_then(answer::incremented));
            }
        }
    }

    async fn make_provisionally_where_absent(self, places: &[Place], legs: &mut [Leg]) {
        for (leg, &place) in legs.iter_mut().zip(places) {
            if matches!(leg, Leg::Absent) {
                *leg = Leg::of(self.make_provisionally(place).await);
            }
        }
    }

    fn increment(self, place: Place) -> Reply {
        let increment = Arithmetic::new(self.key).delta(encoding::increment(self.delta));
        self.shared.cluster.server(place).send(self.key, increment)
    }

    fn make_or_increment(self, place: Place) -> Reply {
        let increment = Arithmetic::new(self.key).delta(encoding::increment(self.delta));
        let operation = increment.initial(encoding::to_stored(self.delta), self.ttl_seconds());
        self.shared.cluster.server(place).send(self.key, operation)
    }

    fn ttl_seconds(self) -> u32 {
        encoding::ttl_seconds(self.ttl, self.shared.cluster.clock().now())
    }

    /// Makes the counter, marked as provisional, or increments it where another process was quicker.
    async fn make_provisionally(self, place: Place) -> Result<Option<u64>> {
        let stored = encoding::to_stored(self.delta);
        let copy = Copy::write(self.key, stored, self.ttl_seconds(), true).add();
        if answer::stored(self.shared.cluster.server(place).send(self.key, copy).get().await?)?.is_some() {
            return Ok(Some(stored));
        }
        answer::incremented(self.increment(place).get().await?)
    }

    fn announce(self, place: Place) -> Reply {
        let announcement = Set::new(encoding::announcement_key(self.key), "1").ttl_raw(ANNOUNCED_SECONDS);
        self.shared.cluster.server(place).send(self.key, announcement)
    }

    fn owe(self, place: Place, owed: Owed, may_arrive: bool) {
        self.shared.debts.owe(place, self.key, self.shared.now(), owed, may_arrive);
    }

    /// The add's outcome, and what replicas owe for it. One that applied it is enough.
    fn settle(self, places: &[Place], legs: Vec<Leg>) -> Result<i64> {
        let applied = legs.iter().zip(places).filter_map(|(leg, &place)| match leg {
            Leg::Applied(stored) => Some((self.shared.debts.owed(place, self.key), *stored)),
            _ => None,
        });
        // Of the replica that has missed least.
        let Some((_, stored)) = applied.min_by_key(|&(owes, _)| owes) else {
            return Err(self.failure(places, legs));
        };
        for (leg, &place) in legs.iter().zip(places) {
            match leg {
                Leg::Applied(_) => {}
                Leg::Absent | Leg::NotApplied(_) => self.owe(place, Owed::Acknowledged, false),
                Leg::Unknown(_) => self.owe(place, Owed::Acknowledged, true),
            }
        }
        Ok(encoding::to_count(stored))
    }

    /// Nobody is known to have applied it.
    fn failure(self, places: &[Place], legs: Vec<Leg>) -> Error {
        let mut failure = Error::Unavailable { reason: "the counter comes and goes".to_owned() };
        for (leg, &place) in legs.into_iter().zip(places) {
            match leg {
                Leg::Unknown(error) => {
                    self.owe(place, Owed::Unacknowledged, true);
                    failure = error;
                }
                Leg::NotApplied(error) if !failure.is_outcome_unknown() => failure = error,
                _ => {}
            }
        }
        failure
    }
}
