//! Sends requests until they are settled: attempts, hedges, waits. What to do after a failure is decided in
//! [`retry`](super::retry).

use std::{error::Error as _, future::Future, time::Duration};

use futures::future::{Either, select};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{
    Client, Error, Stub,
    retry::{Decision, Failure, History, Operation, conclusion, decide},
};
use crate::{
    proto::{GetCountRequest, IdempotencyToken},
    status::Status,
};

/// Whose token a request carries.
#[derive(Debug, Clone)]
pub(super) enum Token {
    /// A read has none.
    Read,
    /// The client made it and may replace it.
    Ours(IdempotencyToken),
    /// The caller made it.
    Callers(IdempotencyToken),
}

impl Token {
    pub(super) fn get(&self) -> Option<&IdempotencyToken> {
        match self {
            Self::Read => None,
            Self::Ours(token) | Self::Callers(token) => Some(token),
        }
    }
}

/// One thing to do: a call's only one, or one of a batch.
struct Item<I> {
    index: usize,
    payload: I,
    token: Token,
    history: History,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) namespace: &'a str,
    /// A counter that the call is about; it is read to learn whether the namespace honours tokens.
    pub(super) counter_name: &'a str,
    pub(super) deadline: Instant,
}

impl Client {
    /// The instant at which a call that starts now ends.
    pub(super) fn deadline_from_now(&self) -> Instant {
        Instant::now() + self.deadline
    }

    /// Sends items until each is settled; the results are in the order of the items. `send` makes one attempt with those
    /// it is given and answers for each of them, or fails for all of them together.
    pub(super) async fn settle_all<I, O, F, Fut>(
        &self,
        target: Target<'_>,
        items: Vec<(I, Token)>,
        send: F,
    ) -> Vec<Result<O, Error>>
    where
        I: Clone,
        F: Fn(Vec<(I, Option<IdempotencyToken>)>) -> Fut,
        Fut: Future<Output = Result<Vec<Result<O, Status>>, Failure>>,
    {
        let pending: Vec<_> = items
            .into_iter()
            .enumerate()
            .map(|(index, (payload, token))| Item { index, payload, token, history: History::default() })
            .collect();
        let settled = Vec::with_capacity(pending.len());
        self.settle(target, pending, settled, send).await
    }

    /// Goes on after the first attempt of a call that is no batch has failed.
    pub(super) async fn settle_after<O, F, Fut>(
        &self,
        target: Target<'_>,
        token: Token,
        failure: Failure,
        send: F,
    ) -> Result<O, Error>
    where
        F: Fn(Vec<((), Option<IdempotencyToken>)>) -> Fut,
        Fut: Future<Output = Result<Vec<Result<O, Status>>, Failure>>,
    {
        let mut item = Item { index: 0, payload: (), token, history: History::default() };
        item.history.record(&failure);
        let mut settled = Vec::with_capacity(1);
        let pending = self.choose_retries(target, vec![(item, failure)], &mut settled).await;
        let mut results = self.settle(target, pending, settled, send).await;
        // There is one result for each item, and there was one item.
        results.pop().expect("one item was settled")
    }

    /// Sends what is pending until all is settled.
    async fn settle<I, O, F, Fut>(
        &self,
        target: Target<'_>,
        mut pending: Vec<Item<I>>,
        mut settled: Vec<(usize, Result<O, Error>)>,
        send: F,
    ) -> Vec<Result<O, Error>>
    where
        I: Clone,
        F: Fn(Vec<(I, Option<IdempotencyToken>)>) -> Fut,
        Fut: Future<Output = Result<Vec<Result<O, Status>>, Failure>>,
    {
        while !pending.is_empty() {
            let attempt = send(pending.iter().map(|item| (item.payload.clone(), item.token.get().cloned())).collect());
            let outcomes = attempt.await.and_then(|outcomes| {
                if outcomes.len() == pending.len() {
                    Ok(outcomes)
                } else {
                    Err(Failure::malformed("another number of results than of items"))
                }
            });
            let mut failed = Vec::new();
            match outcomes {
                Ok(outcomes) => {
                    for (item, outcome) in pending.into_iter().zip(outcomes) {
                        match outcome {
                            Ok(output) => settled.push((item.index, Ok(output))),
                            Err(status) => failed.push((item, Failure::reported(status))),
                        }
                    }
                }
                Err(failure) => failed.extend(pending.into_iter().map(|item| (item, failure.clone()))),
            }
            for (item, failure) in &mut failed {
                item.history.record(failure);
            }
            pending = self.choose_retries(target, failed, &mut settled).await;
        }
        settled.sort_unstable_by_key(|(index, _)| *index);
        settled.into_iter().map(|(_, result)| result).collect()
    }

    /// Settles the failed items that are to be given up, waits, and returns those to be sent again.
    async fn choose_retries<I, O>(
        &self,
        target: Target<'_>,
        mut failed: Vec<(Item<I>, Failure)>,
        settled: &mut Vec<(usize, Result<O, Error>)>,
    ) -> Vec<Item<I>> {
        loop {
            let jitter = fastrand::f64();
            let mut wait = Duration::ZERO;
            let mut must_learn = false;
            let mut kept = Vec::with_capacity(failed.len());
            for (item, failure) in failed {
                let operation = self.operation(target.namespace, &item.token);
                let decision = decide(&self.shared.policy, operation, &item.history, &failure, jitter);
                let (delay, fresh_token) = match decision {
                    Decision::Retry { delay, fresh_token } if fits(target.deadline, delay) => (delay, fresh_token),
                    Decision::Learn { delay } if fits(target.deadline, delay) => {
                        must_learn = true;
                        (delay, false)
                    }
                    // A wait beyond the deadline would only delay the answer.
                    Decision::GiveUp | Decision::Retry { .. } | Decision::Learn { .. } => {
                        let error = conclusion(operation, &item.history, failure.status, item.token.get());
                        settled.push((item.index, Err(error)));
                        continue;
                    }
                };
                wait = wait.max(delay);
                kept.push((item, failure, fresh_token));
            }
            if kept.is_empty() {
                return Vec::new();
            }
            sleep(wait).await;
            if !must_learn {
                return kept
                    .into_iter()
                    .map(|(mut item, _, fresh_token)| {
                        if fresh_token {
                            item.token = Token::Ours(self.shared.tokens.next());
                            item.history.record_fresh_token();
                        }
                        item
                    })
                    .collect();
            }
            let learned = self.learn_token_support(target).await;
            failed = kept
                .into_iter()
                .map(|(mut item, failure, _)| {
                    if !learned {
                        item.history.record_probe();
                    }
                    (item, failure)
                })
                .collect();
        }
    }

    /// Reads a counter for what the reply says about the namespace, not for the count; a failure may say it too.
    async fn learn_token_support(&self, target: Target<'_>) -> bool {
        let request = GetCountRequest {
            namespace: target.namespace.to_owned(),
            counter_name: target.counter_name.to_owned(),
            max_staleness: None,
        };
        let send = async |mut stub: Stub, request| stub.get_count(request).await;
        let reply = self.attempt(target, false, &request, &send).await;
        drop(reply);
        self.shared.token_support.get(target.namespace).is_some()
    }

    fn operation(&self, namespace: &str, token: &Token) -> Operation {
        let token_is_ours = match token {
            Token::Read => return Operation::Read,
            Token::Ours(_) => true,
            Token::Callers(_) => false,
        };
        let token_honoured = self.shared.token_support.get(namespace);
        Operation::Mutation { token_honoured, token_is_ours }
    }

    /// One attempt, hedged if that is wanted and safe.
    pub(super) async fn attempt<Req, Res, F, Fut>(
        &self,
        target: Target<'_>,
        is_mutation: bool,
        request: &Req,
        send: &F,
    ) -> Result<Res, Failure>
    where
        Req: Clone,
        F: Fn(Stub, tonic::Request<Req>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<Res>, tonic::Status>>,
    {
        let may_hedge = !is_mutation || self.shared.token_support.get(target.namespace) == Some(true);
        let hedge_at =
            self.shared.hedge_delay.filter(|_| may_hedge).and_then(|delay| Instant::now().checked_add(delay));
        let attempt = async {
            let first = std::pin::pin!(self.send_once(target, request.clone(), send));
            let Some(hedge_at) = hedge_at else {
                return first.await;
            };
            let pause = std::pin::pin!(sleep_until(hedge_at));
            let first = match select(first, pause).await {
                Either::Left((reply, _)) => return reply,
                Either::Right((_, first)) => first,
            };
            let second = std::pin::pin!(self.send_once(target, request.clone(), send));
            // A failure waits for the other: only both together tell what may have been applied.
            match select(first, second).await {
                Either::Left((Ok(reply), _)) | Either::Right((Ok(reply), _)) => Ok(reply),
                Either::Left((Err(failure), second)) => second.await.map_err(|last| failure.and(last)),
                Either::Right((Err(failure), first)) => first.await.map_err(|last| failure.and(last)),
            }
        };
        timeout_at(target.deadline, attempt).await.unwrap_or_else(|_| Err(Failure::deadline()))
    }

    async fn send_once<Req, Res, F, Fut>(&self, target: Target<'_>, request: Req, send: &F) -> Result<Res, Failure>
    where
        F: Fn(Stub, tonic::Request<Req>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<Res>, tonic::Status>>,
    {
        let mut request = tonic::Request::new(request);
        // The server need not work longer than the caller waits.
        request.set_timeout(target.deadline.saturating_duration_since(Instant::now()));
        match send(self.stub.clone(), request).await {
            Ok(reply) => {
                self.shared.token_support.learn(target.namespace, reply.metadata());
                Ok(reply.into_inner())
            }
            Err(status) => {
                self.shared.token_support.learn(target.namespace, status.metadata());
                Err(failure(&status))
            }
        }
    }
}

/// Reads a transport's or server's status.
pub(super) fn failure(status: &tonic::Status) -> Failure {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return Failure::not_sent(Status::from(status));
        }
        source = error.source();
    }
    Failure::reported(Status::from(status))
}

/// Whether there is time left after the delay.
fn fits(deadline: Instant, delay: Duration) -> bool {
    Instant::now().checked_add(delay).is_some_and(|then| then < deadline)
}
