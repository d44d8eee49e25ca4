//! The JSON document as serde sees it: names and shape, nothing checked that depends on another field.
//!
//! Every field may be missing here; the checks ([`super::parse`]) say which may not, under the field's own path. Structs
//! are flat over the kinds of entries and storages, since serde loses the path within tagged variants.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The whole document.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistence_configuration: Option<Vec<Entry>>,
}

/// One entry of `persistence_configuration`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub physical_storage: Option<PhysicalStorage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter_cardinality: Option<Cardinality>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Config>,
    #[serde(rename = "lifecycleConfigs", skip_serializing_if = "Option::is_none")]
    pub lifecycle_configs: Option<LifecycleConfigs>,
}

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Id {
    Cache,
    CounterRollup,
    EventStorage,
}

impl Id {
    /// The name in the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "CACHE",
            Self::CounterRollup => "COUNTER_ROLLUP",
            Self::EventStorage => "EVENT_STORAGE",
        }
    }

    /// The scope that goes with it.
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Cache | Self::CounterRollup => "dal=counter",
            Self::EventStorage => "dal=ts",
        }
    }
}

/// Where an entry's data is; which fields go with which type is checked later.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct PhysicalStorage {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub storage_type: Option<StorageType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact_points: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_datacenter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Vec<Vec<String>>>,
}

/// The kinds of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StorageType {
    Cassandra,
    Embedded,
    Memcached,
    Memory,
}

impl StorageType {
    /// The name in the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cassandra => "CASSANDRA",
            Self::Embedded => "EMBEDDED",
            Self::Memcached => "MEMCACHED",
            Self::Memory => "MEMORY",
        }
    }
}

/// TLS to the store's nodes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Tls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// How many counters there are, in kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cardinality {
    Low,
    High,
}

/// An entry's settings; which fields go with which entry is checked later.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Config {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counter_type: Option<CounterType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_effort_counter_config: Option<BestEffortCounterConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollup_endpoints: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollup_tls: Option<RollupTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eventual_counter_config: Option<EventualCounterConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_partition: Option<TimePartition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_limit: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_clock_skew: Option<Span>,
}

/// Mutual TLS to the rollup servers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct RollupTls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
}

/// How the namespace counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CounterType {
    BestEffort,
    Eventual,
    Accurate,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct BestEffortCounterConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct EventualCounterConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_config: Option<InternalConfig>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct InternalConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_config: Option<QueueConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollup_batch_count: Option<WholeNumber>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct QueueConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_queues: Option<WholeNumber>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coalesce_ms: Option<WholeNumber>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_bytes: Option<WholeNumber>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct TimePartition {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets_per_id: Option<WholeNumber>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub seconds_per_bucket: Option<WholeNumber>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub seconds_per_slice: Option<WholeNumber>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct LifecycleConfigs {
    #[serde(rename = "lifecycleConfig", skip_serializing_if = "Option::is_none")]
    pub lifecycle_config: Option<Vec<LifecycleConfig>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct LifecycleConfig {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub lifecycle_type: Option<LifecycleType>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<RetentionConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LifecycleType {
    Retention,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct RetentionConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_after: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete_after: Option<Span>,
}

/// A whole number, written as a number or as a string of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WholeNumber(pub u64);

impl<'de> Deserialize<'de> for WholeNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;
        impl Visitor<'_> for Digits {
            type Value = WholeNumber;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or a string of its digits")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<WholeNumber, E> {
                Ok(WholeNumber(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<WholeNumber, E> {
                let digits = text.bytes().all(|b| b.is_ascii_digit());
                let number = if digits { text.parse().ok() } else { None };
                number.map(WholeNumber).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Digits)
    }
}

/// Writes a number as the source does for widths: as a string.
fn as_text<S: Serializer>(number: &Option<WholeNumber>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(WholeNumber(number)) => serializer.collect_str(number),
        None => serializer.serialize_none(),
    }
}

/// A span of time, written in seconds with an `s`: `5s`, `0.5s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('s')?;
        let (seconds, fraction) = match number.split_once('.') {
            Some((seconds, fraction)) if (1..=9).contains(&fraction.len()) => (seconds, fraction),
            Some(_) => return None,
            None => (number, ""),
        };
        if seconds.is_empty() || !seconds.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return None;
        }
        let nanos = format!("{fraction:0<9}").parse().ok()?;
        Some(Self(Duration::new(seconds.parse().ok()?, nanos)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.as_secs())?;
        if self.0.subsec_nanos() > 0 {
            write!(f, ".{}", format!("{:09}", self.0.subsec_nanos()).trim_end_matches('0'))?;
        }
        f.write_str("s")
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl Visitor<'_> for Seconds {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds with an s, as \"5s\" or \"0.5s\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Seconds)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_span_is_seconds_with_an_s() {
        for (text, span) in [("5s", 5_000), ("0.5s", 500), ("518400s", 518_400_000), ("0.050s", 50), ("0s", 0)] {
            assert_eq!(Span::parse(text), Some(Span(Duration::from_millis(span))), "{text}");
        }
        for text in
            ["", "s", "5", "5ms", "5 s", "-5s", "+5s", ".5s", "5.s", "1.0000000001s", "1e3s", "99999999999999999999s"]
        {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_span_reads_as_it_was_written(seconds in any::<u64>(), nanos in 0_u32..1_000_000_000) {
            let span = Span(Duration::new(seconds, nanos));
            prop_assert_eq!(Span::parse(&span.to_string()), Some(span));
        }
    }

    #[test]
    fn a_whole_number_is_taken_as_number_or_digits() {
        for json in ["600", "\"600\""] {
            assert_eq!(serde_json::from_str::<WholeNumber>(json).unwrap(), WholeNumber(600), "{json}");
        }
        for json in ["-1", "1.5", "\"\"", "\"+1\"", "\"x\"", "\"1.0\"", "true", "[1]", "99999999999999999999"] {
            assert!(serde_json::from_str::<WholeNumber>(json).is_err(), "{json}");
        }
    }
}
