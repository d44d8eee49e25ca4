//! How a dataset does, from how asking its store has gone: whether mutations are accepted now, and the cause where they are
//! not. Pure.

use std::time::Duration;

use crate::clock::Untrusted;
use crate::model::{Slices, Timestamp};
use crate::store;

/// How a dataset does, as its process last saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether the store answers what it is asked all the time: why it did not when it was last asked. What was read from
    /// it before may well be good enough to go on with: see [`Health::refusal`].
    pub store: Result<(), String>,
    /// Whether the clock is trusted.
    pub clock: Result<(), Untrusted>,
    /// Whether events of now have a slice to go to.
    pub slices: Result<(), String>,
}

/// Why mutations are refused now: the cause, not what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The store does not answer, or does not have what has to be there.
    #[error("{0}")]
    Store(String),
    /// The store answers, and the clock is not trusted.
    #[error("the clock is not trusted: {0}")]
    Clock(Untrusted),
}

impl Health {
    /// Why mutations of now are refused; `None` where they are accepted.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let cause = match (&self.clock, &self.slices, &self.store) {
            (Ok(()), Ok(()), _) => return None,
            // It was measured, and found wrong.
            (Err(skewed @ (Untrusted::Skewed { .. } | Untrusted::SetBack { .. })), _, _) => {
                Refusal::Clock(skewed.clone())
            }
            (_, _, Err(reason)) => Refusal::Store(reason.clone()),
            // The first answer is on its way.
            (Err(never @ Untrusted::NotMeasured), _, Ok(())) => Refusal::Store(never.to_string()),
            (Err(stale @ Untrusted::Stale { .. }), _, Ok(())) => Refusal::Clock(stale.clone()),
            (Ok(()), Err(reason), Ok(())) => Refusal::Store(reason.clone()),
        };
        Some(cause)
    }
}

/// How asking the store for one thing has gone so far. Times are of the monotonic clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    answered: Option<Duration>,
    failing: Option<Failing>,
}

/// It has failed without interruption…
#[derive(Debug, Clone)]
struct Failing {
    /// …from here on…
    since: Duration,
    /// …and last with this.
    reason: String,
}

impl Asked {
    /// Takes in one more answer. Tells whether it is news: another failure than before, or the end of failing.
    pub fn learn<T>(&mut self, now: Duration, answer: &store::Result<T>) -> bool {
        match answer {
            Ok(_) => {
                self.answered = Some(now);
                self.failing.take().is_some()
            }
            Err(error) => {
                let reason = error.to_string();
                let before = self.failing.take();
                let is_news = before.as_ref().is_none_or(|before| before.reason != reason);
                self.failing = Some(Failing { since: before.map_or(now, |before| before.since), reason });
                is_news
            }
        }
    }

    fn result(&self) -> Result<(), String> {
        self.failing.as_ref().map_or(Ok(()), |failing| Err(failing.reason.clone()))
    }
}

/// Whether the store answers. It does where only the clock's comparison fails while it answers other questions.
fn store(clock: &Asked, slices: &Asked) -> Result<(), String> {
    slices.result()?;
    match &clock.failing {
        Some(failing) if slices.answered.is_none_or(|answered| answered < failing.since) => Err(failing.reason.clone()),
        _ => Ok(()),
    }
}

/// How a dataset does at `now`, with these slices and this trust in the clock.
pub(super) fn health(
    clock: &Asked,
    slices: &Asked,
    trusted: Result<(), Untrusted>,
    known: &Slices,
    now: Timestamp,
) -> Health {
    let accepting = match known.accepting(now) {
        Some(_) => Ok(()),
        None if known.is_empty() && slices.answered.is_none() => {
            Err("the time slices have not been read yet".to_owned())
        }
        None if known.is_empty() => {
            Err("the dataset has no time slices yet; `tallyman schema apply` creates them".to_owned())
        }
        None => Err("no open time slice covers now; `tallyman schema apply` creates them ahead of time".to_owned()),
    };
    Health { store: store(clock, slices), clock: trusted, slices: accepting }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_SLICES: Result<(), String> = Ok(());

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn down() -> store::Result<()> {
        Err(store::Error::Unavailable { reason: "nobody is there".to_owned() })
    }

    fn stale() -> Untrusted {
        Untrusted::Stale { age: seconds(9) }
    }

    fn asked(answers: &[(u64, store::Result<()>)]) -> Asked {
        let mut asked = Asked::default();
        for (at, answer) in answers {
            asked.learn(seconds(*at), answer);
        }
        asked
    }

    fn refusal(clock: &Asked, slices: &Asked, trusted: Result<(), Untrusted>) -> Option<Refusal> {
        Health { store: store(clock, slices), clock: trusted, slices: NO_SLICES }.refusal()
    }

    #[test]
    fn a_failure_is_news_once_and_so_is_its_end() {
        let mut asked = Asked::default();
        let other: store::Result<()> = Err(store::Error::Overloaded);
        let news = [Ok(()), down(), down(), other, Ok(()), Ok(())].map(|answer| asked.learn(seconds(1), &answer));
        assert_eq!(news, [false, true, false, true, true, false]);
    }

    #[test]
    fn a_store_that_never_answered_is_the_cause_and_not_the_clock() {
        let never = asked(&[(1, down())]);
        let refusal = refusal(&never, &Asked::default(), Err(Untrusted::NotMeasured)).unwrap();
        assert_eq!(refusal, Refusal::Store("the store is unavailable: nobody is there".to_owned()));
    }

    #[test]
    fn a_clock_that_was_found_wrong_is_the_cause_though_the_store_is_gone_since() {
        let gone = asked(&[(1, Ok(())), (3, down())]);
        let skewed = Untrusted::Skewed { offset: seconds(3), allowed: seconds(1) };
        assert_eq!(refusal(&gone, &gone, Err(skewed.clone())), Some(Refusal::Clock(skewed)));
    }

    #[test]
    fn a_stale_measurement_is_the_stores_fault_unless_it_answered_something_else_since() {
        let clock = asked(&[(1, Ok(())), (3, down()), (5, down())]);
        let before = asked(&[(2, Ok(()))]);
        assert!(matches!(refusal(&clock, &before, Err(stale())), Some(Refusal::Store(_))));
        let since = asked(&[(2, Ok(())), (4, Ok(()))]);
        assert_eq!(refusal(&clock, &since, Err(stale())), Some(Refusal::Clock(stale())));
        let failed_since = asked(&[(4, Ok(())), (6, down())]);
        assert!(matches!(refusal(&clock, &failed_since, Err(stale())), Some(Refusal::Store(_))));
        assert_eq!(
            refusal(&asked(&[(1, Ok(()))]), &before, Err(stale())),
            Some(Refusal::Clock(stale())),
            "this process was paused"
        );
    }

    #[test]
    fn what_was_read_before_is_good_enough_to_go_on_with() {
        let failing = asked(&[(1, Ok(())), (3, down())]);
        assert_eq!(refusal(&failing, &failing, Ok(())), None);
    }

    #[test]
    fn a_dataset_without_slices_says_who_makes_them() {
        let read = asked(&[(1, Ok(()))]);
        let health = health(&read, &read, Ok(()), &Slices::default(), Timestamp::EPOCH);
        let Some(Refusal::Store(reason)) = health.refusal() else { panic!("{health:?}") };
        assert!(reason.contains("no time slices") && reason.contains("schema apply"), "{reason}");
    }
}
