//! Which states a finished run reached that no single place could see.

use std::collections::{BTreeMap, BTreeSet};

use super::Ordered;
use crate::coverage::State;
use crate::history::{Outcome, Promise, Records};
use crate::model::{Kind, Presence, digits};
use crate::world::{SimTime, World};

pub fn mark(records: &Records, world: &World) {
    let ordered = Ordered::new(records);
    mutations(records, world);
    windows(records, &ordered, world);
    unknowns(records, &ordered, world);
    pending(records, &ordered, world);
}

fn mutations(records: &Records, world: &World) {
    for mutation in &records.mutations {
        let outcomes = || mutation.attempts.iter().filter_map(|attempt| attempt.ended.map(|(at, o)| (at, o, attempt)));
        let acknowledged: Vec<_> = outcomes().filter(|(_, o, _)| *o == Outcome::Acknowledged).collect();
        let unknown: Vec<_> = outcomes().filter(|(_, o, _)| *o == Outcome::Unknown).collect();
        if !unknown.is_empty() {
            world.reached(State::OutcomeUnknown);
        }
        let Some((first_at, _, _)) = acknowledged.first() else {
            if mutation.may_be_written(SimTime(u64::MAX)) {
                let stored = records.stored.contains(&(mutation.counter, mutation.key.clone()));
                world.reached(if stored { State::TimeoutApplied } else { State::TimeoutNotApplied });
                if mutation.kind == Kind::Clear {
                    world.reached(State::ClearUnknown);
                }
            }
            continue;
        };
        if mutation.key.event_time > first_at.timestamp() {
            world.reached(State::FutureEventAcknowledged);
        }
        for (at, _, attempt) in &acknowledged {
            for (failed_at, _, failed) in unknown.iter().filter(|(failed_at, _, _)| failed_at < at) {
                world.reached(State::RetryAcknowledged);
                if failed.process != attempt.process && failed_at <= &attempt.started {
                    world.reached(State::RetryOtherSidecar);
                }
            }
        }
        for (_, _, later) in acknowledged.iter().skip(1) {
            let together = later.started <= *first_at;
            world.reached(if together { State::HedgeBothAcknowledged } else { State::LateDuplicateAcknowledged });
        }
    }
}

fn windows(records: &Records, ordered: &Ordered, world: &World) {
    let mut seen = BTreeSet::new();
    for offered in &records.checkpoints {
        let place = (offered.counter, offered.checkpoint.last_rollup_ts);
        let others = seen.range((place, 0)..=(place, usize::MAX));
        if others.into_iter().any(|(_, process)| *process != offered.process) {
            world.reached(State::WindowRolledUpTwice);
        }
        seen.insert((place, offered.process));
    }
    for counter in 0..records.counters.len() {
        let mut times: Vec<_> = seen.iter().filter(|((c, _), _)| *c == counter).map(|((_, ts), _)| *ts).collect();
        times.dedup();
        let acknowledged = |id: &&usize| records.mutations[**id].acknowledgement().is_some();
        let ids: Vec<usize> = ordered.of(counter).iter().filter(acknowledged).copied().collect();
        for around in ids.windows(3) {
            let [before, clear, after] = [0, 1, 2].map(|index| &records.mutations[around[index]]);
            let adds = before.kind != Kind::Clear && clear.kind == Kind::Clear && after.kind != Kind::Clear;
            let split = times.iter().any(|ts| before.key.event_time <= *ts && *ts < after.key.event_time);
            if adds && !split {
                world.reached(State::ClearBetweenAdds);
            }
        }
        let slices: BTreeSet<_> =
            ids.iter().filter_map(|id| records.slice_of(records.mutations[*id].key.event_time)).collect();
        if slices.len() > 1 {
            world.reached(State::SliceBoundaryCrossed);
        }
    }
}

/// What became of mutations that nobody acknowledged, by each counter's last checkpoint.
fn unknowns(records: &Records, ordered: &Ordered, world: &World) {
    let mut last = BTreeMap::new();
    for offered in &records.checkpoints {
        let latest = last.entry(offered.counter).or_insert(offered);
        if offered.checkpoint > latest.checkpoint {
            *latest = offered;
        }
    }
    for (counter, offered) in last {
        let checkpoint = offered.checkpoint;
        let judged = ordered.up_to(records, counter, checkpoint.last_rollup_ts, offered.at);
        let Some(digits) = digits(&judged, checkpoint.last_rollup_count) else { continue };
        let cleared = judged.iter().rposition(|mutation| mutation.kind == Kind::Clear).map_or(0, |clear| clear + 1);
        for mutation in judged.iter().skip(cleared).filter(|mutation| mutation.presence == Presence::May) {
            if let Kind::Add { digit, .. } = mutation.kind {
                let counted = digits[digit as usize] > 0;
                world.reached(if counted { State::UnknownCounted } else { State::UnknownNotCounted });
            }
        }
    }
}

/// Replies that knew more than any checkpoint made before them.
fn pending(records: &Records, ordered: &Ordered, world: &World) {
    for reply in &records.replies {
        let before = records.checkpoints.iter().filter(|c| c.counter == reply.counter && c.at < reply.ended);
        let Some(latest) = before.map(|offered| offered.checkpoint.last_rollup_ts).max() else { continue };
        match reply.promise {
            Promise::Eventual => {}
            Promise::Bounded { .. } if reply.as_of > latest => world.reached(State::StaleReadUpgraded),
            Promise::Bounded { .. } => {}
            Promise::Accurate => {
                let judged = ordered.acknowledged_before(records, reply.counter, reply.began, reply.ended, reply.own);
                let Some(digits) = digits(&judged, reply.count) else { continue };
                let saw = judged.iter().any(|mutation| match mutation.kind {
                    Kind::Add { digit, .. } => {
                        digits[digit as usize] > 0 && records.mutations[mutation.id].key.event_time > latest
                    }
                    Kind::Clear => false,
                });
                if saw {
                    world.reached(State::AccurateSawPending);
                }
            }
        }
    }
}
