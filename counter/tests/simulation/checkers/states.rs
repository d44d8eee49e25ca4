//! Which states a finished run reached that no single place could see.

use std::collections::BTreeSet;

use super::Ordered;
use crate::cassandra::Cluster;
use crate::cassandra::store::union_of_events;
use crate::coverage::State;
use crate::history::{Outcome, Records};
use crate::model::Kind;
use crate::world::{SimTime, World};

pub fn mark(records: &Records, cluster: &Cluster, world: &World) {
    let ordered = Ordered::new(records);
    mutations(records, cluster, world);
    windows(records, &ordered, world);
}

fn mutations(records: &Records, cluster: &Cluster, world: &World) {
    let union = union_of_events(cluster);
    for mutation in &records.mutations {
        let outcomes = || mutation.attempts.iter().filter_map(|attempt| attempt.ended.map(|(at, o)| (at, o, attempt)));
        let acknowledged: Vec<_> = outcomes().filter(|(_, o, _)| *o == Outcome::Acknowledged).collect();
        let unknown: Vec<_> = outcomes().filter(|(_, o, _)| *o == Outcome::Unknown).collect();
        if !unknown.is_empty() {
            world.reached(State::OutcomeUnknown);
        }
        let Some((first_at, _, _)) = acknowledged.first() else {
            if mutation.may_be_written(SimTime(u64::MAX)) {
                let counter = records.counters[mutation.counter].clone();
                let stored = union.contains_key(&(counter, mutation.key.clone()));
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
