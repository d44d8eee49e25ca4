//! Reads of counters, from the cache or with what was written since the last rollup.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::BoxFuture;
use prost::Message;
use tallyman_api::client::Client;
use tallyman_api::proto::GetCountRequest;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::batch::add_batch;
use super::verify::verify;
use crate::counters::{Acknowledged, Counters};
use crate::deployment::{Deployment, Namespace};
use crate::measurement::{self, Caller, Contender, Measurement, Span};

/// Adds that are made while accurate counters are read, so that reads have something to add up.
const WRITES_EVERY: Duration = Duration::from_millis(100);
const WRITES_AT_ONCE: usize = 100;

/// The length of the message of one read, for those who are to send as much.
pub fn encoded_len(namespace: Namespace, counters: &Counters) -> Result<usize> {
    let Some(name) = counters.names().next() else { bail!("there are no counters") };
    let (namespace, counter_name) = (namespace.name().to_owned(), name.to_owned());
    Ok(GetCountRequest { namespace, counter_name, max_staleness: None }.encoded_len())
}

/// Callers that read the counters of one namespace, each of which was written before.
pub struct Reads {
    deployment: Deployment,
    namespace: Namespace,
    counters: Counters,
    callers: Vec<Reader>,
    writer: Option<Writer>,
}

impl Reads {
    /// Writes every counter once, waits until all are rolled up, and makes `callers` callers on one connection. In accurate
    /// namespaces somebody goes on writing while they read.
    pub async fn prepare(
        deployment: Deployment,
        namespace: Namespace,
        callers: usize,
        counters: &Counters,
    ) -> Result<Self> {
        let client = deployment.client()?;
        let mut writer = Writer { client: client.clone(), namespace, acknowledged: counters.acknowledged(0) };
        let mut left = counters.len();
        while left > 0 {
            let now = left.min(WRITES_AT_ONCE);
            writer.add(now).await?;
            left -= now;
        }
        until_rolled_up(&client, namespace, counters).await?;
        deployment.until_idle().await?;
        let reader = |caller| Reader { client: client.clone(), namespace, next: counters.acknowledged(caller) };
        let callers = (0..callers).map(reader).collect();
        Ok(Self { deployment, namespace, counters: counters.clone(), callers, writer: Some(writer) })
    }
}

/// Waits until the last rollup of every counter has its one add.
async fn until_rolled_up(client: &Client, namespace: Namespace, counters: &Counters) -> Result<()> {
    const ATTEMPTS: usize = 200;
    for name in counters.names() {
        let mut attempts = 0;
        while client.get(namespace.name(), name, None).await?.count != 1 {
            attempts += 1;
            ensure!(attempts < ATTEMPTS, "{name} is not rolled up");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

impl Contender for Reads {
    fn name(&self) -> String {
        format!("{}-{}", self.deployment.name, self.namespace.name())
    }

    fn measure(&mut self, span: Span) -> BoxFuture<'_, Result<Measurement>> {
        Box::pin(async move {
            let writing = match self.namespace {
                Namespace::Accurate => self.writer.take().map(|writer| Writing::start(writer, span)),
                Namespace::Eventual | Namespace::BestEffort => None,
            };
            let measured = measurement::measure(&mut self.callers, span, &self.deployment.processes()).await?;
            if let Some(writing) = writing {
                self.writer = Some(writing.end().await?);
            }
            self.deployment.until_idle().await?;
            Ok(measured)
        })
    }

    fn verify(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let writer = self.writer.as_ref().context("the writer is gone")?;
            let acknowledged = Acknowledged::sum(std::iter::once(&writer.acknowledged));
            verify(&self.deployment.client()?, self.namespace, &self.counters, &acknowledged).await
        })
    }
}

struct Reader {
    client: Client,
    namespace: Namespace,
    next: Acknowledged,
}

impl Caller for Reader {
    async fn call(&mut self) -> Result<u64> {
        let (_, name) = self.next.next();
        let reply = self.client.get(self.namespace.name(), name, None).await?;
        ensure!(reply.count >= 1 && reply.as_of.is_some(), "{name} was written and reads {}", reply.count);
        Ok(1)
    }
}

struct Writer {
    client: Client,
    namespace: Namespace,
    acknowledged: Acknowledged,
}

impl Writer {
    async fn add(&mut self, count: usize) -> Result<()> {
        add_batch(&self.client, self.namespace, &mut self.acknowledged, count).await
    }
}

/// A writer at work beside the readers.
struct Writing(JoinHandle<Result<Writer>>);

impl Writing {
    fn start(mut writer: Writer, span: Span) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = tokio::time::interval(WRITES_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let until = tokio::time::Instant::now() + span.warm_up + span.measured;
            while ticks.tick().await < until {
                writer.add(WRITES_AT_ONCE).await?;
            }
            Ok(writer)
        }))
    }

    async fn end(self) -> Result<Writer> {
        self.0.await.context("the writer panicked")?
    }
}
