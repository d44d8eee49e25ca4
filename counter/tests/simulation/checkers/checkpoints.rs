//! Every checkpoint that was offered to the store is right by itself; so any two at one time agree on what was acknowledged.

use super::retention::is_uncovered;
use super::{Ordered, describe};
use crate::history::{Mutation, OfferedCheckpoint, Records};
use crate::invariants::{Invariant, Violation};
use crate::model::{Fault, faults};

pub fn check(records: &Records, ordered: &Ordered) -> Vec<Violation> {
    let mut found = Vec::new();
    for offered in &records.checkpoints {
        let as_of = offered.checkpoint.last_rollup_ts;
        let judged = ordered.up_to(records, offered.counter, as_of, offered.at);
        for fault in faults(&judged, offered.checkpoint.last_rollup_count) {
            let (invariant, what) = match fault {
                Fault::Lost(id) => (cause(records, &records.mutations[id], offered), describe(records, id)),
                Fault::Doubled(id) => (twice(&records.mutations[id]), describe(records, id)),
                Fault::Unexpected(id) if records.mutations[id].key.event_time > as_of => {
                    (Invariant::SameWindowSameCount, describe(records, id))
                }
                Fault::Unexpected(id) => (Invariant::AtMostOnce, describe(records, id)),
                Fault::NotCleared { add, clear } => {
                    (Invariant::Clear, format!("{} before {}", describe(records, add), describe(records, clear)))
                }
                Fault::Undecodable => (Invariant::NoReplyLies, "no sum of the counter's adds".into()),
            };
            let evidence = format!(
                "checkpoint {} of counter {} by process {} at {} (clock {:+} µs): {fault:?}, {what}",
                offered.checkpoint.last_rollup_count,
                offered.counter,
                offered.process,
                offered.at.0,
                offered.clock_offset_us,
            );
            found.push(Violation { invariant, evidence });
        }
    }
    found
}

fn twice(mutation: &Mutation) -> Invariant {
    if mutation.acknowledgement().is_some() { Invariant::ExactlyOnce } else { Invariant::AtMostOnce }
}

/// Which promise was broken when an acknowledged mutation is missing: the most particular that fits.
fn cause(records: &Records, mutation: &Mutation, offered: &OfferedCheckpoint) -> Invariant {
    let event_time = mutation.key.event_time;
    let slice = records.slice_moves.iter().find(|moved| moved.record.contains(event_time));
    if slice.is_some_and(|moved| moved.at <= offered.at && is_uncovered(records, moved, mutation)) {
        return Invariant::RetentionLosesNothing;
    }
    let Some((acknowledged_at, attempt)) = mutation.acknowledgement() else { return Invariant::AtMostOnce };
    let settings = records.settings_at(event_time);
    if let Some(settings) = settings {
        let half_us = settings.max_clock_skew.as_micros() as i64 / 2;
        if attempt.clock_offset_us.abs() > half_us || offered.clock_offset_us.abs() > half_us {
            return Invariant::SkewNeverMiscounts;
        }
        let theirs = |process: usize| records.configured_settings(process, offered.at);
        if [attempt.process, offered.process].iter().any(|process| theirs(*process).is_some_and(|s| s != settings)) {
            return Invariant::ChangeIsSafe;
        }
        let immutable_from = event_time.plus(settings.lag()).minus(settings.max_clock_skew / 2);
        if acknowledged_at > offered.at || offered.at.timestamp() < immutable_from {
            return Invariant::SameWindowSameCount;
        }
    }
    Invariant::ExactlyOnce
}
