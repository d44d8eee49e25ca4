//! Decides, from how attempts ended, whether to send a request again and what to report. Pure: no I/O, no clock.
//!
//! The rules that matter:
//! - A mutation whose attempt may have been applied is sent again only if the namespace is known to honour tokens.
//! - Once any attempt may have been applied, no later refusal can make it "not applied": the outcome is unknown. A late
//!   retry may be refused for its event_time though the first attempt was applied.
//! - Where no attempt was applied and the client made the token, a token that grew too old while waiting is replaced.

use std::time::Duration;

use tonic::Code;

use super::Error;
use crate::{
    proto::IdempotencyToken,
    status::{Reason, Status},
};

/// How often and how fast failed attempts are repeated.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Attempts of one call in all, at least 1. Attempts refused with CLOCK_SKEW do not count: they end with the
    /// deadline alone.
    pub attempts_max: u32,
    /// The wait before the first retry; doubled with each further one. Waits are shortened by up to a half at random.
    pub backoff_min: Duration,
    /// The longest wait, unless the server asks for a longer one.
    pub backoff_max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { attempts_max: 4, backoff_min: Duration::from_millis(20), backoff_max: Duration::from_secs(1) }
    }
}

impl Policy {
    /// The wait after so many attempts, with `jitter` from 0 to 1.
    fn backoff(&self, attempts: u32, jitter: f64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let wait = self.backoff_min.saturating_mul(1 << doublings).min(self.backoff_max);
        wait.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// What a failed attempt may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Certainly nothing.
    None,
    /// Applied or not.
    Unknown,
}

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Again {
    /// Within the policy's attempts.
    Limited,
    /// As long as the deadline allows.
    UntilDeadline,
    /// The answer is final.
    Never,
}

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    effect: Effect,
    again: Again,
    retry_delay: Duration,
    pub(super) status: Status,
}

impl Failure {
    /// A failure that the server, or the transport, reported.
    pub(super) fn reported(status: Status) -> Self {
        let (effect, again) = match status.reason() {
            Some(Reason::OutcomeUnknown) => (Effect::Unknown, Again::Limited),
            Some(Reason::ClockSkew) => (Effect::None, Again::UntilDeadline),
            Some(Reason::Overloaded) => (Effect::None, Again::Limited),
            Some(
                Reason::NamespaceUnknown | Reason::EventTimeOutOfRange | Reason::TokenReused | Reason::CountOverflow,
            ) => (Effect::None, Again::Never),
            None => match status.code() {
                Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::FailedPrecondition
                | Code::Unimplemented => (Effect::None, Again::Never),
                // A broken connection shows as any of these.
                Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Unknown
                | Code::Internal
                | Code::Aborted => (Effect::Unknown, Again::Limited),
                // Sizes that a transport refuses, of the reply perhaps: the request may have been applied.
                Code::ResourceExhausted | Code::OutOfRange | Code::DataLoss | Code::Ok => {
                    (Effect::Unknown, Again::Never)
                }
            },
        };
        let retry_delay = status.retry_delay().unwrap_or_default();
        Self { effect, again, retry_delay, status }
    }

    /// No connection came about: nothing left this process.
    pub(super) fn not_sent(status: Status) -> Self {
        Self { effect: Effect::None, again: Again::Limited, retry_delay: Duration::ZERO, status }
    }

    /// The deadline passed with a request on its way.
    pub(super) fn deadline() -> Self {
        Self::reported(Status::new(Code::DeadlineExceeded, "no answer within the call's deadline"))
    }

    /// The server answered what it may not answer.
    pub(super) fn malformed(what: &str) -> Self {
        Self {
            effect: Effect::Unknown,
            again: Again::Never,
            retry_delay: Duration::ZERO,
            status: Status::new(Code::Internal, format!("malformed reply: {what}")),
        }
    }

    /// How two attempts failed that were on their way together: the more final answer, the less certain effect.
    pub(super) fn and(self, other: Self) -> Self {
        let effect = self.effect.max(other.effect);
        let retry_delay = self.retry_delay.max(other.retry_delay);
        let last = if other.again >= self.again { other } else { self };
        Self { effect, retry_delay, ..last }
    }
}

/// What a call does, as far as sending it twice is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// Changes nothing.
    Read,
    /// Changes a count.
    Mutation {
        /// Whether the namespace honours tokens, as far as known.
        token_honoured: Option<bool>,
        /// Whether the client made the token and may make another.
        token_is_ours: bool,
    },
}

/// What became of the attempts of a call so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct History {
    /// Attempts that count towards the policy's limit.
    counted: u32,
    /// Attempts in all; the backoff grows with them.
    attempts: u32,
    /// Attempts with the present token.
    with_token: u32,
    /// Whether any attempt may have been applied.
    unknown: bool,
}

impl History {
    /// Takes note of a failed attempt.
    pub(super) fn record(&mut self, failure: &Failure) {
        self.attempts += 1;
        self.with_token += 1;
        self.counted += u32::from(failure.again != Again::UntilDeadline);
        self.unknown |= failure.effect == Effect::Unknown;
    }

    /// Takes note of a try to learn whether the namespace honours tokens; it counts as an attempt.
    pub(super) fn record_probe(&mut self) {
        self.attempts += 1;
        self.counted += 1;
    }

    /// Takes note that the next attempt has another token.
    pub(super) fn record_fresh_token(&mut self) {
        self.with_token = 0;
    }
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Decision {
    /// Report [`conclusion`].
    GiveUp,
    /// Send it again after the delay, with a fresh token if so said.
    Retry { delay: Duration, fresh_token: bool },
    /// After the delay, find out by a read whether the namespace honours tokens; then decide again.
    Learn { delay: Duration },
}

/// Decides after the attempt that `failure` tells of and `history` includes.
pub(super) fn decide(
    policy: &Policy,
    operation: Operation,
    history: &History,
    failure: &Failure,
    jitter: f64,
) -> Decision {
    let out_of_attempts = history.counted >= policy.attempts_max && failure.again != Again::UntilDeadline;
    if failure.again == Again::Never {
        return if token_grew_too_old(operation, history, failure) && !out_of_attempts {
            Decision::Retry { delay: Duration::ZERO, fresh_token: true }
        } else {
            Decision::GiveUp
        };
    }
    if out_of_attempts {
        return Decision::GiveUp;
    }
    let delay = failure.retry_delay.max(policy.backoff(history.attempts, jitter));
    match operation {
        Operation::Mutation { token_honoured: Some(false), .. } if history.unknown => Decision::GiveUp,
        Operation::Mutation { token_honoured: None, .. } if history.unknown => Decision::Learn { delay },
        Operation::Read | Operation::Mutation { .. } => Decision::Retry { delay, fresh_token: false },
    }
}

/// Whether a refused event_time comes from waiting. On the first attempt it does not: the clocks differ, and another
/// token would be refused too.
fn token_grew_too_old(operation: Operation, history: &History, failure: &Failure) -> bool {
    let ours = matches!(operation, Operation::Mutation { token_is_ours: true, .. });
    let refused_for_time = failure.status.reason() == Some(Reason::EventTimeOutOfRange);
    ours && refused_for_time && !history.unknown && history.with_token > 1
}

/// What to report after the last attempt. `token` is the mutation's last; reads have none.
pub(super) fn conclusion(
    operation: Operation,
    history: &History,
    last: Status,
    token: Option<&IdempotencyToken>,
) -> Error {
    // These tell what became of the mutation, whatever came before.
    let tells_outcome = matches!(last.reason(), Some(Reason::TokenReused | Reason::CountOverflow));
    match (operation, token) {
        (Operation::Mutation { token_honoured, .. }, Some(token)) if history.unknown && !tells_outcome => {
            Error::OutcomeUnknown { token: token.clone(), token_honoured, last: Box::new(last) }
        }
        _ => Error::from_status(last),
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
