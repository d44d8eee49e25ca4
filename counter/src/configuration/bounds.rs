//! What the numbers and spans of the document may be, and what they are when left out. Pure.

use std::num::NonZeroU64;
use std::time::Duration;

use super::InvalidDocument;
use super::document::{Span, WholeNumber};
use super::invalid::At;

/// A whole number of the document; never zero.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// Its field.
    pub field: &'static str,
    /// The least allowed.
    pub min: u64,
    /// The greatest allowed.
    pub max: u64,
    /// When left out.
    pub default: u64,
}

/// A span of time of the document.
#[derive(Debug, Clone, Copy)]
pub struct Time {
    /// Its field.
    pub field: &'static str,
    /// The shortest allowed.
    pub min: Duration,
    /// The longest allowed.
    pub max: Duration,
    /// It is a whole multiple of this.
    pub step: Duration,
    /// When left out; without one it may not be.
    pub default: Option<Duration>,
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY_S: u64 = 86_400;

pub const NUM_QUEUES: Number = Number { field: "num_queues", min: 1, max: 1024, default: 8 };
pub const COALESCE_MS: Number = Number { field: "coalesce_ms", min: 1, max: 3_600_000, default: 10_000 };
/// At most a tebibyte, so that the sum over all queues is a number, too.
pub const CAPACITY_BYTES: Number = Number { field: "capacity_bytes", min: 64 << 10, max: 1 << 40, default: 16 << 20 };
pub const ROLLUP_BATCH_COUNT: Number = Number { field: "rollup_batch_count", min: 1, max: 10_000, default: 32 };
pub const BUCKETS_PER_ID: Number = Number { field: "buckets_per_id", min: 1, max: 1024, default: 4 };
pub const SECONDS_PER_BUCKET: Number = Number { field: "seconds_per_bucket", min: 1, max: 365 * DAY_S, default: 600 };
pub const SECONDS_PER_SLICE: Number = Number { field: "seconds_per_slice", min: 1, max: 365 * DAY_S, default: DAY_S };

pub const ACCEPT_LIMIT: Time = Time {
    field: "accept_limit",
    min: MILLISECOND,
    max: HOUR,
    step: MILLISECOND,
    default: Some(Duration::from_secs(5)),
};
pub const WRITE_TIMEOUT: Time = Time {
    field: "write_timeout",
    min: MILLISECOND,
    max: HOUR,
    step: MILLISECOND,
    default: Some(Duration::from_secs(2)),
};
/// At least two milliseconds: processes hold their clocks to half of it.
pub const MAX_CLOCK_SKEW: Time = Time {
    field: "max_clock_skew",
    min: Duration::from_millis(2),
    max: HOUR,
    step: MILLISECOND,
    default: Some(SECOND),
};
pub const CLOSE_AFTER: Time = Time {
    field: "close_after",
    min: SECOND,
    max: Duration::from_secs(36_500 * DAY_S),
    step: SECOND,
    default: Some(Duration::from_secs(6 * DAY_S)),
};
pub const DELETE_AFTER: Time = Time {
    field: "delete_after",
    min: SECOND,
    max: Duration::from_secs(36_500 * DAY_S),
    step: SECOND,
    default: Some(Duration::from_secs(7 * DAY_S)),
};
/// At most 30 days: memcached takes more for a point in time.
pub const TTL: Time =
    Time { field: "ttl", min: SECOND, max: Duration::from_secs(30 * DAY_S), step: SECOND, default: None };

impl Number {
    /// Both ends, as refusals and the documentation write them.
    pub fn range(&self) -> String {
        format!("{} to {}", self.min, self.max)
    }

    /// The number of this field in the object at `at`, or its default.
    pub fn read<T: TryFrom<NonZeroU64>>(&self, at: &At, value: Option<WholeNumber>) -> Result<T, InvalidDocument> {
        let number = value.map_or(self.default, |number| number.0);
        let within = NonZeroU64::new(number).filter(|_| (self.min..=self.max).contains(&number));
        within
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| at.field(self.field).refuse(number, format_args!("a whole number, {}", self.range())))
    }
}

impl Time {
    /// Both ends, as refusals and the documentation write them.
    pub fn range(&self) -> String {
        format!("{} to {}", Span(self.min), Span(self.max))
    }

    /// The span of this field in the object at `at`, or its default.
    pub fn read(&self, at: &At, value: Option<Span>) -> Result<Duration, InvalidDocument> {
        let unit = if self.step == SECOND { "seconds" } else { "milliseconds" };
        let allowed = format!("{}, in whole {unit}", self.range());
        let span = at.required(self.field, value.map(|span| span.0).or(self.default), &allowed)?;
        if span < self.min || span > self.max || span.as_nanos() % self.step.as_nanos() != 0 {
            return Err(at.field(self.field).refuse(Span(span), allowed));
        }
        Ok(span)
    }
}
