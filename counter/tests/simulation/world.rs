//! What everything in one run shares: true time, messages under way, the trace and the states reached.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tallyman_counter::model::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::coverage::{Coverage, State};

/// True time: microseconds since the run began. No process of the run can read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimTime(pub u64);

impl SimTime {
    /// What an exact clock would say: runs begin on a fixed day, on no round number of anything.
    const START_MICROS: i64 = 1_767_225_607_123_456;

    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_micros(Self::START_MICROS + self.0 as i64)
    }

    pub fn plus(self, span: Duration) -> Self {
        Self(self.0 + span.as_micros() as u64)
    }
}

type Action = Box<dyn FnOnce() + Send>;

struct Message {
    due: SimTime,
    sequence: u64,
    action: Action,
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Message {}
impl PartialOrd for Message {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Message {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.sequence).cmp(&(other.due, other.sequence))
    }
}

#[derive(Default)]
struct Messages {
    waiting: BinaryHeap<Reverse<Message>>,
    sent: u64,
    /// When the deliverer will look next by itself.
    next_look: Option<SimTime>,
}

struct Trace {
    hash: u64,
    printed: bool,
}

/// One run's surroundings.
pub struct World {
    started: Instant,
    messages: Mutex<Messages>,
    sooner: Notify,
    trace: Mutex<Trace>,
    coverage: Mutex<Coverage>,
}

impl World {
    /// A world whose time starts now. It needs a runtime with paused time, and [`World::deliver`] running in it.
    pub fn new(trace_printed: bool) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            messages: Mutex::default(),
            sooner: Notify::new(),
            trace: Mutex::new(Trace { hash: 0, printed: trace_printed }),
            coverage: Mutex::default(),
        })
    }

    pub fn now(&self) -> SimTime {
        SimTime(self.started.elapsed().as_micros() as u64)
    }

    /// Does `action` after `delay`, whatever becomes of the caller: a message on the wire.
    pub fn after(&self, delay: Duration, action: impl FnOnce() + Send + 'static) {
        let due = self.now().plus(delay);
        let mut messages = self.messages.lock().unwrap();
        messages.sent += 1;
        let sequence = messages.sent;
        messages.waiting.push(Reverse(Message { due, sequence, action: Box::new(action) }));
        if messages.next_look.is_none_or(|next| due < next) {
            self.sooner.notify_one();
        }
    }

    /// Delivers messages when they are due, forever.
    pub async fn deliver(self: Arc<Self>) {
        loop {
            let next = loop {
                let now = self.now();
                let mut messages = self.messages.lock().unwrap();
                let next = messages.waiting.peek().map(|Reverse(message)| message.due);
                if next.is_none_or(|due| due > now) {
                    messages.next_look = next;
                    break next;
                }
                let message = messages.waiting.pop();
                drop(messages);
                if let Some(Reverse(message)) = message {
                    (message.action)();
                }
            };
            match next {
                Some(due) => {
                    let due = self.started + Duration::from_micros(due.0);
                    tokio::select! {
                        biased;
                        () = self.sooner.notified() => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => self.sooner.notified().await,
            }
        }
    }

    /// Adds a step to the trace: its hash must be the same whenever the seed is the same.
    pub fn note(&self, what: &'static str, numbers: &[i128]) {
        let now = self.now();
        let mut trace = self.trace.lock().unwrap();
        let mut hash = trace.hash ^ now.0.rotate_left(17) ^ (what.len() as u64);
        for byte in what.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        for number in numbers {
            hash = (hash ^ (*number as u64) ^ ((*number >> 64) as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            hash ^= hash >> 29;
        }
        trace.hash = hash;
        if trace.printed {
            println!("{:>12} {what} {numbers:?}", now.0);
        }
    }

    /// Marks a state as reached.
    pub fn reached(&self, state: State) {
        self.coverage.lock().unwrap().reached(state);
    }

    pub fn trace_hash(&self) -> u64 {
        self.trace.lock().unwrap().hash
    }

    pub fn coverage(&self) -> Coverage {
        self.coverage.lock().unwrap().clone()
    }
}
