//! The seven methods, the same for both transports: a request message in, a reply message or a [`Status`] out.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use tallyman_api::proto::{
    AddAndGetCountRequest, AddAndGetCountResponse, AddCountRequest, AddCountResponse, BatchAddCountRequest,
    BatchAddCountResponse, BatchGetCountRequest, BatchGetCountResponse, ClearCountRequest, ClearCountResponse,
    GetCountRequest, GetCountResponse, WatchCountRequest, WatchCountResponse, batch_add_count_request,
    batch_add_count_response, batch_get_count_response,
};
use tallyman_api::status::Status;
use tallyman_counter::service::{BATCH_ITEMS_MAX, BatchAdd, CounterService, Field};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::metrics::{ApiMetrics, Measurement, Method};
use crate::traces::{Call, RequestSpan};
use crate::{deadline, errors, fields};

/// The API over the engine.
pub(crate) struct Api {
    service: Arc<CounterService>,
    metrics: Arc<ApiMetrics>,
    /// Ends watches, which would never end by themselves.
    stop: CancellationToken,
}

/// A reply, and whether the namespace honours tokens.
pub(crate) struct Reply<T> {
    pub message: T,
    pub token_honoured: bool,
}

/// An error, and whether the namespace honours tokens; `None` where there is no such namespace here.
pub(crate) struct Refusal {
    pub status: Status,
    pub token_honoured: Option<bool>,
}

/// A method's answer.
pub(crate) type Answer<T> = Result<Reply<T>, Refusal>;

/// The messages of a watch; it ends after an error.
pub(crate) type Watch = BoxStream<'static, Result<WatchCountResponse, Status>>;

impl Api {
    pub fn new(service: Arc<CounterService>, metrics: Arc<ApiMetrics>, stop: CancellationToken) -> Self {
        Self { service, metrics, stop }
    }

    pub async fn add_count(&self, request: AddCountRequest, call: Call<'_>) -> Answer<AddCountResponse> {
        let AddCountRequest { namespace, counter_name, delta, idempotency_token } = request;
        self.measured(Method::Add, &namespace, call, async {
            let deadline = deadline::of(call.headers)?;
            let token = fields::client_token(idempotency_token, token_field)?;
            let added = self.service.add_count(&namespace, &counter_name, delta, token, deadline).await;
            let acknowledged = added.map_err(|error| errors::status(&error))?;
            Ok(Reply { message: AddCountResponse {}, token_honoured: acknowledged.token_honoured })
        })
        .await
    }

    pub async fn add_and_get_count(
        &self,
        request: AddAndGetCountRequest,
        call: Call<'_>,
    ) -> Answer<AddAndGetCountResponse> {
        let AddAndGetCountRequest { namespace, counter_name, delta, idempotency_token } = request;
        self.measured(Method::AddAndGet, &namespace, call, async {
            let deadline = deadline::of(call.headers)?;
            let token = fields::client_token(idempotency_token, token_field)?;
            let added = self.service.add_and_get_count(&namespace, &counter_name, delta, token, deadline).await;
            let (count, acknowledged) = added.map_err(|error| errors::status(&error))?;
            let message = AddAndGetCountResponse { count: count.count, as_of: fields::as_of(count.as_of) };
            Ok(Reply { message, token_honoured: acknowledged.token_honoured })
        })
        .await
    }

    pub async fn get_count(&self, request: GetCountRequest, call: Call<'_>) -> Answer<GetCountResponse> {
        let GetCountRequest { namespace, counter_name, max_staleness } = request;
        self.measured(Method::Get, &namespace, call, async {
            let deadline = deadline::of(call.headers)?;
            let max_staleness = fields::max_staleness(max_staleness)?;
            let read = self.service.get_count(&namespace, &counter_name, max_staleness, deadline).await;
            let count = read.map_err(|error| errors::status(&error))?;
            let message = GetCountResponse { count: count.count, as_of: fields::as_of(count.as_of) };
            // Only best-effort counts, whose tokens are not honoured, have no `as_of`.
            Ok(Reply { message, token_honoured: count.as_of.is_some() })
        })
        .await
    }

    pub async fn clear_count(&self, request: ClearCountRequest, call: Call<'_>) -> Answer<ClearCountResponse> {
        let ClearCountRequest { namespace, counter_name, idempotency_token } = request;
        self.measured(Method::Clear, &namespace, call, async {
            let deadline = deadline::of(call.headers)?;
            let token = fields::client_token(idempotency_token, token_field)?;
            let cleared = self.service.clear_count(&namespace, &counter_name, token, deadline).await;
            let acknowledged = cleared.map_err(|error| errors::status(&error))?;
            Ok(Reply { message: ClearCountResponse {}, token_honoured: acknowledged.token_honoured })
        })
        .await
    }

    pub async fn batch_add_count(
        &self,
        request: BatchAddCountRequest,
        call: Call<'_>,
    ) -> Answer<BatchAddCountResponse> {
        let BatchAddCountRequest { namespace, adds } = request;
        self.measured(Method::BatchAdd, &namespace, call, async {
            let deadline = deadline::of(call.headers)?;
            let mut refused = Vec::new();
            let adds = if adds.len() > BATCH_ITEMS_MAX {
                // The engine refuses the batch by its size; its tokens are not worth a look.
                adds.into_iter().map(without_token).collect()
            } else {
                adds.into_iter().enumerate().map(|(index, add)| batch_add(index, add, &mut refused)).collect()
            };
            let added = self.service.batch_add_count(&namespace, adds, deadline).await;
            let (results, acknowledged) = added.map_err(|error| errors::status(&error))?;
            let mut results: Vec<_> = results
                .into_iter()
                .map(|result| batch_add_count_response::Result {
                    status: result.err().map(|error| errors::status(&error)),
                })
                .collect();
            for (index, status) in refused {
                results[index].status = Some(status);
            }
            let message = BatchAddCountResponse { results };
            Ok(Reply { message, token_honoured: acknowledged.token_honoured })
        })
        .await
    }

    pub async fn batch_get_count(
        &self,
        request: BatchGetCountRequest,
        call: Call<'_>,
    ) -> Answer<BatchGetCountResponse> {
        let BatchGetCountRequest { namespace, counter_names } = request;
        self.measured(Method::BatchGet, &namespace, call, async {
            let deadline = deadline::of(call.headers)?;
            let read = self.service.batch_get_count(&namespace, &counter_names, deadline).await;
            let results = read.map_err(|error| errors::status(&error))?;
            let results = counter_names.into_iter().zip(results).map(|(counter_name, result)| match result {
                Ok(count) => batch_get_count_response::Result {
                    counter_name,
                    count: Some(count.count),
                    as_of: fields::as_of(count.as_of),
                    status: None,
                },
                Err(error) => batch_get_count_response::Result {
                    counter_name,
                    status: Some(errors::status(&error)),
                    ..Default::default()
                },
            });
            let results: Vec<_> = results.collect();
            let token_honoured = match results.iter().find(|result| result.status.is_none()) {
                Some(counted) => counted.as_of.is_some(),
                None => self.token_honoured(&namespace) == Some(true),
            };
            Ok(Reply { message: BatchGetCountResponse { results }, token_honoured })
        })
        .await
    }

    /// The watch ends with an error when the caller's deadline passes or the server stops.
    pub fn watch_count(&self, request: WatchCountRequest, call: Call<'_>) -> Answer<Watch> {
        let WatchCountRequest { namespace, counter_name } = request;
        let request = self.begin(Method::Watch, &namespace, call);
        let begun = deadline::of(call.headers).and_then(|deadline| {
            let counts = self.service.watch_count(&namespace, &counter_name);
            Ok((counts.map_err(|error| errors::status(&error))?, deadline))
        });
        let token_honoured = self.token_honoured(&namespace);
        let (counts, deadline) = match begun {
            Ok(begun) => begun,
            Err(status) => {
                request.refuse(&status);
                return Err(Refusal { status, token_honoured });
            }
        };
        request.span.responded(Ok(()));
        let messages = counts.map(|count| match count {
            Ok(count) => Ok(WatchCountResponse { count: count.count, as_of: fields::as_of(count.as_of) }),
            Err(error) => Err(errors::status(&error)),
        });
        let stop = self.stop.clone().cancelled_owned();
        let over = async move {
            let passed = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => futures::future::pending().await,
                }
            };
            tokio::select! {
                () = stop => Status::new(Code::Unavailable, "the server is stopping; watch again"),
                () = passed => Status::new(Code::DeadlineExceeded, "the deadline passed"),
            }
        };
        let watch = OpenWatch { messages: messages.boxed(), over: over.boxed(), request };
        Ok(Reply { message: watch.into_stream().boxed(), token_honoured: token_honoured == Some(true) })
    }

    /// Whether a namespace honours tokens, if it is served here.
    pub fn token_honoured(&self, namespace: &str) -> Option<bool> {
        self.service.token_honoured(namespace)
    }

    fn begin(&self, method: Method, namespace: &str, call: Call<'_>) -> Underway {
        let served = || self.token_honoured(namespace).map(|_| namespace);
        Underway { measurement: self.metrics.begin(method), span: RequestSpan::begin(method, call, served) }
    }

    async fn measured<T>(
        &self,
        method: Method,
        namespace: &str,
        call: Call<'_>,
        answer: impl Future<Output = Result<Reply<T>, Status>>,
    ) -> Answer<T> {
        let request = self.begin(method, namespace, call);
        match answer.await {
            Ok(reply) => {
                request.span.responded(Ok(()));
                request.end(Code::Ok);
                Ok(reply)
            }
            Err(status) => {
                request.refuse(&status);
                Err(Refusal { status, token_honoured: self.token_honoured(namespace) })
            }
        }
    }
}

/// What is told of a request under way. Dropped before its end, it was cancelled by the client.
struct Underway {
    measurement: Measurement,
    span: RequestSpan,
}

impl Underway {
    fn end(self, code: Code) {
        self.measurement.end(code);
        self.span.end(code);
    }

    /// Ends with an error instead of a reply.
    fn refuse(self, status: &Status) {
        self.span.responded(Err(status));
        self.end(status.code());
    }
}

struct OpenWatch {
    messages: Watch,
    /// Why the watch ends although nothing is wrong with it.
    over: BoxFuture<'static, Status>,
    request: Underway,
}

impl OpenWatch {
    fn into_stream(self) -> impl stream::Stream<Item = Result<WatchCountResponse, Status>> + Send {
        stream::unfold(Some(self), |watch| async {
            let mut watch = watch?;
            let message = tokio::select! {
                biased;
                status = &mut watch.over => Some(Err(status)),
                message = watch.messages.next() => message,
            };
            match message {
                Some(Ok(message)) => Some((Ok(message), Some(watch))),
                Some(Err(status)) => {
                    watch.request.end(status.code());
                    Some((Err(status), None))
                }
                None => {
                    watch.request.end(Code::Ok);
                    None
                }
            }
        })
    }
}

fn token_field() -> String {
    "idempotency_token".to_owned()
}

fn without_token(add: batch_add_count_request::Add) -> BatchAdd {
    BatchAdd { counter_name: add.counter_name, delta: add.delta, token: Default::default() }
}

/// One item of a batch. A wrong one keeps its place, so that the engine's answers stay in order, with a name that every
/// namespace refuses before it does anything; `refused` gets the true reason.
fn batch_add(index: usize, mut add: batch_add_count_request::Add, refused: &mut Vec<(usize, Status)>) -> BatchAdd {
    let field = || Field::in_batch("adds", index, "idempotency_token").as_str().to_owned();
    match fields::client_token(add.idempotency_token.take(), field) {
        Ok(token) => BatchAdd { counter_name: add.counter_name, delta: add.delta, token },
        Err(status) => {
            refused.push((index, status));
            BatchAdd { counter_name: String::new(), ..without_token(add) }
        }
    }
}
