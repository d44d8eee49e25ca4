//! One stream to a rollup server: sets out, states and acknowledgements in.

use std::collections::{BTreeSet, HashMap};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tallyman_api::rollup::forward_response::Kind;
use tallyman_api::rollup::rollup_service_client::RollupServiceClient;
use tallyman_api::rollup::{Acknowledgement, ForwardRequest, ForwardResponse, State};
use tallyman_counter::forward::Undelivered;
use tallyman_counter::model::NamespaceName;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Endpoint;

/// Messages on their way at once; further ones wait.
const WINDOW: usize = 16;
/// A connection without traffic is asked for a sign of life, and given up without one.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long acknowledgements may take to come once the server has said that it is going away.
const FAREWELL: Duration = Duration::from_millis(500);

/// A stream that has begun.
pub struct Link {
    outgoing: mpsc::Sender<ForwardRequest>,
    sequence: AtomicU64,
    /// Who waits for the acknowledgement of which set.
    waiting: Mutex<HashMap<u64, oneshot::Sender<Acknowledgement>>>,
    /// As the server last said.
    ready: ArcSwap<BTreeSet<String>>,
    /// The stream is not to be used any more.
    broken: CancellationToken,
}

/// What the server says.
pub type Incoming = Streaming<ForwardResponse>;

/// How a stream ended.
pub struct Ended {
    /// The server said something, ever.
    pub has_spoken: bool,
    /// The server said that it is going away.
    pub is_orderly: bool,
    /// Otherwise, what happened.
    pub reason: String,
}

impl Link {
    /// Connects and begins a stream.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn begin(endpoint: Endpoint) -> Result<(Self, Incoming), String> {
        let channel = endpoint
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect()
            .await
            .map_err(|error| whole_reason(&error))?;
        let (outgoing, sets) = mpsc::channel(WINDOW);
        let begun = RollupServiceClient::new(channel).forward(ReceiverStream::new(sets)).await;
        let incoming = begun.map_err(|status| refusal(&status))?.into_inner();
        let link = Self {
            outgoing,
            sequence: AtomicU64::new(1),
            waiting: Mutex::default(),
            ready: ArcSwap::default(),
            broken: CancellationToken::new(),
        };
        Ok((link, incoming))
    }

    pub fn is_ready(&self, namespace: &NamespaceName) -> bool {
        self.ready.load().contains(namespace.as_str())
    }

    /// Sends one set and waits for its acknowledgement. Whoever stops waiting gives up the stream: a server that does not
    /// answer is better left alone, until it does.
    pub async fn send(&self, namespace: &NamespaceName, counter_names: Vec<String>) -> Result<usize, Undelivered> {
        let undelivered = |reason: &str| Undelivered { reason: reason.to_owned() };
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let (acknowledge, acknowledged) = oneshot::channel();
        let unanswered = Unanswered { link: self, sequence };
        self.waiting().insert(sequence, acknowledge);
        // Only now: what was broken before would never take it out again.
        if self.broken.is_cancelled() {
            return Err(undelivered("the connection ended"));
        }
        let request = ForwardRequest { sequence, namespace: namespace.as_str().to_owned(), counter_names };
        let sent = async {
            self.outgoing.send(request).await.map_err(|_| undelivered("the connection ended"))?;
            acknowledged.await.map_err(|_| undelivered("the connection ended before it was acknowledged"))
        };
        let acknowledgement = sent.await?;
        unanswered.answered();
        Ok(usize::try_from(acknowledgement.taken).unwrap_or(usize::MAX))
    }

    /// Receives until the stream ends.
    pub async fn receive(&self, mut incoming: Incoming) -> Ended {
        let mut ended = Ended { has_spoken: false, is_orderly: false, reason: String::new() };
        // It is never awaited before the server says that it is going away, which sets its time.
        let mut farewell = pin!(sleep(FAREWELL));
        loop {
            let message = tokio::select! {
                () = self.broken.cancelled() => {
                    "sets were not acknowledged in time".clone_into(&mut ended.reason);
                    return ended;
                }
                message = incoming.message() => message,
                () = farewell.as_mut(), if ended.is_orderly => return ended,
            };
            match message {
                Ok(Some(ForwardResponse { kind })) => {
                    ended.has_spoken = true;
                    match kind {
                        Some(Kind::State(state)) => {
                            ended.is_orderly = self.has_state(state);
                            farewell.as_mut().reset(Instant::now() + FAREWELL);
                        }
                        Some(Kind::Acknowledgement(acknowledgement)) => self.acknowledge(acknowledgement),
                        // A later version's.
                        None => {}
                    }
                    if ended.is_orderly && self.waiting().is_empty() {
                        return ended;
                    }
                }
                Ok(None) => {
                    "the server ended it".clone_into(&mut ended.reason);
                    return ended;
                }
                Err(status) => {
                    ended.reason = format!("{:?}: {}", status.code(), status.message());
                    return ended;
                }
            }
        }
    }

    /// Takes over what the server says of itself, and answers whether it is going away.
    fn has_state(&self, State { ready_namespaces, going_away }: State) -> bool {
        let ready = if going_away { BTreeSet::new() } else { ready_namespaces.into_iter().collect() };
        self.ready.store(Arc::new(ready));
        going_away
    }

    fn acknowledge(&self, acknowledgement: Acknowledgement) {
        let waiting = self.waiting().remove(&acknowledgement.sequence);
        if let Some(waiting) = waiting {
            // Who waited may have given up.
            let _ = waiting.send(acknowledgement);
        }
    }

    /// Ends the stream: nothing is sent on it any more, and nobody waits for it.
    pub fn close(&self) {
        self.broken.cancel();
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Acknowledgement>>> {
        // Nothing panics while it is held half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A set that was sent and not acknowledged. Dropped, it takes the stream with it.
struct Unanswered<'a> {
    link: &'a Link,
    sequence: u64,
}

impl Unanswered<'_> {
    fn answered(self) {
        // Nothing is to be done, and there is nothing in it to be freed.
        std::mem::forget(self);
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.link.waiting().remove(&self.sequence);
        self.link.broken.cancel();
    }
}

/// A stream that was refused, with what the transport says to it: a certificate that the server does not want shows only here.
fn refusal(status: &tonic::Status) -> String {
    let reason = format!("{:?}: {}", status.code(), status.message());
    match std::error::Error::source(status) {
        Some(source) => format!("{reason}: {}", whole_reason(source)),
        None => reason,
    }
}

/// An error with what it comes from: tonic's own says no more than that there is no transport.
pub fn whole_reason(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !reason.contains(&text) {
            reason.push_str(": ");
            reason.push_str(&text);
        }
        source = error.source();
    }
    reason
}
