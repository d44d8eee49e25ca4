//! The states that runs are meant to reach. A simulation that never gets there proves nothing about them.

use std::collections::BTreeMap;

macro_rules! states {
    ($($name:ident: $sentence:literal,)*) => {
        /// A state worth reaching.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum State { $($name,)* }

        impl State {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The state as a sentence.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

states! {
    TimeoutApplied: "a write timed out for its caller and was applied",
    TimeoutNotApplied: "a write timed out for its caller and was never applied",
    AckLost: "a write reached every replica and its acknowledgement was lost",
    StoreUnavailable: "the store said that it was unavailable before anything was written",
    ReplicaDown: "a replica was down when a message came",
    HintDelivered: "a hint was delivered",
    HintAfterBoundary: "a hint brought an event after the boundary had passed it",
    ReadRepair: "a read repaired a stale replica",
    ReadSawStaleReplica: "a quorum read merged a stale replica with a current one",
    NodeClocksFailed: "the store nodes' clocks could not be read",
    ClockSteppedWithin: "a clock stepped by less than the skew allowed",
    ClockSteppedFar: "a clock stepped far beyond the skew allowed",
    SkewRefused: "a sidecar refused a mutation because its clock was not trusted",
    EventTimeRefused: "an event time outside the accept limit was refused",
    TokenReuseRefused: "a token sent with another delta was refused",
    OutcomeUnknown: "a client was told that the outcome is unknown",
    RetryAcknowledged: "a retry was acknowledged after an earlier attempt had ended unknown",
    RetryOtherSidecar: "a retry through another sidecar was acknowledged",
    HedgeBothAcknowledged: "both copies of a hedged mutation were acknowledged",
    LateDuplicateAcknowledged: "a duplicate was acknowledged again after a while",
    UnknownCounted: "a mutation that was never acknowledged was counted",
    UnknownNotCounted: "a mutation that was never acknowledged was not counted",
    FutureEventAcknowledged: "an event time ahead of true time was acknowledged",
    ClearBetweenAdds: "a clear fell between adds of one rollup's window",
    ClearUnknown: "a clear was never acknowledged",
    WindowRolledUpTwice: "two servers wrote checkpoints of one counter at the same time of rollup",
    LateCheckpointRejected: "a stalled rollup's late checkpoint lost to a newer one",
    RollupStalled: "a rollup server stalled",
    RollupCrashed: "a rollup server crashed",
    RollupStopped: "a rollup server stopped gracefully",
    RollupScaled: "the number of rollup servers changed",
    SidecarCrashed: "a sidecar crashed",
    SidecarStopped: "a sidecar stopped gracefully",
    RollupEventLost: "a rollup event was lost between a sidecar and a rollup server",
    SweepHealed: "a counter whose every rollup event was lost was rolled up all the same",
    CacheWriteLost: "the cache lost a write",
    CacheFlushed: "the cache lost its entries",
    CacheTimedOut: "the cache did not answer",
    CacheLateRejected: "a late cache write lost to a newer one",
    AccurateSawPending: "an accurate read counted an event that no checkpoint covered",
    StaleReadUpgraded: "a read bound by max_staleness was answered in real time",
    SliceBoundaryCrossed: "a counter's events fell into more than one slice",
    SliceSettingsChanged: "two slices had different settings",
    SliceClosed: "a slice was closed",
    SliceDropped: "a slice was dropped",
    QueueFull: "a rollup event found its queue full",
    RollupEventMisrouted: "a rollup event went to two rollup servers",
    ScanPaged: "a scan took more than one page",
    ListingPaged: "a listing took more than one page",
    ConfigurationOutOfOrder: "a change of configuration reached processes in different order",
}

/// How often each state was reached.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    counts: BTreeMap<State, u64>,
}

impl Coverage {
    pub fn reached(&mut self, state: State) {
        *self.counts.entry(state).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (state, count) in &other.counts {
            *self.counts.entry(*state).or_default() += count;
        }
    }

    /// The states that no run reached.
    pub fn missing(&self) -> Vec<State> {
        State::ALL.iter().copied().filter(|state| !self.counts.contains_key(state)).collect()
    }

    /// One line a state.
    pub fn report(&self) -> String {
        let line = |state: &State| {
            let count = self.counts.get(state).copied().unwrap_or(0);
            format!("{count:>10}  {}\n", state.sentence())
        };
        State::ALL.iter().map(line).collect()
    }
}
