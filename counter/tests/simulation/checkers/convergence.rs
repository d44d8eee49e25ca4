//! Convergence: some time after the last write, every counter's eventual reply covers everything acknowledged.
//! That such a reply is exact then, [`replies`](super::replies) checks.

use super::describe;
use crate::history::{Records, Reply};
use crate::invariants::{Invariant, Violation};

/// Judges the eventual replies to the reads made when the bound had passed.
pub fn check(records: &Records, invariant: Invariant, replies: &[Reply]) -> Vec<Violation> {
    let mut found = Vec::new();
    for reply in replies {
        let of_counter = records.mutations.iter().enumerate().filter(|(_, m)| m.counter == reply.counter);
        let acknowledged = of_counter.filter(|(_, mutation)| mutation.acknowledgement().is_some());
        let mut missing = acknowledged.filter(|(_, mutation)| mutation.key.event_time > reply.as_of);
        if let Some((id, _)) = missing.next_back() {
            let evidence = format!(
                "counter {} read at {} by process {} does not cover {}",
                reply.counter,
                reply.ended.0,
                reply.process,
                describe(records, id)
            );
            found.push(Violation { invariant, evidence });
        }
    }
    found
}
