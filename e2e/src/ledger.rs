//! What became of every add, and whether a count agrees with it. Pure.
//!
//! The adds of a counter are distinct powers of 4. In base 4 each has a digit of its own, which is 1 where it was counted and
//! 0 where not; a 2 is an add that was counted twice. So a wrong count names the add that is wrong.

use std::collections::BTreeMap;
use std::fmt;

/// Adds of one counter: their sum, (4^31 − 1) / 3, keeps within a signed 64-bit number, and so it does if all are doubled.
pub const ADDS_MAX: usize = 31;

/// What its sender knows of an add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Not sent, or certainly not applied.
    Refused,
    /// Sent, and perhaps applied.
    Unknown,
    /// Applied.
    Acknowledged,
}

/// The value of a counter's n-th add.
pub fn delta(add: usize) -> i64 {
    assert!(add < ADDS_MAX, "a counter has at most {ADDS_MAX} adds");
    1 << (2 * add)
}

/// Something wrong with a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// An acknowledged add is not in it. It may come yet, until the counter has converged.
    Missing {
        /// Which add.
        add: usize,
    },
    /// An add is in it more than once.
    Repeated {
        /// Which add.
        add: usize,
        /// How often.
        times: u8,
    },
    /// An add is in it that was certainly not applied.
    Phantom {
        /// Which add.
        add: usize,
    },
    /// It is no sum of adds.
    Impossible {
        /// The count.
        count: i128,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { add } => write!(f, "add {add} (4^{add}) was acknowledged and is lost"),
            Self::Repeated { add, times } => write!(f, "add {add} (4^{add}) is counted {times} times"),
            Self::Phantom { add } => write!(f, "add {add} (4^{add}) was refused and is counted"),
            Self::Impossible { count } => write!(f, "{count} is no sum of the adds"),
        }
    }
}

/// The fates of all adds, counter by counter.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    counters: BTreeMap<String, [Option<Fate>; ADDS_MAX]>,
}

impl Ledger {
    /// Writes down an add's fate. What is known of it only ever grows.
    pub fn record(&mut self, counter: &str, add: usize, fate: Fate) {
        let known = &mut self.counters.entry(counter.to_owned()).or_default()[add];
        *known = (*known).max(Some(fate));
    }

    /// The counters.
    pub fn counters(&self) -> impl Iterator<Item = &str> {
        self.counters.keys().map(String::as_str)
    }

    /// How many adds have this fate.
    pub fn number_of(&self, fate: Fate) -> usize {
        self.counters.values().flatten().filter(|one| **one == Some(fate)).count()
    }

    /// All that is wrong with a counter's count.
    pub fn faults(&self, counter: &str, count: i128) -> Vec<Fault> {
        let unsent = [None; ADDS_MAX];
        let fates = self.counters.get(counter).unwrap_or(&unsent);
        if count < 0 || count >> (2 * ADDS_MAX) != 0 {
            return vec![Fault::Impossible { count }];
        }
        let fault = |(add, fate): (usize, &Option<Fate>)| {
            // Two bits.
            let times = u8::try_from((count >> (2 * add)) & 3).unwrap();
            match (times, fate) {
                (2.., _) => Some(Fault::Repeated { add, times }),
                (1, None | Some(Fate::Refused)) => Some(Fault::Phantom { add }),
                (0, Some(Fate::Acknowledged)) => Some(Fault::Missing { add }),
                _ => None,
            }
        };
        fates.iter().enumerate().filter_map(fault).collect()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} counters, adds: {} acknowledged, {} unknown, {} refused",
            self.counters.len(),
            self.number_of(Fate::Acknowledged),
            self.number_of(Fate::Unknown),
            self.number_of(Fate::Refused),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 acknowledged, 1 unknown, 2 refused, 3 not sent, 30 acknowledged.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.record("c", 0, Fate::Acknowledged);
        ledger.record("c", 1, Fate::Unknown);
        ledger.record("c", 2, Fate::Refused);
        ledger.record("c", 30, Fate::Acknowledged);
        ledger
    }

    fn count(adds: &[usize]) -> i128 {
        adds.iter().map(|add| i128::from(delta(*add))).sum()
    }

    #[test]
    fn a_count_between_what_was_acknowledged_and_that_with_the_unknown_is_right() {
        assert_eq!(ledger().faults("c", count(&[0, 30])), []);
        assert_eq!(ledger().faults("c", count(&[0, 1, 30])), []);
        assert_eq!(ledger().faults("never written", 0), []);
    }

    #[test]
    fn a_wrong_count_names_the_add_that_is_wrong() {
        let faults = |adds: &[usize]| ledger().faults("c", count(adds));
        assert_eq!(faults(&[30]), [Fault::Missing { add: 0 }]);
        assert_eq!(faults(&[]), [Fault::Missing { add: 0 }, Fault::Missing { add: 30 }]);
        assert_eq!(faults(&[0, 0, 30]), [Fault::Repeated { add: 0, times: 2 }]);
        assert_eq!(faults(&[0, 30, 30, 30]), [Fault::Repeated { add: 30, times: 3 }]);
        assert_eq!(faults(&[0, 1, 1, 30]), [Fault::Repeated { add: 1, times: 2 }]);
        assert_eq!(faults(&[0, 2, 30]), [Fault::Phantom { add: 2 }]);
        assert_eq!(faults(&[0, 3, 30]), [Fault::Phantom { add: 3 }]);
        assert_eq!(ledger().faults("never written", 1), [Fault::Phantom { add: 0 }]);
    }

    #[test]
    fn a_count_that_no_adds_make_is_impossible() {
        assert_eq!(ledger().faults("c", -1), [Fault::Impossible { count: -1 }]);
        assert_eq!(ledger().faults("c", 1 << 62), [Fault::Impossible { count: 1 << 62 }]);
    }

    #[test]
    fn what_is_known_of_an_add_only_grows() {
        let mut ledger = ledger();
        ledger.record("c", 0, Fate::Unknown);
        ledger.record("c", 1, Fate::Acknowledged);
        ledger.record("c", 2, Fate::Unknown);
        assert_eq!(ledger.to_string(), "1 counters, adds: 3 acknowledged, 1 unknown, 0 refused");
    }

    #[test]
    fn the_sum_of_all_adds_fits_a_count_even_if_all_are_doubled() {
        let sum: i128 = (0..ADDS_MAX).map(|add| i128::from(delta(add))).sum();
        assert!(2 * sum <= i128::from(i64::MAX));
    }
}
