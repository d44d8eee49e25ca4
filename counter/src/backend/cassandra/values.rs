//! What the columns hold. Pure.

use crate::model::{EventItem, EventItemKey, Timestamp};
use crate::store::{Error, Result};

/// `event_item_value` of a clear.
const CLEAR: [u8; 0] = [];

/// `event_item_value`: an add's delta as a big-endian `bigint`, so that `blobAsBigint` shows it; nothing for a clear. Of two
/// deltas that were written for one token, Cassandra keeps the greater as unsigned bytes, on every replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ItemValue {
    Add([u8; 8]),
    Clear,
}

impl ItemValue {
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Add(bytes) => bytes,
            Self::Clear => &CLEAR,
        }
    }
}

pub(super) fn item_value(item: EventItem) -> ItemValue {
    match item {
        EventItem::Add(delta) => ItemValue::Add(delta.to_be_bytes()),
        EventItem::Clear => ItemValue::Clear,
    }
}

/// `event_item_key`. Its order is the model's.
pub(super) fn item_key(key: EventItemKey) -> i8 {
    match key {
        EventItemKey::Add => 0,
        EventItemKey::Clear => 1,
    }
}

/// Reads an event's operation back.
pub(super) fn item_from(key: i8, value: Option<&[u8]>) -> Result<EventItem> {
    match (key, value) {
        (0, Some(delta)) if let Ok(delta) = delta.try_into() => Ok(EventItem::Add(i64::from_be_bytes(delta))),
        (1, Some([])) => Ok(EventItem::Clear),
        _ => {
            let length = value.map_or("no".to_owned(), |value| value.len().to_string());
            Err(Error::Corrupt { reason: format!("an event has item key {key} and a value of {length} bytes") })
        }
    }
}

/// The timestamp that a cell is written with so that of two times the later stays. Cassandra takes every number but the least.
pub(super) fn keeps_latest(time: Timestamp) -> i64 {
    time.as_micros().max(-i64::MAX)
}

/// The timestamp that a cell is written with so that of two times the earlier stays.
pub(super) fn keeps_earliest(time: Timestamp) -> i64 {
    -keeps_latest(time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn items_come_back(delta in any::<i64>()) {
            for item in [EventItem::Add(delta), EventItem::Clear] {
                prop_assert_eq!(item_from(item_key(item.key()), Some(item_value(item).as_bytes())).unwrap(), item);
            }
        }

        #[test]
        fn any_stored_item_is_answered(key in any::<i8>(), value in any::<Option<Vec<u8>>>()) {
            let _ = item_from(key, value.as_deref());
        }

        #[test]
        fn write_timestamps_order_as_the_times_they_keep(a in any::<i64>(), b in any::<i64>()) {
            let (a, b) = (a.max(-i64::MAX), b.max(-i64::MAX));
            let (one, other) = (Timestamp::from_micros(a), Timestamp::from_micros(b));
            prop_assert_eq!(keeps_latest(one).cmp(&keeps_latest(other)), a.cmp(&b));
            prop_assert_eq!(keeps_earliest(one).cmp(&keeps_earliest(other)), b.cmp(&a));
        }
    }

    #[test]
    fn item_keys_order_as_the_model_does() {
        assert_eq!(
            item_key(EventItemKey::Add).cmp(&item_key(EventItemKey::Clear)),
            EventItemKey::Add.cmp(&EventItemKey::Clear)
        );
    }

    #[test]
    fn the_earliest_time_of_all_has_a_timestamp_that_cassandra_takes() {
        assert_eq!(keeps_latest(Timestamp::MIN), i64::MIN + 1);
        assert_eq!(keeps_earliest(Timestamp::MIN), i64::MAX);
        assert_eq!(keeps_earliest(Timestamp::MAX), i64::MIN + 1);
    }

    #[test]
    fn an_item_of_a_later_format_is_not_taken_for_a_delta() {
        assert!(item_from(0, Some(&[0; 9])).is_err());
        assert!(item_from(0, None).is_err());
        assert!(item_from(1, Some(&[0])).is_err());
        assert!(item_from(2, Some(&[])).is_err());
    }
}
