//! Retention loses nothing: when a slice is closed, a quorum is certain to know every acknowledged event in it as counted.

use super::describe;
use crate::history::{Mutation, Records, SliceMove};
use crate::invariants::{Invariant, Violation};

pub fn check(records: &Records) -> Vec<Violation> {
    let mut found = Vec::new();
    for moved in &records.slice_moves {
        for (id, mutation) in records.mutations.iter().enumerate() {
            if is_uncovered(records, moved, mutation) {
                let (state, at) = (moved.state, moved.at.0);
                let evidence = format!("a slice became {state:?} at {at} without {}", describe(records, id));
                found.push(Violation { invariant: Invariant::RetentionLosesNothing, evidence });
            }
        }
    }
    found
}

/// Whether `mutation` is acknowledged, in the slice, and was in no certain checkpoint when the slice was moved on.
pub fn is_uncovered(records: &Records, moved: &SliceMove, mutation: &Mutation) -> bool {
    if !moved.record.contains(mutation.key.event_time) || mutation.acknowledgement().is_none() {
        return false;
    }
    let certain = moved.certain.get(&records.counters[mutation.counter]);
    certain.is_none_or(|certain| *certain < mutation.key.event_time)
}
