//! An amount of bytes as the resources write it: `16Mi`, `1G`, `4096`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What the API server lets through: Kubernetes quantities of whole bytes that stay within 64 bits.
pub const PATTERN: &str = "^([0-9]{1,15}|[0-9]{1,6}(Ki|Mi|Gi|Ti|k|M|G|T))$";
/// What is allowed, for messages.
pub const ALLOWED: &str = "an amount of bytes such as 16Mi, 1G or 4096 (suffixes Ki, Mi, Gi, Ti, k, M, G, T)";

const LENGTH_MAX: usize = 15;
const DIGITS_MAX: usize = 15;
const DIGITS_MAX_BEFORE_SUFFIX: usize = 6;
const NUMBER_MAX_BEFORE_SUFFIX: u64 = 999_999;
const BINARY: [(&str, u64); 4] = [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
const DECIMAL: [(&str, u64); 4] = [("T", 1_000_000_000_000), ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)];

/// An amount of bytes.
///
/// Prints canonically, with the largest suffix that leaves a whole number, binary ones first: `1024Ki` becomes
/// `1Mi`, `1000M` becomes `1G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    bytes: u64,
}

impl Quantity {
    /// An amount of this many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self { bytes }
    }

    /// An amount of this many mebibytes.
    pub const fn from_mebibytes(mebibytes: u64) -> Self {
        Self { bytes: mebibytes << 20 }
    }

    /// The amount in bytes.
    pub const fn as_bytes(self) -> u64 {
        self.bytes
    }
}

/// A text that is not an amount of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {ALLOWED}")]
pub struct Error {
    text: String,
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse_bytes(text).map(Self::from_bytes).ok_or_else(|| Error { text: text.to_owned() })
    }
}

/// Reads exactly what [`PATTERN`] describes.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, suffix) = text.split_at(digits);
    let (scale, digits_max) = if suffix.is_empty() {
        (1, DIGITS_MAX)
    } else {
        let (_, scale) = BINARY.iter().chain(&DECIMAL).find(|(name, _)| *name == suffix)?;
        (*scale, DIGITS_MAX_BEFORE_SUFFIX)
    };
    if digits > digits_max {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(scale)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, scale) in BINARY.iter().chain(&DECIMAL) {
            let number = self.bytes / scale;
            if (1..=NUMBER_MAX_BEFORE_SUFFIX).contains(&number) && self.bytes.is_multiple_of(*scale) {
                return write!(f, "{number}{suffix}");
            }
        }
        write!(f, "{}", self.bytes)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": LENGTH_MAX})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Option<u64> {
        text.parse::<Quantity>().ok().map(Quantity::as_bytes)
    }

    #[test]
    fn every_suffix_is_read() {
        assert_eq!(bytes("4096"), Some(4096));
        assert_eq!(bytes("16Mi"), Some(16_777_216));
        assert_eq!(bytes("1Ki"), Some(1024));
        assert_eq!(bytes("2Gi"), Some(2_147_483_648));
        assert_eq!(bytes("3k"), Some(3_000));
        assert_eq!(bytes("5M"), Some(5_000_000));
        assert_eq!(bytes("1G"), Some(1_000_000_000));
        assert_eq!(bytes("999999Ti"), Some(999_999 << 40));
    }

    #[test]
    fn what_is_not_an_amount_is_refused() {
        for text in ["", "Mi", "16 Mi", "16mi", "16MB", "1.5Gi", "-1", "1000000Ti", "1Pi", "1e3", "1234567890123456"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_pattern_of_the_schema_and_the_parser_agree() {
        let pattern = regex::Regex::new(PATTERN).unwrap();
        for number in ["", "0", "12", "999999", "1000000", "999999999999999", "1000000000000000", "x"] {
            for suffix in ["", "Ki", "Mi", "Gi", "Ti", "k", "M", "G", "T", "K", "i", "Pi"] {
                let text = format!("{number}{suffix}");
                assert_eq!(pattern.is_match(&text), bytes(&text).is_some(), "{text:?}");
            }
        }
    }

    #[test]
    fn printing_is_canonical_and_reads_back() {
        let cases = [
            ("1024Ki", "1Mi"),
            ("16Mi", "16Mi"),
            ("1000M", "1G"),
            ("0", "0"),
            ("1536Mi", "1536Mi"),
            ("999999T", "999999T"),
            ("4096", "4Ki"),
            ("4097", "4097"),
        ];
        for (text, canonical) in cases {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.to_string(), canonical);
            assert_eq!(canonical.parse(), Ok(quantity));
        }
    }
}
