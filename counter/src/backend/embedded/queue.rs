//! The way to the committer: bounded, taken whole, and without delay when there is nothing to wait for.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::dataset::DatasetState;
use crate::model::{Checkpoint, SliceRecord, SliceState, Timestamp};
use crate::store::{Result, Touch};

/// The most operations that wait. At the longest names about 30 MiB, ordinarily a tenth of that, and at the store's speed a
/// fraction of a second's work.
const OPERATIONS_MAX: usize = 32 * 1024;

/// An event as the committer needs it: encoded where it came from, so that the committer only compares and stores.
pub(super) struct EncodedEvent {
    pub slice_start: Timestamp,
    pub event_time: Timestamp,
    pub key: fjall::Slice,
    pub value: fjall::Slice,
}

/// What is asked of the committer, and where the answer goes.
pub(super) enum Request {
    OpenDataset {
        name: String,
        region: String,
        reply: oneshot::Sender<Result<Arc<DatasetState>>>,
    },
    Append {
        dataset: Arc<DatasetState>,
        events: Vec<EncodedEvent>,
        reply: oneshot::Sender<Vec<Result<()>>>,
    },
    Touch {
        key: Vec<u8>,
        touch: Touch,
        reply: oneshot::Sender<Result<()>>,
    },
    Checkpoint {
        dataset: Arc<DatasetState>,
        key: Vec<u8>,
        checkpoint: Checkpoint,
        reply: oneshot::Sender<Result<()>>,
    },
    CreateSlice {
        dataset: Arc<DatasetState>,
        record: SliceRecord,
        reply: oneshot::Sender<Result<()>>,
    },
    SetSliceState {
        dataset: Arc<DatasetState>,
        start: Timestamp,
        state: SliceState,
        reply: oneshot::Sender<Result<()>>,
    },
}

impl Request {
    fn operations(&self) -> usize {
        match self {
            Self::Append { events, .. } => events.len().max(1),
            _ => 1,
        }
    }
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

#[derive(Default)]
struct Waiting {
    requests: Vec<Request>,
    operations: usize,
    /// The committer sleeps and wants to be woken.
    is_committer_idle: bool,
    is_closed: bool,
}

/// Requests on their way to the committer.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

impl Queue {
    /// A panic of another holder left the queue whole, so its poison is ignored.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request at the end. One that is larger than the whole queue is taken when nothing else waits.
    pub fn push(&self, request: Request) -> std::result::Result<(), Refused> {
        let operations = request.operations();
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(Refused::Closed);
        }
        if waiting.operations > 0 && waiting.operations + operations > OPERATIONS_MAX {
            return Err(Refused::Full);
        }
        waiting.operations += operations;
        waiting.requests.push(request);
        let wake = std::mem::take(&mut waiting.is_committer_idle);
        drop(waiting);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Moves everything that waits into the empty `into`, sleeping until there is something. `false` when the queue is closed
    /// and empty.
    pub fn take(&self, into: &mut Vec<Request>) -> bool {
        let mut waiting = self.lock();
        while waiting.requests.is_empty() {
            if waiting.is_closed {
                return false;
            }
            waiting.is_committer_idle = true;
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.is_committer_idle = false;
        waiting.operations = 0;
        std::mem::swap(&mut waiting.requests, into);
        true
    }

    /// Takes nothing more; what waits is still taken out.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        drop(waiting);
        self.filled.notify_one();
    }

    /// Closes, and drops what waits: its callers learn that nobody will answer.
    pub fn abandon(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.operations = 0;
        let dropped = std::mem::take(&mut waiting.requests);
        drop(waiting);
        drop(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(events: usize) -> (Request, oneshot::Receiver<Vec<Result<()>>>) {
        let (reply, answer) = oneshot::channel();
        let event = || EncodedEvent {
            slice_start: Timestamp::EPOCH,
            event_time: Timestamp::EPOCH,
            key: b"k".as_slice().into(),
            value: b"v".as_slice().into(),
        };
        let events = (0..events).map(|_| event()).collect();
        (Request::Append { dataset: Arc::new(DatasetState::empty(0)), events, reply }, answer)
    }

    #[test]
    fn a_full_queue_refuses_and_an_empty_one_takes_any_size() {
        let queue = Queue::default();
        queue.push(request(OPERATIONS_MAX - 1).0).unwrap();
        queue.push(request(1).0).unwrap();
        assert_eq!(queue.push(request(1).0), Err(Refused::Full));
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken));
        assert_eq!(taken.len(), 2);
        queue.push(request(OPERATIONS_MAX * 2).0).unwrap();
        assert_eq!(queue.push(request(1).0), Err(Refused::Full));
    }

    #[test]
    fn a_closed_queue_gives_out_what_it_took_and_takes_no_more() {
        let queue = Queue::default();
        queue.push(request(1).0).unwrap();
        queue.close();
        assert_eq!(queue.push(request(1).0), Err(Refused::Closed));
        let mut taken = Vec::new();
        assert!(queue.take(&mut taken));
        taken.clear();
        assert!(!queue.take(&mut taken));
    }

    #[tokio::test]
    async fn abandoned_callers_learn_that_nobody_will_answer() {
        let queue = Queue::default();
        let (request, answer) = request(1);
        queue.push(request).unwrap();
        queue.abandon();
        assert!(answer.await.is_err());
    }
}
