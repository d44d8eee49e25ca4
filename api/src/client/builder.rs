//! The client's options.

use std::{sync::Arc, time::Duration};

use tonic::transport::Endpoint;

use super::{Client, Error, Policy, Shared, TokenSource, token_support::TokenSupport};
use crate::proto::counter_service_client::CounterServiceClient;

/// The longest deadline of a call; it stands for "none".
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A deadline as calls use it.
pub(super) fn deadline(deadline: Duration) -> Duration {
    deadline.min(DEADLINE_MAX)
}

/// Options of a [`Client`].
#[derive(Debug, Clone)]
pub struct Builder {
    address: String,
    deadline: Duration,
    policy: Policy,
    hedge_delay: Option<Duration>,
    tokens: TokenSource,
    best_effort: Vec<String>,
}

impl Builder {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            deadline: Duration::from_secs(3),
            policy: Policy::default(),
            hedge_delay: None,
            tokens: TokenSource::anonymous(),
            best_effort: Vec::new(),
        }
    }

    /// The longest time a call may take, with all its retries; by default 3 s, at most a day. [`Client::watch`] has
    /// none.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = self::deadline(deadline);
        self
    }

    /// How often and how fast failed attempts are repeated.
    pub fn retries(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Sends a request again, with the same token, if there is no answer after `delay`; the first success wins. By
    /// default there is no hedging. Mutations are hedged only in namespaces that are known to honour tokens.
    pub fn hedge_after(mut self, delay: Duration) -> Self {
        self.hedge_delay = Some(delay);
        self
    }

    /// What makes the tokens; by default they name no source.
    pub fn token_source(mut self, tokens: TokenSource) -> Self {
        self.tokens = tokens;
        self
    }

    /// Says beforehand that a namespace does not honour tokens, so that the client need not find out: a mutation that
    /// may have been applied is then reported at once and never sent again.
    pub fn best_effort(mut self, namespace: impl Into<String>) -> Self {
        self.best_effort.push(namespace.into());
        self
    }

    /// Makes the client; must be called within a Tokio runtime. It connects with its first call and again whenever the
    /// connection is lost.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn connect(self) -> Result<Client, Error> {
        let wrong = |why: &str| Error::Address { address: self.address.clone(), why: why.to_owned() };
        let authority = self.address.strip_prefix("http://");
        let path = self.address.strip_prefix("unix:");
        match (authority, path) {
            (Some(""), _) => return Err(wrong("has no host")),
            (_, Some("" | "//")) => return Err(wrong("has no path")),
            (None, None) => return Err(wrong("has another scheme or none")),
            _ => {}
        }
        let endpoint = Endpoint::from_shared(self.address.clone()).map_err(|error| wrong(&error.to_string()))?;
        let token_support = TokenSupport::default();
        for namespace in &self.best_effort {
            token_support.set(namespace, false);
        }
        Ok(Client {
            stub: CounterServiceClient::new(endpoint.connect_lazy()),
            deadline: self.deadline,
            shared: Arc::new(Shared {
                policy: self.policy,
                hedge_delay: self.hedge_delay,
                tokens: self.tokens,
                token_support,
            }),
        })
    }
}
