//! What memcached's answers mean to the caller of each operation. Pure functions.

use memcache::exp::{ArithmeticResult, GetResult, MutationResult, MutationStatus, OpResult};

use crate::store::{Error, Result};

/// A stored item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub value: Vec<u8>,
    pub flags: u32,
    /// What a compare-and-set compares, where it was asked for.
    pub cas: Option<u64>,
    /// Seconds left to live, where they were asked for; `None` also for an item that lives for ever.
    pub seconds_left: Option<u32>,
}

fn unexpected(result: &OpResult) -> Error {
    Error::Corrupt { reason: format!("memcached answered {result:?}") }
}

/// An item read, if it is there.
pub(super) fn got(result: OpResult) -> Result<Option<Item>> {
    match result {
        OpResult::Get(GetResult { value: None, .. }) => Ok(None),
        OpResult::Get(GetResult { value: Some(value), client_flags, item, .. }) => Ok(Some(Item {
            value,
            flags: client_flags.unwrap_or(0),
            cas: item.cas,
            seconds_left: item.ttl.and_then(|seconds| u32::try_from(seconds).ok()),
        })),
        other => Err(unexpected(&other)),
    }
}

/// The stored number after an increment; `None` where there was nothing to increment.
pub(super) fn incremented(result: OpResult) -> Result<Option<u64>> {
    match result {
        OpResult::Arithmetic(ArithmeticResult { status: MutationStatus::Applied, value: Some(stored), .. }) => {
            Ok(Some(stored))
        }
        OpResult::Arithmetic(ArithmeticResult { status: MutationStatus::NotFound, .. }) => Ok(None),
        other => Err(unexpected(&other)),
    }
}

/// Whether an item was stored: what it is compared by from now on (0 where that was not asked for). `None` where it was there
/// already, or not as it was compared with.
pub(super) fn stored(result: OpResult) -> Result<Option<u64>> {
    match result {
        OpResult::Mutation(MutationResult { status: MutationStatus::Applied, cas, .. }) => Ok(Some(cas.unwrap_or(0))),
        OpResult::Mutation(_) => Ok(None),
        other => Err(unexpected(&other)),
    }
}

/// An item is gone, whether it was there or not; with a comparison, whether it is.
pub(super) fn deleted(result: OpResult) -> Result<bool> {
    match result {
        OpResult::Mutation(MutationResult { status: MutationStatus::Applied | MutationStatus::NotFound, .. }) => {
            Ok(true)
        }
        OpResult::Mutation(MutationResult { status: MutationStatus::CasMismatch, .. }) => Ok(false),
        other => Err(unexpected(&other)),
    }
}
