//! The copies of one counter on its replicas: what one looks like, and which of them is right. Pure functions.

use memcache::exp::{Get, Meta, Set};

use super::answer::Item;
use super::debts::Owed;
use super::encoding;
use crate::store::{Error, Result};

/// Client flag of a copy that was made while not every replica could be asked whether it knows the counter: another one that
/// does, when it is back, is right.
const PROVISIONAL: u32 = 1;
/// Lives are counted in whole seconds, by each server on its own.
const AGE_SLACK_SECONDS: u32 = 2;

/// A counter as one replica has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copy {
    pub stored: u64,
    pub cas: u64,
    pub seconds_left: u32,
    pub provisional: bool,
}

impl Copy {
    /// Reads what [`Copy::of`] understands.
    pub(super) fn read(key: &str) -> Get {
        Get::new(key).meta(Meta::NONE.cas().ttl())
    }

    /// A copy as it was read. One that lives for ever is not ours, and is taken for one that lives as long as any can.
    pub(super) fn of(item: &Item) -> Result<Self> {
        let foreign = || Error::Corrupt { reason: format!("a counter holds {:?}", item.value) };
        Ok(Self {
            stored: encoding::stored(&item.value).ok_or_else(foreign)?,
            cas: item.cas.unwrap_or(0),
            seconds_left: item.seconds_left.unwrap_or(u32::MAX),
            provisional: item.flags & PROVISIONAL != 0,
        })
    }

    /// Writes `stored`, on top of what the caller sets.
    pub(super) fn write(key: &str, stored: u64, ttl: u32, provisional: bool) -> Set {
        Set::new(key, stored.to_string()).ttl_raw(ttl).client_flags(if provisional { PROVISIONAL } else { 0 })
    }

    fn is_elder_than(&self, other: &Self) -> bool {
        self.seconds_left.saturating_add(AGE_SLACK_SECONDS) < other.seconds_left
    }
}

/// What a replica said of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Copy(Copy),
    Absent,
    Unreachable,
}

/// A replica's word, and what it owes the counter, if anything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Witness {
    pub seen: Seen,
    pub owes: Option<Owed>,
}

/// What makes the copies of a counter agree. Indices are those of the witnesses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repair {
    /// Whose copy is right.
    pub source: usize,
    /// Who gets it.
    pub targets: Vec<usize>,
    /// Whether the source, provisional so far, turned out to be all that is left.
    pub confirms: bool,
}

/// What makes the copies agree; `None` where there is no copy. Right is what is not provisional, owes the least, and is the elder:
/// a copy that was made later than another was made by a server that had forgotten it.
pub(super) fn repair(witnesses: &[Witness]) -> Option<Repair> {
    let copies = || {
        witnesses.iter().enumerate().filter_map(|(index, witness)| match witness.seen {
            Seen::Copy(copy) => Some((index, copy, witness.owes)),
            Seen::Absent | Seen::Unreachable => None,
        })
    };
    let mut right: Option<(usize, Copy, Option<Owed>)> = None;
    for candidate in copies() {
        let better = right.is_none_or(|best| {
            let doubts = |(_, copy, owes): (usize, Copy, Option<Owed>)| (copy.provisional, owes);
            doubts(candidate) < doubts(best)
                || (doubts(candidate) == doubts(best) && candidate.1.is_elder_than(&best.1))
        });
        if better {
            right = Some(candidate);
        }
    }
    let (source, copy, _) = right?;
    let needs_it = |(index, witness): (usize, &Witness)| {
        let wrong = match witness.seen {
            Seen::Absent => true,
            Seen::Unreachable => false,
            Seen::Copy(other) => witness.owes.is_some() || other.provisional || copy.is_elder_than(&other),
        };
        (index != source && wrong).then_some(index)
    };
    let all_answered = witnesses.iter().all(|witness| witness.seen != Seen::Unreachable);
    Some(Repair {
        source,
        targets: witnesses.iter().enumerate().filter_map(needs_it).collect(),
        confirms: copy.provisional && all_answered,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copy(seconds_left: u32, provisional: bool) -> Seen {
        Seen::Copy(Copy { stored: 1, cas: 1, seconds_left, provisional })
    }

    const MISSED: Option<Owed> = Some(Owed::Acknowledged);
    const MAY_DIFFER: Option<Owed> = Some(Owed::Unacknowledged);

    fn decide(witnesses: &[(Seen, Option<Owed>)]) -> Option<Repair> {
        let witnesses: Vec<_> = witnesses.iter().map(|&(seen, owes)| Witness { seen, owes }).collect();
        repair(&witnesses)
    }

    fn expect(witnesses: &[(Seen, Option<Owed>)], source: usize, targets: &[usize], confirms: bool) {
        let expected = Repair { source, targets: targets.to_vec(), confirms };
        assert_eq!(decide(witnesses), Some(expected), "{witnesses:?}");
    }

    #[test]
    fn what_is_right_goes_to_those_who_lack_it_or_missed_an_add() {
        expect(&[(copy(90, false), None), (Seen::Absent, MISSED)], 0, &[1], false);
        expect(&[(Seen::Absent, MISSED), (copy(90, false), None)], 1, &[0], false);
        expect(&[(copy(90, false), MISSED), (copy(90, false), None)], 1, &[0], false);
        expect(&[(copy(90, false), None), (copy(90, false), None)], 0, &[], false);
        assert_eq!(decide(&[(Seen::Absent, MISSED), (Seen::Absent, None)]), None);
        assert_eq!(decide(&[(Seen::Absent, MISSED), (Seen::Unreachable, None)]), None);
    }

    #[test]
    fn a_copy_made_while_another_replica_was_away_gives_way_to_what_that_one_knows() {
        expect(&[(copy(90, true), None), (copy(50, false), MISSED)], 1, &[0], false);
        expect(&[(copy(90, true), None), (Seen::Absent, MISSED)], 0, &[1], true);
        expect(&[(copy(90, true), None), (Seen::Unreachable, MISSED)], 0, &[], false);
    }

    #[test]
    fn a_copy_that_may_differ_by_what_nobody_was_told_outweighs_one_that_missed_what_was_acknowledged() {
        expect(&[(copy(90, false), MISSED), (copy(90, false), MAY_DIFFER)], 1, &[0], false);
        expect(&[(copy(90, false), MAY_DIFFER), (copy(50, false), MISSED)], 0, &[1], false);
        expect(&[(copy(90, false), MAY_DIFFER), (copy(90, false), None)], 1, &[0], false);
    }

    #[test]
    fn of_two_copies_the_elder_is_right_and_a_second_of_difference_is_none() {
        expect(&[(copy(90, false), None), (copy(50, false), None)], 1, &[0], false);
        expect(&[(copy(51, false), None), (copy(50, false), None)], 0, &[], false);
        expect(&[(copy(90, true), None), (copy(50, true), None)], 1, &[0], true);
    }

    proptest! {
        #[test]
        fn after_a_repair_every_replica_that_answers_agrees_and_nothing_is_left_to_do(
            witnesses in proptest::collection::vec((0..3_u8, 0..100_u32, any::<bool>(), 0..3_usize), 1..5)
        ) {
            let mut witnesses: Vec<Witness> = witnesses
                .into_iter()
                .enumerate()
                .map(|(index, (kind, seconds_left, provisional, owes))| {
                    let stored = Copy { stored: index as u64, cas: 1, seconds_left, provisional };
                    let seen = [Seen::Copy(stored), Seen::Absent, Seen::Unreachable][usize::from(kind)];
                    Witness { seen, owes: [None, MAY_DIFFER, MISSED][owes] }
                })
                .collect();
            let Some(first) = repair(&witnesses) else {
                prop_assert!(witnesses.iter().all(|witness| !matches!(witness.seen, Seen::Copy(_))));
                return Ok(());
            };
            let Seen::Copy(mut right) = witnesses[first.source].seen else { panic!("the source has a copy") };
            right.provisional &= !first.confirms;
            for &index in first.targets.iter().chain([&first.source]) {
                witnesses[index] = Witness { seen: Seen::Copy(right), owes: None };
            }
            let second = repair(&witnesses).expect("there is a copy");
            let reachable_are_right = witnesses.iter().all(|witness| match witness.seen {
                Seen::Copy(copy) => copy.seconds_left.abs_diff(right.seconds_left) <= AGE_SLACK_SECONDS || copy == right,
                Seen::Absent => false,
                Seen::Unreachable => true,
            });
            prop_assert!(reachable_are_right, "{witnesses:?}");
            // What stays provisional is written again until every replica was heard.
            prop_assert!(second.targets.is_empty() || right.provisional, "{second:?}");
        }
    }
}
