//! The invariants that runs are held to, named once.

use std::fmt;

/// An invariant of the design, by its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    ExactlyOnce = 1,
    AtMostOnce = 2,
    NoReplyLies = 3,
    Monotone = 4,
    SameWindowSameCount = 5,
    Convergence = 6,
    Clear = 7,
    Bounds = 8,
    GracefulStop = 9,
    RetentionLosesNothing = 13,
    SkewNeverMiscounts = 14,
    ChangeIsSafe = 15,
}

impl Invariant {
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "an acknowledged mutation is counted exactly once",
            Self::AtMostOnce => "a mutation that was not acknowledged is counted once or never",
            Self::NoReplyLies => "every reply keeps its promise",
            Self::Monotone => "last_rollup_ts of a counter never decreases in store or cache",
            Self::SameWindowSameCount => "two rollups to the same boundary agree on every acknowledged mutation",
            Self::Convergence => "without writes the eventual count becomes exact in bounded time",
            Self::Clear => "after a clear the count is the sum of the adds ordered after it",
            Self::Bounds => "queues and buffers stay within their limits",
            Self::GracefulStop => "a graceful stop drops nothing that a second's flush can send",
            Self::RetentionLosesNothing => "no event is dropped before a checkpoint covers it",
            Self::SkewNeverMiscounts => "clocks further apart than max_clock_skew cost no count",
            Self::ChangeIsSafe => "settings changed in any order of arrival lose and double nothing",
        }
    }
}

/// An invariant that did not hold, and where.
#[derive(Debug, Clone)]
pub struct Violation {
    pub invariant: Invariant,
    pub evidence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, sentence) = (self.invariant as u8, self.invariant.sentence());
        write!(f, "invariant {number} ({sentence}): {}", self.evidence)
    }
}
