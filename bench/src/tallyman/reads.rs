//! Reads of counters, from the cache or with what was written since the last rollup.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::BoxFuture;
use prost::Message;
use tallyman_api::proto::GetCountRequest;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::batch::add_batch;
use super::verify::verify;
use crate::counters::{Acknowledged, Counters};
use crate::measurement::{self, Caller, Contender, Measurement, Span};
use crate::standalone::{Namespace, Standalone, Stub};
use crate::tokens::Tokens;

/// Adds that are made while accurate counters are read, so that reads have something to add up.
const WRITES_EVERY: Duration = Duration::from_millis(100);
const WRITES_AT_ONCE: usize = 100;

/// The length of the message of one read, for those who are to send as much.
pub fn encoded_len(namespace: Namespace, counters: &Counters) -> Result<usize> {
    let Some(name) = counters.names().next() else { bail!("there are no counters") };
    Ok(request(namespace, name).encoded_len())
}

fn request(namespace: Namespace, name: &str) -> GetCountRequest {
    GetCountRequest { namespace: namespace.name().to_owned(), counter_name: name.to_owned(), max_staleness: None }
}

/// Callers that read the counters of one namespace, each of which was written before.
pub struct Reads {
    server: Standalone,
    namespace: Namespace,
    counters: Counters,
    callers: Vec<Reader>,
    writer: Option<Writer>,
}

impl Reads {
    /// Writes every counter once, waits until all are rolled up, and makes `callers` callers on one channel. In accurate
    /// namespaces somebody goes on writing while they read.
    pub async fn prepare(
        server: Standalone,
        namespace: Namespace,
        callers: usize,
        counters: &Counters,
    ) -> Result<Self> {
        let stub = server.stub()?;
        let mut writer =
            Writer { stub: stub.clone(), namespace, tokens: Tokens::new(), acknowledged: counters.acknowledged(0) };
        let mut left = counters.len();
        while left > 0 {
            let now = left.min(WRITES_AT_ONCE);
            writer.add(now).await?;
            left -= now;
        }
        until_rolled_up(&stub, namespace, counters).await?;
        server.process.until_quiet().await?;
        let reader = |caller| Reader { stub: stub.clone(), namespace, next: counters.acknowledged(caller) };
        let callers = (0..callers).map(reader).collect();
        Ok(Self { server, namespace, counters: counters.clone(), callers, writer: Some(writer) })
    }
}

/// Waits until the last rollup of every counter has its one add.
async fn until_rolled_up(stub: &Stub, namespace: Namespace, counters: &Counters) -> Result<()> {
    const ATTEMPTS: usize = 200;
    let mut stub = stub.clone();
    for name in counters.names() {
        let mut attempts = 0;
        while stub.get_count(request(namespace, name)).await?.into_inner().count != 1 {
            attempts += 1;
            ensure!(attempts < ATTEMPTS, "{name} is not rolled up");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

impl Contender for Reads {
    fn name(&self) -> String {
        format!("tallyman-{}", self.namespace.name())
    }

    fn measure(&mut self, span: Span) -> BoxFuture<'_, Result<Measurement>> {
        Box::pin(async move {
            let writing = match self.namespace {
                Namespace::Accurate => self.writer.take().map(|writer| Writing::start(writer, span)),
                Namespace::Eventual | Namespace::BestEffort => None,
            };
            let before = self.server.process.cpu_time()?;
            let load = measurement::run(&mut self.callers, span).await?;
            let cpu = self.server.process.cpu_time()? - before;
            if let Some(writing) = writing {
                self.writer = Some(writing.end().await?);
            }
            self.server.process.until_quiet().await?;
            load.measurement(cpu)
        })
    }

    fn verify(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let writer = self.writer.as_ref().context("the writer is gone")?;
            let acknowledged = Acknowledged::sum(std::iter::once(&writer.acknowledged));
            verify(&self.server.stub()?, self.namespace, &self.counters, &acknowledged).await
        })
    }
}

struct Reader {
    stub: Stub,
    namespace: Namespace,
    next: Acknowledged,
}

impl Caller for Reader {
    async fn call(&mut self) -> Result<u64> {
        let (_, name) = self.next.next();
        let reply = self.stub.get_count(request(self.namespace, name)).await?.into_inner();
        ensure!(reply.count >= 1 && reply.as_of.is_some(), "{name} was written and reads {}", reply.count);
        Ok(1)
    }
}

struct Writer {
    stub: Stub,
    namespace: Namespace,
    tokens: Tokens,
    acknowledged: Acknowledged,
}

impl Writer {
    async fn add(&mut self, count: usize) -> Result<()> {
        add_batch(&mut self.stub, self.namespace, &mut self.tokens, &mut self.acknowledged, count).await
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
