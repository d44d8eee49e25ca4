//! One connection and the task that feeds it.

use std::sync::Arc;
use std::time::Duration;

use memcache::exp::{AsyncMetaClient, Op, OpResult};
use tokio::sync::{mpsc, oneshot};

use super::health::Health;
use crate::store::{Error, Result};

/// The most calls in one exchange: enough to make the round trip cheap, few enough not to hold up the ones behind.
const EXCHANGE_CALLS_MAX: usize = 512;
/// How long dialling may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long an exchange may take.
pub(super) const EXCHANGE_TIMEOUT: Duration = Duration::from_millis(500);

/// What is asked of memcached, and where the answer goes.
pub(super) struct Call {
    pub operation: Op,
    pub reply: oneshot::Sender<Result<OpResult>>,
}

impl Call {
    /// A caller that has gone away wants no answer.
    fn answer(self, result: Result<OpResult>) {
        drop(self.reply.send(result));
    }
}

/// What the client's failure says about the call.
fn of_client(error: memcache::exp::Error) -> Error {
    let reason = error.to_string();
    match error {
        memcache::exp::Error::Ambiguous { .. } => Error::Timeout { reason },
        memcache::exp::Error::Rejected(_) => Error::Corrupt { reason },
        // With these the call was not applied: not written whole, or answered with a refusal.
        memcache::exp::Error::Io(_)
        | memcache::exp::Error::Timeout { .. }
        | memcache::exp::Error::Server(_)
        | memcache::exp::Error::Usage(_) => Error::Unavailable { reason },
        // An answer that cannot be understood says nothing of what was done.
        _ => Error::Timeout { reason },
    }
}

/// Whether the failure is the server's or the network's, rather than a refusal of this one call.
fn is_transport(error: &memcache::exp::Error) -> bool {
    match error {
        memcache::exp::Error::Io(_) | memcache::exp::Error::Timeout { .. } => true,
        memcache::exp::Error::Ambiguous { source, .. } => is_transport(source),
        _ => false,
    }
}

/// Whether nobody listens at the server's address.
fn is_refusal(error: &memcache::exp::Error) -> bool {
    matches!(error, memcache::exp::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

/// How an exchange ended.
enum Exchanged {
    Answered,
    /// A call was refused in a way that leaves the connection in doubt.
    Refused,
    Failed,
    /// There is no server at the address.
    Gone,
}

/// Sends what comes in on `calls` to the memcached at `address` (host:port) until no sender is left.
pub(super) async fn serve(address: Arc<str>, mut calls: mpsc::Receiver<Call>, health: Arc<Health>) {
    let mut client = None;
    let mut waiting: Vec<Call> = Vec::new();
    while calls.recv_many(&mut waiting, EXCHANGE_CALLS_MAX).await > 0 {
        // Nobody waits for the answer any more, and nothing was sent: so that it never is.
        waiting.retain(|call| !call.reply.is_closed());
        if waiting.is_empty() {
            continue;
        }
        match exchange(&address, &mut client, &mut waiting).await {
            Exchanged::Answered => health.answered(),
            Exchanged::Refused => client = None,
            failed @ (Exchanged::Failed | Exchanged::Gone) => {
                // Its address may be another one now: it is looked up again.
                client = None;
                match failed {
                    Exchanged::Gone => health.gone(),
                    _ => health.failed(),
                }
                // Whoever queued up behind would wait as long again. Nothing of theirs was sent.
                while let Ok(call) = calls.try_recv() {
                    let reason = format!("memcached at {address} did not answer the calls before this one");
                    call.answer(Err(Error::Unavailable { reason }));
                }
            }
        }
    }
}

/// One exchange for all of `calls`, which it answers and takes out.
async fn exchange(address: &str, client: &mut Option<AsyncMetaClient>, calls: &mut Vec<Call>) -> Exchanged {
    let connected = match client.take() {
        Some(connected) => connected,
        None => match connect(address).await {
            Ok(connected) => connected,
            Err(error) => {
                let error = Error::Unavailable { reason: format!("memcached at {address}: {error}") };
                calls.drain(..).for_each(|call| call.answer(Err(error.clone())));
                return Exchanged::Failed;
            }
        },
    };
    let connected = client.insert(connected);
    let (operations, replies): (Vec<_>, Vec<_>) = calls.drain(..).map(|call| (call.operation, call.reply)).unzip();
    let results = match connected.run_batch(operations).await {
        Ok(results) => results,
        Err(error) => {
            // Refused by the client itself, before anything was written.
            let error = Error::Unavailable { reason: error.to_string() };
            replies.into_iter().for_each(|reply| drop(reply.send(Err(error.clone()))));
            return Exchanged::Refused;
        }
    };
    let mut exchanged = Exchanged::Answered;
    for (reply, result) in replies.into_iter().zip(results) {
        match &result {
            Err(error) if is_refusal(error) => exchanged = Exchanged::Gone,
            Err(error) if is_transport(error) => exchanged = Exchanged::Failed,
            Err(_) if matches!(exchanged, Exchanged::Answered) => exchanged = Exchanged::Refused,
            _ => {}
        }
        // A caller that has gone away wants no answer.
        drop(reply.send(result.map_err(of_client)));
    }
    exchanged
}

/// Looks the address up; the client dials when it has something to send.
async fn connect(address: &str) -> memcache::exp::Result<AsyncMetaClient> {
    let builder = AsyncMetaClient::builder().max_idle(1).connect_timeout(Some(CONNECT_TIMEOUT));
    let connecting = builder.io_timeout(Some(EXCHANGE_TIMEOUT)).connect_multiple_async([address.to_owned()]);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}
