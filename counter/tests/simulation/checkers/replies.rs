//! No reply lies: each is held to what it promised, by all that is known when the run is over.

use super::{Ordered, describe};
use crate::history::{Promise, Records, Reply};
use crate::invariants::{Invariant, Violation};
use crate::model::{Fault, faults};

pub fn check(records: &Records, ordered: &Ordered) -> Vec<Violation> {
    let lies = records.replies.iter().flat_map(|reply| {
        let lies = lies(records, ordered, reply);
        lies.into_iter().map(move |fault| (reply, fault))
    });
    lies.map(|(reply, fault)| violation(records, reply, fault)).collect()
}

fn lies(records: &Records, ordered: &Ordered, reply: &Reply) -> Vec<Fault> {
    let eventual = || faults(&ordered.up_to(records, reply.counter, reply.as_of, reply.ended), reply.count);
    let accurate = || {
        let judged = ordered.acknowledged_before(records, reply.counter, reply.began, reply.ended, reply.own);
        faults(&judged, reply.count)
    };
    match reply.promise {
        Promise::Eventual => eventual(),
        Promise::Accurate => accurate(),
        Promise::Bounded { oldest } if reply.as_of >= oldest && eventual().is_empty() => Vec::new(),
        Promise::Bounded { .. } => accurate(),
    }
}

fn violation(records: &Records, reply: &Reply, fault: Fault) -> Violation {
    let what = match fault {
        Fault::Lost(id) | Fault::Doubled(id) | Fault::Unexpected(id) => describe(records, id),
        Fault::NotCleared { add, clear } => format!("{} before {}", describe(records, add), describe(records, clear)),
        Fault::Undecodable => "no sum of the counter's adds".into(),
    };
    let as_of = reply.as_of.as_micros() - crate::world::SimTime(0).timestamp().as_micros();
    let evidence = format!(
        "{:?} reply {} of counter {} by process {}, as of {as_of}, from {} to {}: {fault:?}, {what}",
        reply.promise, reply.count, reply.counter, reply.process, reply.began.0, reply.ended.0
    );
    Violation { invariant: Invariant::NoReplyLies, evidence }
}
