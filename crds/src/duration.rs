//! A length of time as the resources write it: `10s`, `1h30m`, `500ms`.
//!
//! Go's and CEL's `duration()` read the same text, which is why there are no days: CEL could not compare them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the API server lets through. Six digits a unit keep every sum within CEL's 64-bit nanoseconds.
pub const PATTERN: &str = "^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?([0-9]{1,6}ms)?$";
/// As [`PATTERN`], for lengths that must be whole seconds.
pub const PATTERN_WHOLE_SECONDS: &str = "^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$";
/// What is allowed, for messages.
pub const ALLOWED: &str =
    "a duration in hours, minutes, seconds and milliseconds, in this order, such as 10s, 1h30m or 500ms";
/// What is allowed where only whole seconds are, for messages.
pub const ALLOWED_WHOLE_SECONDS: &str =
    "a duration in hours, minutes and whole seconds, in this order, such as 10s, 10m or 1h30m";

/// The shortest text is `0s`; with it the pattern, whose parts are all optional, cannot match nothing.
const LENGTH_MIN: usize = 2;
/// Three parts of seven characters and one of eight.
const LENGTH_MAX: usize = 29;

const MS_PER_SECOND: u64 = 1_000;
const MS_PER_MINUTE: u64 = 60 * MS_PER_SECOND;
const MS_PER_HOUR: u64 = 60 * MS_PER_MINUTE;
const UNITS: [(&str, u64); 4] = [("h", MS_PER_HOUR), ("m", MS_PER_MINUTE), ("s", MS_PER_SECOND), ("ms", 1)];

/// A length of time of whole milliseconds, up to about 116 years.
///
/// Prints canonically, largest unit first: `5400s` becomes `1h30m`, nothing becomes `0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    ms: u64,
}

impl Duration {
    /// A duration of this many milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self { ms }
    }

    /// A duration of this many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self { ms: seconds * MS_PER_SECOND }
    }

    /// A duration of this many minutes.
    pub const fn from_mins(minutes: u64) -> Self {
        Self { ms: minutes * MS_PER_MINUTE }
    }

    /// A duration of this many hours.
    pub const fn from_hours(hours: u64) -> Self {
        Self { ms: hours * MS_PER_HOUR }
    }

    /// The whole length in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.ms
    }

    /// The whole length in seconds, what is below a second cut off.
    pub const fn as_secs(self) -> u64 {
        self.ms / MS_PER_SECOND
    }

    /// The same length as the standard library's type.
    pub const fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.ms)
    }
}

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {ALLOWED}")]
pub struct Error {
    text: String,
}

impl FromStr for Duration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse_millis(text).map(Self::from_millis).ok_or_else(|| Error { text: text.to_owned() })
    }
}

/// Reads exactly what [`PATTERN`] describes: each unit once at most, from large to small, six digits at most.
fn parse_millis(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut ms = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=6).contains(&digits) {
            return None;
        }
        let (number, after) = rest.split_at(digits);
        let unit_length = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(unit_length);
        let (_, scale) = units.find(|(name, _)| *name == unit)?;
        ms += number.parse::<u64>().ok()? * scale;
        rest = after;
    }
    (!text.is_empty()).then_some(ms)
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.ms;
        for (unit, scale) in UNITS {
            if rest >= scale {
                write!(f, "{}{unit}", rest / scale)?;
                rest %= scale;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Without a maximum length the API server must assume the worst of every rule that reads the text.
        json_schema!({"type": "string", "pattern": PATTERN, "minLength": LENGTH_MIN, "maxLength": LENGTH_MAX})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> Option<u64> {
        text.parse::<Duration>().ok().map(Duration::as_millis)
    }

    #[test]
    fn every_unit_is_read_and_summed() {
        assert_eq!(millis("500ms"), Some(500));
        assert_eq!(millis("10s"), Some(10_000));
        assert_eq!(millis("90m"), Some(5_400_000));
        assert_eq!(millis("168h"), Some(604_800_000));
        assert_eq!(millis("1h2m3s4ms"), Some(3_723_004));
        assert_eq!(millis("999999h999999m999999s999999ms"), Some(3_660_997_338_999));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in ["", "10", "s", "1d", "1.5h", "-1s", "1s1s", "1s1m", "1ms1s", "1 s", "10S", "1000000s", "1us", "é"]
        {
            assert_eq!(millis(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_pattern_of_the_schema_and_the_parser_agree() {
        let pattern = regex::Regex::new(PATTERN).unwrap();
        let parts = ["", "1h", "000000m", "59s", "7ms", "1000000s", "1d", "x"];
        for a in parts {
            for b in parts {
                for c in parts {
                    let text = format!("{a}{b}{c}");
                    let by_schema = pattern.is_match(&text) && (LENGTH_MIN..=LENGTH_MAX).contains(&text.len());
                    assert_eq!(by_schema, millis(&text).is_some(), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn printing_is_canonical_and_reads_back() {
        for (text, canonical) in
            [("5400s", "1h30m"), ("0ms", "0s"), ("1500ms", "1s500ms"), ("24h", "24h"), ("60m", "1h")]
        {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(duration));
        }
    }
}
