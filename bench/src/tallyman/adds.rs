//! Adds, one a call or many, each with its own token.

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use prost::Message;
use tallyman_api::proto::AddCountRequest;

use super::batch::add_batch;
use super::verify::verify;
use crate::counters::{Acknowledged, Counters};
use crate::measurement::{self, Caller, Contender, Measurement, Span};
use crate::standalone::{Namespace, Standalone, Stub};
use crate::tokens::Tokens;

/// The length of the message of one add, for those who are to send as much.
pub fn encoded_len(namespace: Namespace, counters: &Counters) -> Result<usize> {
    let Some(name) = counters.names().next() else { bail!("there are no counters") };
    Ok(request(namespace, name, &mut Tokens::new()).encoded_len())
}

fn request(namespace: Namespace, name: &str, tokens: &mut Tokens) -> AddCountRequest {
    AddCountRequest {
        namespace: namespace.name().to_owned(),
        counter_name: name.to_owned(),
        delta: 1,
        idempotency_token: Some(tokens.next()),
    }
}

/// Callers that add to the counters of one namespace.
pub struct Adds {
    server: Standalone,
    namespace: Namespace,
    counters: Counters,
    callers: Vec<Adder>,
}

impl Adds {
    /// `callers` callers on one channel, who send `batch` adds a call.
    pub fn new(
        server: Standalone,
        namespace: Namespace,
        callers: usize,
        batch: usize,
        counters: &Counters,
    ) -> Result<Self> {
        let stub = server.stub()?;
        let adder = |caller| Adder {
            stub: stub.clone(),
            namespace,
            batch,
            tokens: Tokens::new(),
            acknowledged: counters.acknowledged(caller),
        };
        let callers = (0..callers).map(adder).collect();
        Ok(Self { server, namespace, counters: counters.clone(), callers })
    }

    /// Memory of the server that is resident.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.server.process.resident_bytes()
    }
}

impl Contender for Adds {
    fn name(&self) -> String {
        format!("tallyman-{}", self.namespace.name())
    }

    fn measure(&mut self, span: Span) -> BoxFuture<'_, Result<Measurement>> {
        Box::pin(async move {
            let before = self.server.process.cpu_time()?;
            let load = measurement::run(&mut self.callers, span).await?;
            let cpu = self.server.process.cpu_time()? - before;
            // What was just written is rolled up for some seconds yet: not while the next one is measured.
            self.server.process.until_quiet().await?;
            load.measurement(cpu)
        })
    }

    fn verify(&mut self) -> BoxFuture<'_, Result<()>> {
        let acknowledged = Acknowledged::sum(self.callers.iter().map(|caller| &caller.acknowledged));
        Box::pin(async move { verify(&self.server.stub()?, self.namespace, &self.counters, &acknowledged).await })
    }
}

struct Adder {
    stub: Stub,
    namespace: Namespace,
    batch: usize,
    tokens: Tokens,
    acknowledged: Acknowledged,
}

impl Caller for Adder {
    async fn call(&mut self) -> Result<u64> {
        if self.batch > 1 {
            let Self { stub, namespace, tokens, acknowledged, batch } = self;
            add_batch(stub, *namespace, tokens, acknowledged, *batch).await?;
            return Ok(*batch as u64);
        }
        let (index, name) = self.acknowledged.next();
        let request = request(self.namespace, name, &mut self.tokens);
        self.stub.add_count(request).await?;
        self.acknowledged.record(index);
        Ok(1)
    }
}
