//! What happened in one run, as only the simulation can know it: every attempt, every reply, every checkpoint.
//! Checkers read it when the run is over; what can be judged at once is judged here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tallyman_counter::model::{Checkpoint, CounterKey, EventKey, SliceRecord, SliceSettings, SliceState, Timestamp};

use crate::coverage::State;
use crate::invariants::{Invariant, Violation};
use crate::model::Kind;
use crate::process::Process;
use crate::world::{SimTime, World};

/// How an attempt at a mutation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// Refused for certain: this attempt wrote nothing.
    Refused,
    Unknown,
}

/// One attempt, through one sidecar.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub process: usize,
    pub started: SimTime,
    /// `None` while it is under way, and for good when its sidecar crashed.
    pub ended: Option<(SimTime, Outcome)>,
    /// How far the sidecar's clock was from true time when it answered.
    pub clock_offset_us: i64,
}

/// One mutation, whatever number of attempts it took.
#[derive(Debug, Clone)]
pub struct Mutation {
    pub counter: usize,
    pub key: EventKey,
    pub kind: Kind,
    pub attempts: Vec<Attempt>,
}

impl Mutation {
    /// The first acknowledgement.
    pub fn acknowledgement(&self) -> Option<(SimTime, &Attempt)> {
        let acknowledged = self.attempts.iter().filter_map(|attempt| match attempt.ended {
            Some((at, Outcome::Acknowledged)) => Some((at, attempt)),
            _ => None,
        });
        acknowledged.min_by_key(|(at, _)| *at)
    }

    /// Whether any attempt begun before `time` may have written something.
    pub fn may_be_written(&self, time: SimTime) -> bool {
        let written = |attempt: &Attempt| !matches!(attempt.ended, Some((_, Outcome::Refused)));
        self.attempts.iter().any(|attempt| attempt.started < time && written(attempt))
    }
}

/// What a reply promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Every acknowledged event up to as_of.
    Eventual,
    /// Every mutation acknowledged before the read began.
    Accurate,
    /// The first of the two if as_of is not before `oldest`, else the second.
    Bounded { oldest: Timestamp },
}

/// One reply with a count.
#[derive(Debug, Clone)]
pub struct Reply {
    pub counter: usize,
    pub process: usize,
    pub promise: Promise,
    pub began: SimTime,
    pub ended: SimTime,
    pub count: i128,
    pub as_of: Timestamp,
    /// A mutation of the same request, acknowledged by the reply itself.
    pub own: Option<usize>,
}

/// A checkpoint as a rollup server offered it to the store.
#[derive(Debug, Clone)]
pub struct OfferedCheckpoint {
    pub counter: usize,
    pub process: usize,
    pub at: SimTime,
    pub clock_offset_us: i64,
    pub checkpoint: Checkpoint,
}

/// A slice's state as it was moved on, and what was certain to be rolled up at that moment.
#[derive(Debug, Clone)]
pub struct SliceMove {
    pub record: SliceRecord,
    pub state: SliceState,
    pub at: SimTime,
    pub certain: BTreeMap<CounterKey, Timestamp>,
}

/// A process took over new settings for slices to come.
#[derive(Debug, Clone, Copy)]
pub struct Configured {
    pub process: usize,
    pub at: SimTime,
    pub settings: SliceSettings,
}

#[derive(Debug, Default)]
pub struct Records {
    pub counters: Vec<CounterKey>,
    /// The slices as they were created; their settings are the truth.
    pub slices: Vec<SliceRecord>,
    pub mutations: Vec<Mutation>,
    pub replies: Vec<Reply>,
    pub checkpoints: Vec<OfferedCheckpoint>,
    pub slice_moves: Vec<SliceMove>,
    pub configured: Vec<Configured>,
    /// Rollup events that reached a rollup server: sidecar, counter, when.
    pub forwarded: Vec<(usize, usize, SimTime)>,
    /// Rows read of the rollup table: by which process, of which counter, when.
    pub rows_read: Vec<(usize, usize, SimTime)>,
    /// Events that some replica has had, by counter; slices are dropped, this is not.
    pub stored: BTreeSet<(usize, EventKey)>,
    pub violations: Vec<Violation>,
}

impl Records {
    /// The settings of the slice that an event time falls in.
    pub fn settings_at(&self, event_time: Timestamp) -> Option<SliceSettings> {
        self.slices.iter().find(|record| record.contains(event_time)).map(|record| record.settings)
    }

    /// The start of the slice that an event time falls in.
    pub fn slice_of(&self, event_time: Timestamp) -> Option<Timestamp> {
        self.slices.iter().find(|record| record.contains(event_time)).map(|record| record.start)
    }

    /// The settings that a process had in its own configuration.
    pub fn configured_settings(&self, process: usize, at: SimTime) -> Option<SliceSettings> {
        let mut adopted =
            self.configured.iter().filter(|configured| configured.process == process && configured.at <= at);
        adopted.next_back().map(|configured| configured.settings)
    }
}

/// The record of one run.
pub struct History {
    world: Arc<World>,
    indices: BTreeMap<CounterKey, usize>,
    records: Mutex<Records>,
}

impl History {
    pub fn new(world: &Arc<World>, counters: Vec<CounterKey>) -> Arc<Self> {
        let indices = counters.iter().cloned().enumerate().map(|(index, counter)| (counter, index)).collect();
        let records = Records { counters, ..Records::default() };
        Arc::new(Self { world: world.clone(), indices, records: Mutex::new(records) })
    }

    pub fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap()
    }

    pub fn violated(&self, invariant: Invariant, evidence: String) {
        self.world.note("violation", &[invariant as i128]);
        self.records().violations.push(Violation { invariant, evidence });
    }

    /// A mutation that a client is about to try; its number.
    pub fn mutation(&self, counter: usize, key: EventKey, kind: Kind) -> usize {
        let mut records = self.records();
        records.mutations.push(Mutation { counter, key, kind, attempts: Vec::new() });
        records.mutations.len() - 1
    }

    /// The mutation's token is about to be sent with twice the delta as well.
    pub fn reused(&self, mutation: usize) {
        if let Kind::Add { reusable, .. } = &mut self.records().mutations[mutation].kind {
            *reusable = true;
        }
    }

    /// An attempt begins; its number.
    pub fn attempt(&self, mutation: usize, process: &Process) -> usize {
        let started = self.world.now();
        self.world.note("attempt", &[mutation as i128, process.index as i128]);
        let attempts = &mut self.records().mutations[mutation].attempts;
        attempts.push(Attempt { process: process.index, started, ended: None, clock_offset_us: 0 });
        attempts.len() - 1
    }

    /// An attempt was answered.
    pub fn answered(&self, mutation: usize, attempt: usize, process: &Process, outcome: Outcome) {
        let now = self.world.now();
        self.world.note("answer", &[mutation as i128, attempt as i128, outcome as i128]);
        let attempt = &mut self.records().mutations[mutation].attempts[attempt];
        attempt.ended = Some((now, outcome));
        attempt.clock_offset_us = process.clock.offset_us();
    }

    pub fn replied(&self, reply: Reply) {
        let numbers = [reply.counter as i128, reply.process as i128, reply.count, reply.as_of.as_micros().into()];
        self.world.note("reply", &numbers);
        self.records().replies.push(reply);
    }

    pub fn configured(&self, process: usize, settings: SliceSettings) {
        let at = self.world.now();
        self.records().configured.push(Configured { process, at, settings });
    }

    pub fn checkpoint_offered(&self, process: &Process, counter: &CounterKey, checkpoint: Checkpoint) {
        let Some(&counter) = self.indices.get(counter) else { return };
        let at = self.world.now();
        let ts = checkpoint.last_rollup_ts.as_micros();
        self.world
            .note("checkpoint", &[counter as i128, process.index as i128, ts.into(), checkpoint.last_rollup_count]);
        let clock_offset_us = process.clock.offset_us();
        let offered = OfferedCheckpoint { counter, process: process.index, at, clock_offset_us, checkpoint };
        self.records().checkpoints.push(offered);
    }

    /// A rollup event reached a rollup server.
    pub fn forwarded(&self, process: &Process, counter: &CounterKey) {
        if let Some(&counter) = self.indices.get(counter) {
            let at = self.world.now();
            self.records().forwarded.push((process.index, counter, at));
        }
    }

    /// Whether a rollup event of the counter came from this sidecar since then.
    pub fn was_forwarded(&self, process: usize, counter: usize, since: SimTime) -> bool {
        self.records().forwarded.iter().any(|(p, c, at)| *p == process && *c == counter && *at >= since)
    }

    /// A replica took an event that it did not have.
    pub fn event_stored(&self, counter: &CounterKey, key: &EventKey) {
        if let Some(&counter) = self.indices.get(counter) {
            self.records().stored.insert((counter, key.clone()));
        }
    }

    /// A process asked for a counter's row.
    pub fn row_read(&self, process: &Process, counter: &CounterKey) {
        if let Some(&counter) = self.indices.get(counter) {
            let at = self.world.now();
            self.records().rows_read.push((process.index, counter, at));
        }
    }

    /// Whether this process asked for the counter's row since then, as every rollup does.
    pub fn was_row_read(&self, process: usize, counter: usize, since: SimTime) -> bool {
        self.records().rows_read.iter().any(|(p, c, at)| *p == process && *c == counter && *at >= since)
    }

    /// A replica's checkpoint before and after a write to it.
    pub fn checkpoint_stored(&self, counter: &CounterKey, before: Option<Checkpoint>, after: Option<Checkpoint>) {
        self.replaced("a replica's", counter, before, after);
    }

    /// The cache's entry before and after an offer; what expires or is flushed is no replacement.
    pub fn checkpoint_cached(&self, counter: &CounterKey, before: Option<Checkpoint>, after: Option<Checkpoint>) {
        self.replaced("the cache's", counter, before, after);
    }

    fn replaced(&self, whose: &str, counter: &CounterKey, before: Option<Checkpoint>, after: Option<Checkpoint>) {
        if after < before {
            self.violated(
                Invariant::Monotone,
                format!("{whose} checkpoint of {counter} went from {before:?} to {after:?}"),
            );
        }
    }

    /// A slice was created; its record is the one that counts.
    pub fn slice_created(&self, record: &SliceRecord) {
        let mut records = self.records();
        if records.slices.last().is_some_and(|last| last.settings != record.settings) {
            self.world.reached(State::SliceSettingsChanged);
        }
        records.slices.push(record.clone());
    }

    pub fn slice_moved(&self, record: SliceRecord, state: SliceState, certain: BTreeMap<CounterKey, Timestamp>) {
        let at = self.world.now();
        match state {
            SliceState::Open => {}
            SliceState::Closed => self.world.reached(State::SliceClosed),
            SliceState::Dropped => self.world.reached(State::SliceDropped),
        }
        self.world.note("slice", &[record.start.as_micros().into(), state as i128]);
        self.records().slice_moves.push(SliceMove { record, state, at, certain });
    }
}
