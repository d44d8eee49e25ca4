//! A client of the counter API that makes mutations safe to retry.
//!
//! Each mutation gets an idempotency token, which every retry and hedge repeats; it then counts once. What may have been
//! applied without that being known is reported as [`Error::OutcomeUnknown`] and as nothing else.
//!
//! Best-effort namespaces do not honour tokens. Every reply says whether its namespace does
//! ([`TOKEN_HONOURED`](crate::TOKEN_HONOURED)), so the client knows after its first reply. Until then it does not hedge a
//! mutation, and before it repeats one that may have been applied, it reads the counter to find out.
//!
//! ```no_run
//! # async fn example() -> Result<(), tallyman_api::client::Error> {
//! use tallyman_api::client::Client;
//!
//! let client = Client::connect("http://127.0.0.1:7777")?;
//! client.add("video-plays", "video/42", 1, None).await?;
//! let plays = client.get("video-plays", "video/42", None).await?;
//! println!("{} plays", plays.count);
//! # Ok(())
//! # }
//! ```

mod batch;
mod builder;
mod call;
mod error;
mod retry;
mod token;
mod token_support;
mod watch;

use std::{future::Future, sync::Arc, time::Duration};

use tonic::transport::Channel;

pub use self::{batch::Add, builder::Builder, error::Error, retry::Policy, token::TokenSource};
use self::{
    call::{Target, Token},
    token_support::TokenSupport,
};
use crate::{
    proto::{
        AddAndGetCountRequest, AddCountRequest, ClearCountRequest, GetCountRequest, IdempotencyToken,
        counter_service_client::CounterServiceClient,
    },
    time::Timestamp,
};

type Stub = CounterServiceClient<Channel>;

/// A count and what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The count.
    pub count: i64,
    /// Eventual: every acknowledged event up to this time is in the count. Accurate, or made exact: every mutation
    /// acknowledged before it is. `None` in best-effort namespaces.
    pub as_of: Option<Timestamp>,
}

/// A client of the counter API. Clones are cheap and share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    stub: Stub,
    deadline: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    policy: Policy,
    hedge_delay: Option<Duration>,
    tokens: TokenSource,
    token_support: TokenSupport,
}

impl Client {
    /// A client with the default options; see [`Builder::connect`].
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn connect(address: impl Into<String>) -> Result<Self, Error> {
        Self::builder(address).connect()
    }

    /// A client with options. Addresses are `http://HOST:PORT` and `unix:/PATH`.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder::new(address.into())
    }

    /// The same client, on the same connection, with another deadline for its calls.
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline: builder::deadline(deadline), ..self.clone() }
    }

    /// A token as the client makes them, for a caller who keeps it to repeat the mutation later.
    pub fn new_token(&self) -> IdempotencyToken {
        self.shared.tokens.next()
    }

    /// Adds `delta`. `token` is the caller's own; without one the client makes one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add(
        &self,
        namespace: &str,
        counter_name: &str,
        delta: i64,
        token: Option<IdempotencyToken>,
    ) -> Result<(), Error> {
        let build = |idempotency_token| AddCountRequest {
            namespace: namespace.to_owned(),
            counter_name: counter_name.to_owned(),
            delta,
            idempotency_token,
        };
        let send = async |mut stub: Stub, request| stub.add_count(request).await;
        self.one(namespace, counter_name, self.token_or_ours(token), build, send).await?;
        Ok(())
    }

    /// Adds `delta` and returns the count, which in eventual namespaces is the last rolled-up one. `token` is the
    /// caller's own; without one the client makes one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn add_and_get(
        &self,
        namespace: &str,
        counter_name: &str,
        delta: i64,
        token: Option<IdempotencyToken>,
    ) -> Result<Reading, Error> {
        let build = |idempotency_token| AddAndGetCountRequest {
            namespace: namespace.to_owned(),
            counter_name: counter_name.to_owned(),
            delta,
            idempotency_token,
        };
        let send = async |mut stub: Stub, request| stub.add_and_get_count(request).await;
        let reply = self.one(namespace, counter_name, self.token_or_ours(token), build, send).await?;
        Ok(Reading { count: reply.count, as_of: reply.as_of })
    }

    /// Reads a counter. With `max_staleness`, a count that is older is made exact by reading what was written since.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(
        &self,
        namespace: &str,
        counter_name: &str,
        max_staleness: Option<Duration>,
    ) -> Result<Reading, Error> {
        let build = |_| GetCountRequest {
            namespace: namespace.to_owned(),
            counter_name: counter_name.to_owned(),
            max_staleness: max_staleness.map(Into::into),
        };
        let send = async |mut stub: Stub, request| stub.get_count(request).await;
        let reply = self.one(namespace, counter_name, Token::Read, build, send).await?;
        Ok(Reading { count: reply.count, as_of: reply.as_of })
    }

    /// Clears a counter. `token` is the caller's own; without one the client makes one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn clear(
        &self,
        namespace: &str,
        counter_name: &str,
        token: Option<IdempotencyToken>,
    ) -> Result<(), Error> {
        let build = |idempotency_token| ClearCountRequest {
            namespace: namespace.to_owned(),
            counter_name: counter_name.to_owned(),
            idempotency_token,
        };
        let send = async |mut stub: Stub, request| stub.clear_count(request).await;
        self.one(namespace, counter_name, self.token_or_ours(token), build, send).await?;
        Ok(())
    }

    fn token_or_ours(&self, token: Option<IdempotencyToken>) -> Token {
        match token {
            Some(token) => Token::Callers(token),
            None => Token::Ours(self.shared.tokens.next()),
        }
    }

    /// A call that is no batch.
    async fn one<Req, Res, F, Fut>(
        &self,
        namespace: &str,
        counter_name: &str,
        token: Token,
        build: impl Fn(Option<IdempotencyToken>) -> Req,
        send: F,
    ) -> Result<Res, Error>
    where
        Req: Clone,
        F: Fn(Stub, tonic::Request<Req>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<Res>, tonic::Status>>,
    {
        let target = Target { namespace, counter_name, deadline: self.deadline_from_now() };
        let is_mutation = token.get().is_some();
        let send = &send;
        let failure = match self.attempt(target, is_mutation, &build(token.get().cloned()), send).await {
            Ok(reply) => return Ok(reply),
            Err(failure) => failure,
        };
        let attempt = |items: Vec<((), Option<IdempotencyToken>)>| {
            let request = build(items.into_iter().find_map(|(_, token)| token));
            async move { Ok(vec![Ok(self.attempt(target, is_mutation, &request, send).await?)]) }
        };
        // Rare, and large: nobody who is answered at once is to carry it about.
        Box::pin(self.settle_after(target, token, failure, attempt)).await
    }
}
