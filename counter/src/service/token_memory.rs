//! Tokens seen lately, for stores that do not notice themselves when one comes back with another delta or operation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::FixedState;
use xxhash_rust::xxh3::Xxh3Default;

use crate::clock::Clock;
use crate::model::{CounterKey, Event, EventItem};

/// Tokens in one generation: 32 bytes each. Beyond it the process is overloaded: forgetting one early would break a promise.
const GENERATION_TOKENS_MAX: usize = 1 << 20;

/// Remembers each token for at least twice the accept limit: for as long as it can be accepted again.
pub(super) struct TokenMemory {
    clock: Arc<dyn Clock>,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    current: HashMap<u128, EventItem, FixedState>,
    previous: HashMap<u128, EventItem, FixedState>,
    /// When `current` was begun, on the monotonic clock.
    begun: Duration,
    /// The longest that any token has to be remembered: datasets differ in their limits.
    remember_for: Duration,
}

/// What the memory knows of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not seen before, or with the same item: go on.
    Consistent,
    /// Seen with another item.
    Reused,
    /// There is no room to remember it.
    Full,
}

impl TokenMemory {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, generations: Mutex::default() }
    }

    /// Looks the event's token up and remembers it for at least `remember_for`.
    pub fn see(&self, counter: &CounterKey, event: &Event, remember_for: Duration) -> Seen {
        let key = fingerprint(counter, event);
        let now = self.clock.monotonic();
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.remember_for = generations.remember_for.max(remember_for);
        if now.saturating_sub(generations.begun) >= generations.remember_for {
            generations.previous = std::mem::take(&mut generations.current);
            generations.begun = now;
        }
        if let Some(item) = generations.current.get(&key).or_else(|| generations.previous.get(&key)) {
            return if *item == event.item { Seen::Consistent } else { Seen::Reused };
        }
        if generations.current.len() >= GENERATION_TOKENS_MAX {
            return Seen::Full;
        }
        generations.current.insert(key, event.item);
        Seen::Consistent
    }
}

fn fingerprint(counter: &CounterKey, event: &Event) -> u128 {
    let mut hasher = Xxh3Default::new();
    hasher.update(counter.namespace.as_str().as_bytes());
    // Names and tokens hold no control characters, so that no two lists of parts read the same.
    hasher.update(&[0]);
    hasher.update(counter.name.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(event.event_id.as_str().as_bytes());
    hasher.update(&[0]);
    hasher.update(&event.event_time.as_micros().to_be_bytes());
    hasher.digest128()
}
