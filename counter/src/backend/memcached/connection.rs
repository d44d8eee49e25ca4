//! One connection and the task that feeds it.

use std::time::Duration;

use memcache::exp::{
    Arithmetic, ArithmeticResult, AsyncMetaClient, Delete, Get, GetResult, MutationStatus, Op, OpResult,
};
use tokio::sync::{mpsc, oneshot};

use super::encoding;
use crate::store::{Error, Result};

/// The most calls in one exchange: enough to make the round trip cheap, few enough not to hold up the ones behind.
const EXCHANGE_CALLS_MAX: usize = 512;
/// How long dialling, and then an exchange, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(1);

/// What is asked of memcached, and where the answer goes.
pub(super) enum Call {
    Add { key: String, delta: i64, ttl_seconds: u32, reply: oneshot::Sender<Result<i64>> },
    Get { key: String, reply: oneshot::Sender<Result<Option<i64>>> },
    Clear { key: String, reply: oneshot::Sender<Result<()>> },
}

impl Call {
    fn operation(&self) -> Op {
        match self {
            Self::Add { key, delta, ttl_seconds, .. } => {
                let arithmetic = Arithmetic::new(key).delta(encoding::increment(*delta));
                arithmetic.initial(encoding::to_stored(*delta), *ttl_seconds).into()
            }
            Self::Get { key, .. } => Get::new(key).into(),
            Self::Clear { key, .. } => Delete::new(key).into(),
        }
    }

    /// A caller that has gone away wants no answer.
    fn answer(self, result: Result<OpResult>) {
        match self {
            Self::Add { reply, .. } => drop(reply.send(result.and_then(added))),
            Self::Get { reply, .. } => drop(reply.send(result.and_then(read))),
            Self::Clear { reply, .. } => drop(reply.send(result.and_then(cleared))),
        }
    }
}

fn unexpected(result: &OpResult) -> Error {
    Error::Corrupt { reason: format!("memcached answered {result:?}") }
}

fn added(result: OpResult) -> Result<i64> {
    match result {
        OpResult::Arithmetic(ArithmeticResult { status: MutationStatus::Applied, value: Some(stored), .. }) => {
            Ok(encoding::to_count(stored))
        }
        other => Err(unexpected(&other)),
    }
}

fn read(result: OpResult) -> Result<Option<i64>> {
    match &result {
        OpResult::Get(GetResult { value: None, .. }) => Ok(None),
        OpResult::Get(GetResult { value: Some(value), .. }) => {
            encoding::count(value).map(Some).ok_or_else(|| unexpected(&result))
        }
        other => Err(unexpected(other)),
    }
}

fn cleared(result: OpResult) -> Result<()> {
    match &result {
        OpResult::Mutation(mutation)
            if matches!(mutation.status, MutationStatus::Applied | MutationStatus::NotFound) =>
        {
            Ok(())
        }
        other => Err(unexpected(other)),
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

/// Sends what comes in on `calls` to the memcached at `address` (host:port) until no sender is left.
pub(super) async fn serve(address: String, mut calls: mpsc::Receiver<Call>) {
    let mut client = None;
    let mut waiting = Vec::new();
    while calls.recv_many(&mut waiting, EXCHANGE_CALLS_MAX).await > 0 {
        // Nobody waits for the answer any more, and nothing was sent: so that it never is.
        waiting.retain(|call| match call {
            Call::Add { reply, .. } => !reply.is_closed(),
            Call::Get { reply, .. } => !reply.is_closed(),
            Call::Clear { reply, .. } => !reply.is_closed(),
        });
        if !exchange(&address, &mut client, &mut waiting).await {
            // Its address may be another one now: it is looked up again.
            client = None;
        }
    }
}

/// One exchange for all of `calls`, which it answers and takes out. Whether the connection still serves.
async fn exchange(address: &str, client: &mut Option<AsyncMetaClient>, calls: &mut Vec<Call>) -> bool {
    let connected = match client.take() {
        Some(connected) => connected,
        None => match connect(address).await {
            Ok(connected) => connected,
            Err(error) => {
                let error = Error::Unavailable { reason: format!("memcached at {address}: {error}") };
                calls.drain(..).for_each(|call| call.answer(Err(error.clone())));
                return false;
            }
        },
    };
    let connected = client.insert(connected);
    let results = match connected.run_batch(calls.iter().map(Call::operation)).await {
        Ok(results) => results,
        Err(error) => {
            // Refused by the client itself, before anything was written.
            let error = Error::Unavailable { reason: error.to_string() };
            calls.drain(..).for_each(|call| call.answer(Err(error.clone())));
            return false;
        }
    };
    let mut serves = true;
    for (call, result) in calls.drain(..).zip(results) {
        serves &= result.is_ok();
        call.answer(result.map_err(of_client));
    }
    serves
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
