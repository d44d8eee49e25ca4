//! The queues of one namespace: counters by XXH3 of their names, gathered for a coalescing window.

use std::num::NonZeroU16;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_64;

use super::coalescing::{CoalescingSet, Drain, Inserted};
use crate::model::CounterName;

/// A counter that did not fit on its queue. A sweep will find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is full")]
pub struct Refused;

/// These queues have no consumers any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("other queues took the place of these")]
pub struct Ended;

/// One queue and its bound. What its consumer works on counts as well.
#[derive(Debug)]
pub(super) struct Queue {
    set: Mutex<CoalescingSet>,
    /// Signals that the set is no longer empty.
    pub some: Notify,
    /// Signals that there may be room again.
    room: Notify,
    /// Memory of the window being worked on.
    draining_bytes: AtomicUsize,
    capacity_bytes: usize,
    refused: AtomicU64,
    /// Nobody consumes it any more: other queues took its place.
    ended: AtomicBool,
}

impl Queue {
    fn new(capacity_bytes: usize) -> Self {
        Self {
            set: Mutex::default(),
            some: Notify::new(),
            room: Notify::new(),
            draining_bytes: AtomicUsize::new(0),
            capacity_bytes,
            refused: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        }
    }

    fn insert(&self, name: &CounterName, capacity_bytes: usize) -> Result<(), Refused> {
        let inserted = {
            let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
            // The batch in hand has its part of the capacity always, so that taking it never takes from others.
            let taken = self.draining_bytes.load(Ordering::Relaxed) + self.batch_bytes_max();
            let room = capacity_bytes.saturating_sub(taken);
            set.insert(name.as_str(), room)
        };
        match inserted {
            Inserted::New => self.some.notify_one(),
            Inserted::Present => {}
            Inserted::Full => return Err(Refused),
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Takes all that was gathered. Its memory goes on counting: see [`Queue::still_draining`].
    pub fn take(&self) -> Drain {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let drain = std::mem::take(&mut *set).drain();
        self.draining_bytes.store(drain.bytes(), Ordering::Relaxed);
        drain
    }

    /// Says how much memory the window being worked on still takes, without the batch in hand.
    pub fn still_draining(&self, bytes: usize) {
        self.draining_bytes.store(bytes, Ordering::Relaxed);
        self.room.notify_waiters();
    }

    /// The most memory that a batch in hand may take.
    pub fn batch_bytes_max(&self) -> usize {
        self.capacity_bytes / 8
    }
}

/// The queues of one namespace on one rollup server.
#[derive(Debug)]
pub struct Queues {
    queues: Vec<Arc<Queue>>,
}

impl Queues {
    /// `num_queues` queues of `capacity_bytes` of memory each.
    #[must_use]
    pub fn new(num_queues: NonZeroU16, capacity_bytes: usize) -> Self {
        Self { queues: (0..num_queues.get()).map(|_| Arc::new(Queue::new(capacity_bytes))).collect() }
    }

    fn queue(&self, name: &CounterName) -> &Queue {
        let hash = xxh3_64(name.as_str().as_bytes());
        // There is at least one queue.
        &self.queues[usize::try_from(hash % self.queues.len() as u64).unwrap_or(0)]
    }

    /// Puts a counter on its queue, for the window that is being gathered.
    ///
    /// # Errors
    /// When the queue's memory is used up. It is counted: [`Queues::refused`].
    pub fn insert(&self, name: &CounterName) -> Result<(), Refused> {
        let queue = self.queue(name);
        let inserted = queue.insert(name, queue.capacity_bytes);
        if inserted.is_err() {
            queue.refused.fetch_add(1, Ordering::Relaxed);
        }
        inserted
    }

    /// Puts a counter that has nothing to be rolled up back into circulation, unless its queue is filling up: those that have
    /// come first. What stays away here comes back when it is touched.
    pub fn circulate(&self, name: &CounterName) {
        let queue = self.queue(name);
        let _ = queue.insert(name, queue.capacity_bytes / 2);
    }

    /// Puts a counter on its queue, waiting for room. For what comes from the store, not from clients.
    ///
    /// # Errors
    /// When other queues took the place of these; the counter is on none.
    pub async fn insert_when_there_is_room(&self, name: &CounterName) -> Result<(), Ended> {
        let queue = self.queue(name);
        loop {
            let room = queue.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if queue.ended.load(Ordering::Acquire) {
                return Err(Ended);
            }
            if queue.insert(name, queue.capacity_bytes).is_ok() {
                return Ok(());
            }
            room.await;
        }
    }

    /// Other queues take the place of these: whoever waits for room is told.
    pub(super) fn end(&self) {
        for queue in &self.queues {
            queue.ended.store(true, Ordering::Release);
            queue.room.notify_waiters();
        }
    }

    /// Counters refused so far.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.queues.iter().map(|queue| queue.refused.load(Ordering::Relaxed)).sum()
    }

    /// Memory that the queues take now, with the windows being worked on.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |queue: &Arc<Queue>| {
            let set = queue.set.lock().unwrap_or_else(PoisonError::into_inner);
            set.bytes() + queue.draining_bytes.load(Ordering::Relaxed)
        };
        self.queues.iter().map(bytes).sum()
    }

    /// Counters waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.set.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether no counter waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.is_empty())
    }

    pub(super) fn each(&self) -> &[Arc<Queue>] {
        &self.queues
    }
}
