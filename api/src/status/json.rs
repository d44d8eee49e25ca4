//! The details of a status in JSON: each an object with its `@type`, as the proto3 mapping has it for `Any`.

use prost_types::Any;
use serde::{Deserialize, Deserializer, Serializer};

use super::Detail;

/// Details of unknown types have no JSON form without their definition; they are left out.
pub(crate) fn serialize<S: Serializer>(details: &[Any], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(details.iter().filter_map(Detail::unpack))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Any>, D::Error> {
    let details: Option<Vec<Detail>> = Option::deserialize(deserializer)?;
    Ok(details.iter().flatten().filter_map(Detail::pack).collect())
}
