//! Timestamps and durations as the API carries them: the protobuf well-known types with their JSON form.
//!
//! They are types of this crate because the mapping asks for RFC 3339 in UTC ending in `Z`, and because the service
//! counts in microseconds: the conversions here are the only place where nanoseconds are dropped.

use std::{fmt, str::FromStr, time::SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const NANOS_PER_MICRO: i32 = 1_000;
const MICROS_PER_SECOND: i64 = 1_000_000;
/// 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, the range that protobuf gives a Timestamp, in seconds.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Message)]
pub struct Timestamp {
    /// Seconds since the Unix epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds within the second, counting forward: 0 to 999,999,999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds, of the same sign as the seconds: −999,999,999 to 999,999,999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A timestamp or duration that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a timestamp in text form.
    #[error("`{0}` is not a timestamp; allowed is RFC 3339 with a UTC offset, such as 2025-01-31T12:00:00.000001Z")]
    TimestampText(String),
    /// A timestamp with fields out of range.
    #[error(
        "timestamp {{seconds: {seconds}, nanos: {nanos}}} is out of range; allowed are the years 1 to 9999 and 0 to 999999999 nanos"
    )]
    TimestampRange {
        /// As received.
        seconds: i64,
        /// As received.
        nanos: i32,
    },
    /// Not a duration in text form.
    #[error("`{0}` is not a duration; allowed are seconds with up to nine decimals and an `s`, such as 1.5s")]
    DurationText(String),
    /// A duration with fields out of range.
    #[error("duration {{seconds: {seconds}, nanos: {nanos}}} is out of range; allowed are 0s to 315576000000s")]
    DurationRange {
        /// As received.
        seconds: i64,
        /// As received.
        nanos: i32,
    },
}

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub fn from_micros(micros: i64) -> Self {
        let nanos = micros.rem_euclid(MICROS_PER_SECOND) as i32 * NANOS_PER_MICRO;
        Self { seconds: micros.div_euclid(MICROS_PER_SECOND), nanos }
    }

    /// From a clock's reading, truncated to microseconds. Readings beyond the range of `i64` microseconds (290,000
    /// years) saturate.
    pub fn from_system_time(time: SystemTime) -> Self {
        Self::from_micros(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            // Truncation goes towards the past on this side too.
            Err(before) => {
                i64::try_from(before.duration().as_nanos().div_ceil(1_000)).map_or(i64::MIN, |micros| -micros)
            }
        })
    }

    /// Microseconds since the Unix epoch, truncated towards the past.
    ///
    /// # Errors
    /// [`Error::TimestampRange`] for what is no valid protobuf timestamp.
    pub fn micros(self) -> Result<i64, Error> {
        self.check()?;
        Ok(self.seconds * MICROS_PER_SECOND + i64::from(self.nanos / NANOS_PER_MICRO))
    }

    fn check(self) -> Result<(), Error> {
        if TIMESTAMP_SECONDS.contains(&self.seconds) && (0..1_000_000_000).contains(&self.nanos) {
            Ok(())
        } else {
            Err(Error::TimestampRange { seconds: self.seconds, nanos: self.nanos })
        }
    }
}

/// RFC 3339 in UTC, with 0, 3, 6 or 9 decimals as needed.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        prost_types::Timestamp { seconds: self.seconds, nanos: self.nanos }.fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::TimestampText(text.to_owned());
        // prost-types also takes dates alone and times without an offset, which name no instant.
        let has_time = matches!(text.as_bytes().get(10), Some(b'T' | b't'));
        let has_offset = text.ends_with(['Z', 'z']) || text.get(19..).is_some_and(|tail| tail.contains(['+', '-']));
        if !(has_time && has_offset) {
            return Err(wrong());
        }
        let parsed = text.parse::<prost_types::Timestamp>().map_err(|_| wrong())?;
        let timestamp = Self { seconds: parsed.seconds, nanos: parsed.nanos };
        timestamp.check()?;
        Ok(timestamp)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.check().map_err(serde::ser::Error::custom)?;
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(FromText("a timestamp in RFC 3339, as a string", std::marker::PhantomData))
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self {
            seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            // Below 10⁹, so it fits.
            nanos: duration.subsec_nanos() as i32,
        }
    }
}

impl TryFrom<Duration> for std::time::Duration {
    type Error = Error;

    /// # Errors
    /// [`Error::DurationRange`] for negative durations and for what is no valid protobuf duration.
    fn try_from(duration: Duration) -> Result<Self, Error> {
        let Duration { seconds, nanos } = duration;
        match (u64::try_from(seconds), u32::try_from(nanos)) {
            (Ok(secs @ 0..=315_576_000_000), Ok(subsec @ 0..=999_999_999)) => Ok(Self::new(secs, subsec)),
            _ => Err(Error::DurationRange { seconds, nanos }),
        }
    }
}

/// Seconds with 0, 3, 6 or 9 decimals as needed, and an `s`.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        prost_types::Duration { seconds: self.seconds, nanos: self.nanos }.fmt(f)
    }
}

impl FromStr for Duration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parsed = text.parse::<prost_types::Duration>().map_err(|_| Error::DurationText(text.to_owned()))?;
        Ok(Self { seconds: parsed.seconds, nanos: parsed.nanos })
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(FromText("a duration such as 1.5s, as a string", std::marker::PhantomData))
    }
}

/// Reads what is a string in JSON; the text says what was expected.
struct FromText<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr<Err = Error>> de::Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nanoseconds_are_truncated_towards_the_past() {
        let micros = |seconds, nanos| Timestamp { seconds, nanos }.micros().unwrap();
        assert_eq!(micros(1, 999), 1_000_000);
        assert_eq!(micros(1, 1_999), 1_000_001);
        assert_eq!(micros(-1, 999_999_999), -1);
        let before_epoch = SystemTime::UNIX_EPOCH - std::time::Duration::from_nanos(1);
        assert_eq!(Timestamp::from_system_time(before_epoch).micros(), Ok(-1));
        let after_epoch = SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(1_999);
        assert_eq!(Timestamp::from_system_time(after_epoch), Timestamp { seconds: 0, nanos: 1_000 });
    }

    #[test]
    fn timestamps_in_json_end_in_z_and_show_as_many_decimals_as_they_need() {
        let json = |seconds, nanos| serde_json::to_string(&Timestamp { seconds, nanos }).unwrap();
        assert_eq!(json(0, 0), r#""1970-01-01T00:00:00Z""#);
        assert_eq!(json(1_738_324_800, 1_000), r#""2025-01-31T12:00:00.000001Z""#);
        assert_eq!(json(1_738_324_800, 500_000_000), r#""2025-01-31T12:00:00.500Z""#);
    }

    #[test]
    fn timestamps_with_another_offset_are_the_same_instant() {
        let utc: Timestamp = "2025-01-31T12:00:00Z".parse().unwrap();
        assert_eq!("2025-01-31T13:30:00+01:30".parse(), Ok(utc));
        assert_eq!("2025-01-31T04:00:00-08:00".parse(), Ok(utc));
    }

    #[test]
    fn text_that_names_no_instant_is_refused_with_what_is_allowed() {
        for text in
            ["", "2025-01-31", "2025-01-31T12:00:00", "2025-13-31T12:00:00Z", "now", "2025-01-31 12:00:00Z", "２０２５"]
        {
            let error = text.parse::<Timestamp>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("RFC 3339"), "{error}");
        }
        assert!(matches!("0000-01-01T00:00:00Z".parse::<Timestamp>(), Err(Error::TimestampRange { .. })));
    }

    #[test]
    fn timestamps_out_of_range_are_neither_converted_nor_written() {
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
            let timestamp = Timestamp { seconds, nanos };
            assert_eq!(timestamp.micros(), Err(Error::TimestampRange { seconds, nanos }));
            assert!(serde_json::to_string(&timestamp).is_err());
        }
    }

    #[test]
    fn durations_in_json_are_seconds_with_an_s() {
        for (text, seconds, nanos) in
            [("0s", 0, 0), ("1.500s", 1, 500_000_000), ("0.000001s", 0, 1_000), ("-0.500s", 0, -500_000_000)]
        {
            let duration = Duration { seconds, nanos };
            assert_eq!(text.parse(), Ok(duration));
            assert_eq!(serde_json::to_string(&duration).unwrap(), format!("\"{text}\""));
        }
        assert_eq!("1.5s".parse(), Ok(Duration { seconds: 1, nanos: 500_000_000 }));
    }

    #[test]
    fn negative_durations_and_text_without_unit_are_refused() {
        assert!(std::time::Duration::try_from(Duration { seconds: -1, nanos: 0 }).is_err());
        assert!(std::time::Duration::try_from(Duration { seconds: 0, nanos: -1 }).is_err());
        for text in ["", "5", "5m", "s", "--1s", "1.5"] {
            assert_eq!(text.parse::<Duration>(), Err(Error::DurationText(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn every_microsecond_survives_the_wire_and_the_text(micros in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            let timestamp = Timestamp::from_micros(micros);
            prop_assert_eq!(timestamp.micros(), Ok(micros));
            prop_assert_eq!(timestamp.to_string().parse(), Ok(timestamp));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "[-+0-9T:.Zz sé]{0,40}") {
            let _ = text.parse::<Timestamp>();
            let _ = text.parse::<Duration>();
        }
    }
}
