//! Points in time, in microseconds.

use std::fmt;
use std::time::Duration;

/// A point in time: microseconds since the Unix epoch, as event times, boundaries and checkpoints are counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The earliest time that can be written down.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time that can be written down.
    pub const MAX: Self = Self(i64::MAX);
    /// The smallest step between two times.
    pub const STEP: Duration = Duration::from_micros(1);

    /// The time `micros` microseconds after the epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// `self + span`, stopping at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(micros(span)))
    }

    /// `self − span`, stopping at [`Timestamp::MIN`].
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(micros(span)))
    }

    /// The last time before this one.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The time from `earlier` to `self`; zero where `earlier` is not earlier.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0))
    }

    /// How far the two times lie apart, whichever is the later.
    #[must_use]
    pub fn distance(self, other: Self) -> Duration {
        self.since(other).max(other.since(self))
    }

    /// The first whole multiple of `step` that is not before this time (`step` of at least a microsecond).
    #[must_use]
    pub fn rounded_up(self, step: Duration) -> Self {
        let step = micros(step).max(1);
        let rest = self.0.rem_euclid(step);
        if rest == 0 { self } else { Self(self.0.saturating_add(step - rest)) }
    }

    /// The last whole multiple of `step` that is not after this time (`step` of at least a microsecond).
    #[must_use]
    pub fn rounded_down(self, step: Duration) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(micros(step).max(1))))
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time}"),
            // Beyond the years that a calendar writes; the number still says which time was meant.
            Err(_) => write!(f, "{}µs", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_up_and_down_brackets_the_time_also_before_the_epoch() {
        let second = Duration::from_secs(1);
        for micros in [-1_500_000, -1, 0, 1, 999_999, 1_000_000, 1_000_001] {
            let time = Timestamp::from_micros(micros);
            let (down, up) = (time.rounded_down(second), time.rounded_up(second));
            assert!(down <= time && time <= up, "{micros}");
            assert!(up.since(down) <= second, "{micros}");
            assert_eq!(down.as_micros() % 1_000_000, 0);
            assert_eq!(up.as_micros() % 1_000_000, 0);
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(Timestamp::MAX.plus(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.minus(Duration::MAX), Timestamp::MIN);
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::MIN.rounded_down(Duration::from_secs(1)), Timestamp::MIN);
    }
}
