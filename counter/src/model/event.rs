//! Events: the immutable mutations of a counter, and the tokens that make them idempotent.

use std::fmt;
use std::sync::Arc;

use super::{InvalidName, Timestamp};

/// The client's own name for one mutation: 1–256 bytes, no control characters. It is the event's id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(Arc<str>);

impl Token {
    /// The longest token, in bytes of UTF-8.
    pub const BYTES_MAX: usize = 256;

    /// Checks `token`.
    ///
    /// # Errors
    /// When it is empty, longer than [`Self::BYTES_MAX`] bytes, or holds a control character.
    pub fn new(token: &str) -> Result<Self, InvalidName> {
        if token.is_empty() || token.len() > Self::BYTES_MAX {
            return Err(InvalidName {
                reason: format!("a token has 1 to {} bytes of UTF-8, not {}", Self::BYTES_MAX, token.len()),
            });
        }
        if let Some(at) = token.find(char::is_control) {
            return Err(InvalidName {
                reason: format!("a token has no control characters; there is one at byte {at}"),
            });
        }
        Ok(Self(token.into()))
    }

    /// The token as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// What makes a retry or a hedge the same mutation: chosen once by the client, sent with every attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyToken {
    /// The client's name for the mutation.
    pub token: Token,
    /// When the mutation happened, by the client's clock: its event time.
    pub generation_time: Timestamp,
}

/// What an event is, as the last part of its key. The order is part of the contract: of an add and a clear with the same
/// time and id, the clear comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EventItemKey {
    /// An add.
    Add = 0,
    /// A clear.
    Clear = 1,
}

/// What an event does to its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventItem {
    /// Adds a signed delta.
    Add(i64),
    /// Sets the counter to zero, as of its place in the order of events.
    Clear,
}

impl EventItem {
    /// The part of the event's key that says what the item is.
    #[must_use]
    pub fn key(self) -> EventItemKey {
        match self {
            Self::Add(_) => EventItemKey::Add,
            Self::Clear => EventItemKey::Clear,
        }
    }
}

/// An event's key within its counter. Events apply in the order of their keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// The token's `generation_time`.
    pub event_time: Timestamp,
    /// The token.
    pub event_id: Token,
    /// What the item is.
    pub event_item_key: EventItemKey,
}

/// One immutable mutation of one counter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// When the mutation happened, by its client's clock.
    pub event_time: Timestamp,
    /// The client's token.
    pub event_id: Token,
    /// What it does.
    pub item: EventItem,
}

impl Event {
    /// The event that `token` names.
    #[must_use]
    pub fn new(token: IdempotencyToken, item: EventItem) -> Self {
        Self { event_time: token.generation_time, event_id: token.token, item }
    }

    /// The event's place in the order of its counter's events.
    #[must_use]
    pub fn key(&self) -> EventKey {
        EventKey { event_time: self.event_time, event_id: self.event_id.clone(), event_item_key: self.item.key() }
    }
}
