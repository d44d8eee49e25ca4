//! One checker for each property. They judge a finished run by its [`History`](crate::history::History).

pub mod checkpoints;
pub mod convergence;
pub mod recount;
pub mod replies;
pub mod retention;
pub mod states;

use tallyman_counter::model::Timestamp;

use crate::cassandra::Cluster;
use crate::history::{Mutation, Records};
use crate::invariants::Violation;
use crate::model::{Judged, Presence};
use crate::world::SimTime;

/// The mutations of each counter in the order of their keys.
pub struct Ordered {
    by_counter: Vec<Vec<usize>>,
}

impl Ordered {
    pub fn new(records: &Records) -> Self {
        let mut by_counter = vec![Vec::new(); records.counters.len()];
        for (id, mutation) in records.mutations.iter().enumerate() {
            by_counter[mutation.counter].push(id);
        }
        for ids in &mut by_counter {
            ids.sort_by(|a, b| records.mutations[*a].key.cmp(&records.mutations[*b].key));
        }
        Self { by_counter }
    }

    pub fn of(&self, counter: usize) -> &[usize] {
        &self.by_counter[counter]
    }

    /// The counter's mutations with what `presence` says of each.
    fn judged(
        &self,
        records: &Records,
        counter: usize,
        presence: impl Fn(usize, &Mutation) -> Presence,
    ) -> Vec<Judged> {
        let judge = |&id: &usize| {
            let mutation = &records.mutations[id];
            Judged { id, kind: mutation.kind, presence: presence(id, mutation) }
        };
        self.by_counter[counter].iter().map(judge).collect()
    }

    /// For a count of everything up to and including `as_of`, made before `made`.
    pub fn up_to(&self, records: &Records, counter: usize, as_of: Timestamp, made: SimTime) -> Vec<Judged> {
        self.judged(records, counter, |_, mutation| {
            if mutation.key.event_time > as_of {
                Presence::MustNot
            } else if mutation.acknowledgement().is_some() {
                Presence::Must
            } else if mutation.may_be_written(made) {
                Presence::May
            } else {
                Presence::MustNot
            }
        })
    }

    /// For a count of everything acknowledged before `began`, made before `made`; `own` is in it too.
    pub fn acknowledged_before(
        &self,
        records: &Records,
        counter: usize,
        began: SimTime,
        made: SimTime,
        own: Option<usize>,
    ) -> Vec<Judged> {
        self.judged(records, counter, |id, mutation| {
            let acknowledged = mutation.acknowledgement();
            if acknowledged.is_some_and(|(at, _)| at < began) || own == Some(id) {
                Presence::Must
            } else if mutation.may_be_written(made) {
                Presence::May
            } else {
                Presence::MustNot
            }
        })
    }
}

/// A mutation, for people.
pub fn describe(records: &Records, id: usize) -> String {
    let mutation = &records.mutations[id];
    let attempts: Vec<String> = mutation
        .attempts
        .iter()
        .map(|attempt| {
            let ended = attempt.ended.map(|(at, outcome)| format!("{outcome:?} at {}", at.0));
            let ended = ended.unwrap_or_else(|| "never answered".into());
            format!(
                "process {} from {}: {ended} (clock {:+} µs)",
                attempt.process, attempt.started.0, attempt.clock_offset_us
            )
        })
        .collect();
    let time = mutation.key.event_time.as_micros() - SimTime(0).timestamp().as_micros();
    format!(
        "mutation {id} {:?} of counter {} at event time {time} ({})",
        mutation.kind,
        mutation.counter,
        attempts.join("; ")
    )
}

/// All checkers' findings, what was found during the run included.
pub fn violations(records: &Records, cluster: &Cluster) -> Vec<Violation> {
    let ordered = Ordered::new(records);
    let mut found = records.violations.clone();
    found.extend(checkpoints::check(records, &ordered));
    found.extend(replies::check(records, &ordered));
    found.extend(retention::check(records));
    found.extend(recount::check(records, cluster));
    found
}
