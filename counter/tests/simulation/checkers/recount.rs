//! The recount: every acknowledged event of a slice that is still kept lies at a quorum of replicas, once, as it was sent.

use tallyman_counter::model::{EventItem, SliceState};

use super::describe;
use crate::cassandra::Cluster;
use crate::cassandra::cells::event_item;
use crate::cassandra::store::union_of_events;
use crate::history::Records;
use crate::invariants::{Invariant, Violation};
use crate::model::Kind;

pub fn check(records: &Records, cluster: &Cluster) -> Vec<Violation> {
    let union = union_of_events(cluster);
    let mut found = Vec::new();
    for (id, mutation) in records.mutations.iter().enumerate() {
        let slice = records.slice_moves.iter().filter(|moved| moved.record.contains(mutation.key.event_time));
        let dropped = slice.into_iter().any(|moved| moved.state == SliceState::Dropped);
        if dropped || mutation.acknowledgement().is_none() {
            continue;
        }
        let stored = union.get(&(records.counters[mutation.counter].clone(), mutation.key.clone()));
        let delta = mutation.kind.delta();
        let right = stored.is_some_and(|(cell, copies)| {
            let item = event_item(mutation.key.event_item_key, *cell);
            *copies >= 2
                && match mutation.kind {
                    Kind::Clear => item == EventItem::Clear,
                    Kind::Add { reusable, .. } => {
                        item == EventItem::Add(delta) || (reusable && item == EventItem::Add(delta.wrapping_mul(2)))
                    }
                }
        });
        if !right {
            let evidence = format!("{} is stored as {stored:?}", describe(records, id));
            found.push(Violation { invariant: Invariant::ExactlyOnce, evidence });
        }
    }
    found
}
