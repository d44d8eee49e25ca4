//! Checkpoints and how they are written down.

use super::Timestamp;

/// What a rollup leaves behind: the count of every event up to and including a time.
///
/// The order of the type is the order in which checkpoints replace one another: by time, and at equal times by count, so
/// that racing servers end with the same value in every store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checkpoint {
    /// Every event with an event time up to this one, and no later event, is in the count.
    pub last_rollup_ts: Timestamp,
    /// The count. Wider than the API's 64 bits, so that a sum can leave their range and come back.
    pub last_rollup_count: i128,
}

/// Stored bytes that are no checkpoint that this version can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Another length than the encoding has.
    #[error("a checkpoint has {expected} bytes, not {found}", expected = Checkpoint::ENCODED_LENGTH)]
    Length {
        /// The bytes found.
        found: usize,
    },
    /// Written by a version that this one does not know.
    #[error("checkpoint encoding version {found} is not known here (known: {known})", known = Checkpoint::VERSION)]
    Version {
        /// The version byte found.
        found: u8,
    },
}

impl Checkpoint {
    /// The version of the encoding, its first byte.
    pub const VERSION: u8 = 1;
    /// Bytes of an encoded checkpoint: version, time, count.
    pub const ENCODED_LENGTH: usize = 1 + 8 + 16;

    /// One value for count and time together, so that no store can ever mix two checkpoints. Comparing encoded bytes
    /// compares checkpoints: big-endian with the sign bit turned over, as Cassandra compares values of equal timestamps.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::ENCODED_LENGTH] {
        let mut bytes = [0; Self::ENCODED_LENGTH];
        bytes[0] = Self::VERSION;
        bytes[1..9].copy_from_slice(&(self.last_rollup_ts.as_micros() ^ i64::MIN).to_be_bytes());
        bytes[9..].copy_from_slice(&(self.last_rollup_count ^ i128::MIN).to_be_bytes());
        bytes
    }

    /// Reads what [`Checkpoint::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are of another length or version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if let Some(&found) = bytes.first()
            && found != Self::VERSION
        {
            return Err(DecodeError::Version { found });
        }
        let length = || DecodeError::Length { found: bytes.len() };
        let bytes: &[u8; Self::ENCODED_LENGTH] = bytes.try_into().map_err(|_| length())?;
        let (_, rest) = bytes.split_first().ok_or_else(length)?;
        let (ts, count) = rest.split_first_chunk::<8>().ok_or_else(length)?;
        let count: &[u8; 16] = count.try_into().map_err(|_| length())?;
        Ok(Self {
            last_rollup_ts: Timestamp::from_micros(i64::from_be_bytes(*ts) ^ i64::MIN),
            last_rollup_count: i128::from_be_bytes(*count) ^ i128::MIN,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checkpoints() -> impl Strategy<Value = Checkpoint> {
        (any::<i64>(), any::<i128>()).prop_map(|(ts, last_rollup_count)| Checkpoint {
            last_rollup_ts: Timestamp::from_micros(ts),
            last_rollup_count,
        })
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(checkpoint in checkpoints()) {
            prop_assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        }

        #[test]
        fn encoded_bytes_order_as_checkpoints_do(a in checkpoints(), b in checkpoints()) {
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        }

        #[test]
        fn decoding_any_bytes_answers(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Checkpoint::decode(&bytes);
        }
    }

    #[test]
    fn another_version_or_length_is_refused() {
        let mut bytes = Checkpoint { last_rollup_ts: Timestamp::EPOCH, last_rollup_count: 1 }.encode();
        assert_eq!(Checkpoint::decode(&bytes[..24]), Err(DecodeError::Length { found: 24 }));
        assert_eq!(Checkpoint::decode(&[]), Err(DecodeError::Length { found: 0 }));
        bytes[0] = 2;
        assert_eq!(Checkpoint::decode(&bytes), Err(DecodeError::Version { found: 2 }));
    }
}
