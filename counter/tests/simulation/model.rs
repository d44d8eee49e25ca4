//! The sequential model: which counts are possible, given what became of each mutation of a counter.
//!
//! Every add of a counter is ± a power of four of its own, so that a count shows how often each add is in it.

/// Adds that a counter can take: the sum of all, each up to three times, still fits a count of 64 bits.
pub const ADDS_MAX: u32 = 31;

/// What a mutation does to the model's counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The add of digit `digit`; where `reusable`, its token was also sent with twice the delta.
    Add {
        digit: u32,
        negative: bool,
        reusable: bool,
    },
    Clear,
}

impl Kind {
    pub fn delta(self) -> i64 {
        match self {
            Self::Add { digit, negative, .. } => (1_i64 << (2 * digit)) * if negative { -1 } else { 1 },
            Self::Clear => 0,
        }
    }
}

/// Whether a mutation is in a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Must,
    May,
    MustNot,
}

/// A mutation as a judgement of one count needs it.
#[derive(Debug, Clone)]
pub struct Judged {
    pub id: usize,
    pub kind: Kind,
    pub presence: Presence,
}

/// How a count differs from every possible one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A mutation that must be counted is not.
    Lost(usize),
    /// A mutation is counted more than once.
    Doubled(usize),
    /// A mutation is counted that must not be.
    Unexpected(usize),
    /// An add is counted though a clear comes after it.
    NotCleared { add: usize, clear: usize },
    /// The count is no sum of the counter's adds.
    Undecodable,
}

/// How often each add is in `count`, by digit.
pub fn digits(mutations: &[Judged], count: i128) -> Option<[u8; ADDS_MAX as usize]> {
    let mut negative = [false; ADDS_MAX as usize];
    let mut shifted = count;
    for mutation in mutations {
        if let Kind::Add { digit, negative: true, .. } = mutation.kind {
            negative[digit as usize] = true;
            shifted += 3 << (2 * digit);
        }
    }
    let mut rest = u64::try_from(shifted).ok()?;
    let mut digits = [0; ADDS_MAX as usize];
    for (digit, negative) in digits.iter_mut().zip(negative) {
        *digit = (rest & 3) as u8;
        if negative {
            *digit = 3 - *digit;
        }
        rest >>= 2;
    }
    (rest == 0).then_some(digits)
}

/// What is wrong with `count`; nothing, if some choice of the mutations that may be in it makes it. `mutations` are all of
/// the counter's, in the order of their keys.
pub fn faults(mutations: &[Judged], count: i128) -> Vec<Fault> {
    let Some(digits) = digits(mutations, count) else { return vec![Fault::Undecodable] };
    let known = |digit: u32| mutations.iter().any(|m| matches!(m.kind, Kind::Add { digit: d, .. } if d == digit));
    if (0..ADDS_MAX).any(|digit| digits[digit as usize] > 0 && !known(digit)) {
        return vec![Fault::Undecodable];
    }
    let certain = mutations.iter().rposition(|m| m.kind == Kind::Clear && m.presence == Presence::Must);
    let possible = mutations.iter().enumerate().skip(certain.map_or(0, |certain| certain + 1));
    let possible = possible.filter(|(_, m)| m.kind == Kind::Clear && m.presence == Presence::May);
    let clears = std::iter::once(certain).chain(possible.map(|(index, _)| Some(index)));
    let candidates = clears.map(|clear| faults_given(mutations, &digits, clear));
    candidates.min_by_key(Vec::len).unwrap_or_default()
}

fn faults_given(mutations: &[Judged], digits: &[u8], clear: Option<usize>) -> Vec<Fault> {
    let mut found = Vec::new();
    for (index, mutation) in mutations.iter().enumerate() {
        let Kind::Add { digit, reusable, .. } = mutation.kind else { continue };
        let times = digits[digit as usize];
        let (id, once) = (mutation.id, if reusable { 2 } else { 1 });
        if let Some(clear) = clear.filter(|clear| index < *clear) {
            if times > 0 {
                found.push(Fault::NotCleared { add: id, clear: mutations[clear].id });
            }
            continue;
        }
        if times > once {
            found.push(Fault::Doubled(id));
        } else if times == 0 && mutation.presence == Presence::Must {
            found.push(Fault::Lost(id));
        } else if times > 0 && mutation.presence == Presence::MustNot {
            found.push(Fault::Unexpected(id));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutation(id: usize, kind: Kind, presence: Presence) -> Judged {
        Judged { id, kind, presence }
    }

    fn add(id: usize, digit: u32, negative: bool, presence: Presence) -> Judged {
        mutation(id, Kind::Add { digit, negative, reusable: false }, presence)
    }

    #[test]
    fn a_count_shows_which_add_was_lost_right_or_doubled_also_among_negative_ones() {
        let adds =
            [add(0, 0, false, Presence::Must), add(1, 1, true, Presence::Must), add(2, 30, false, Presence::Must)];
        let right = 1 - 4 + (1 << 60);
        assert_eq!(faults(&adds, right), vec![]);
        assert_eq!(faults(&adds, right - 1), vec![Fault::Lost(0)]);
        assert_eq!(faults(&adds, right + 4), vec![Fault::Lost(1)]);
        assert_eq!(faults(&adds, right - 4), vec![Fault::Doubled(1)]);
        assert_eq!(faults(&adds, right + (1 << 60)), vec![Fault::Doubled(2)]);
        assert_eq!(faults(&adds, right + 16), vec![Fault::Undecodable]);
        assert_eq!(faults(&adds, -(1 << 70)), vec![Fault::Undecodable]);
    }

    #[test]
    fn a_mutation_of_unknown_outcome_may_be_in_a_count_once() {
        let adds = [add(0, 0, false, Presence::Must), add(1, 1, false, Presence::May)];
        assert_eq!(faults(&adds, 1), vec![]);
        assert_eq!(faults(&adds, 5), vec![]);
        assert_eq!(faults(&adds, 9), vec![Fault::Doubled(1)]);
        assert_eq!(faults(&adds, 4), vec![Fault::Lost(0)]);
    }

    #[test]
    fn a_refused_mutation_must_not_be_in_a_count() {
        assert_eq!(faults(&[add(0, 0, false, Presence::MustNot)], 1), vec![Fault::Unexpected(0)]);
    }

    #[test]
    fn a_clear_takes_what_is_ordered_before_it_and_an_unknown_one_takes_all_or_nothing() {
        let with = |presence| {
            [
                add(0, 0, false, Presence::Must),
                add(1, 1, false, Presence::Must),
                mutation(2, Kind::Clear, presence),
                add(3, 2, false, Presence::Must),
            ]
        };
        assert_eq!(faults(&with(Presence::Must), 16), vec![]);
        assert_eq!(faults(&with(Presence::Must), 17), vec![Fault::NotCleared { add: 0, clear: 2 }]);
        assert_eq!(faults(&with(Presence::May), 16), vec![]);
        assert_eq!(faults(&with(Presence::May), 21), vec![]);
        assert_eq!(faults(&with(Presence::May), 17).len(), 1);
    }

    #[test]
    fn a_token_sent_with_two_deltas_counts_with_one_of_them() {
        let reused = [mutation(0, Kind::Add { digit: 3, negative: false, reusable: true }, Presence::Must)];
        assert_eq!(faults(&reused, 64), vec![]);
        assert_eq!(faults(&reused, 128), vec![]);
        assert_eq!(faults(&reused, 192), vec![Fault::Doubled(0)]);
        assert_eq!(faults(&reused, 0), vec![Fault::Lost(0)]);
    }
}
