//! Adds, one a call or many, each with its own token, made by the client library.

use anyhow::{Result, bail};
use futures::future::BoxFuture;
use prost::Message;
use tallyman_api::client::Client;
use tallyman_api::proto::AddCountRequest;

use super::batch::add_batch;
use super::verify::verify;
use crate::counters::{Acknowledged, Counters};
use crate::deployment::{Deployment, Namespace};
use crate::measurement::{self, Caller, Contender, Measurement, Span};

/// The length of the message of one add, for those who are to send as much.
pub fn encoded_len(deployment: &Deployment, namespace: Namespace, counters: &Counters) -> Result<usize> {
    let Some(name) = counters.names().next() else { bail!("there are no counters") };
    let request = AddCountRequest {
        namespace: namespace.name().to_owned(),
        counter_name: name.to_owned(),
        delta: 1,
        idempotency_token: Some(deployment.client()?.new_token()),
    };
    Ok(request.encoded_len())
}

/// Callers that add to the counters of one namespace.
pub struct Adds {
    deployment: Deployment,
    namespace: Namespace,
    counters: Counters,
    callers: Vec<Adder>,
}

impl Adds {
    /// `callers` callers on one connection, who send `batch` adds a call.
    pub fn new(
        deployment: Deployment,
        namespace: Namespace,
        callers: usize,
        batch: usize,
        counters: &Counters,
    ) -> Result<Self> {
        let client = deployment.client()?;
        let adder =
            |caller| Adder { client: client.clone(), namespace, batch, acknowledged: counters.acknowledged(caller) };
        let callers = (0..callers).map(adder).collect();
        Ok(Self { deployment, namespace, counters: counters.clone(), callers })
    }

    /// Memory of the servers that is resident.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.deployment.resident_bytes()
    }
}

impl Contender for Adds {
    fn name(&self) -> String {
        format!("{}-{}", self.deployment.name, self.namespace.name())
    }

    fn measure(&mut self, span: Span) -> BoxFuture<'_, Result<Measurement>> {
        Box::pin(async move {
            let measured = measurement::measure(&mut self.callers, span, &self.deployment.processes()).await?;
            // What was just written is rolled up for some seconds yet: not while the next one is measured.
            self.deployment.until_idle().await?;
            Ok(measured)
        })
    }

    fn verify(&mut self) -> BoxFuture<'_, Result<()>> {
        let acknowledged = Acknowledged::sum(self.callers.iter().map(|caller| &caller.acknowledged));
        Box::pin(async move { verify(&self.deployment.client()?, self.namespace, &self.counters, &acknowledged).await })
    }
}

struct Adder {
    client: Client,
    namespace: Namespace,
    batch: usize,
    acknowledged: Acknowledged,
}

impl Caller for Adder {
    async fn call(&mut self) -> Result<u64> {
        let Self { client, namespace, batch, acknowledged } = self;
        if *batch > 1 {
            add_batch(client, *namespace, acknowledged, *batch).await?;
            return Ok(*batch as u64);
        }
        let (index, name) = acknowledged.next();
        client.add(namespace.name(), name, 1, None).await?;
        acknowledged.record(index);
        Ok(1)
    }
}
