//! The echo as a contender: its server in a process of its own, its callers on one channel.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::Payload;
use crate::measurement::{self, Caller, Contender, Measurement, Span};
use crate::process::{self, Server};

/// A running echo server and its callers.
pub struct Echo {
    server: Server,
    callers: Vec<EchoCaller>,
    name: String,
}

impl Echo {
    /// Starts a server; `callers` send it messages of `encoded_len` bytes.
    pub async fn start(dir: &Path, callers: usize, encoded_len: usize) -> Result<Self> {
        let address = process::free_address()?;
        let arguments = ["serve-echo".to_owned(), address.to_string()];
        let mut server = Server::start("echo", std::env::current_exe()?, arguments, dir)?;
        server.until_ready(Duration::from_millis(10), async || process::listens(address).await).await?;
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
        let payload = Payload::of_encoded_len(encoded_len);
        let caller = EchoCaller { grpc: Grpc::new(channel), payload };
        Ok(Self { server, callers: vec![caller; callers], name: format!("echo-{callers}") })
    }
}

impl Contender for Echo {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn measure(&mut self, span: Span) -> BoxFuture<'_, Result<Measurement>> {
        Box::pin(async move { measurement::measure(&mut self.callers, span, &[self.server.process()]).await })
    }
}

#[derive(Clone)]
struct EchoCaller {
    grpc: Grpc<Channel>,
    payload: Payload,
}

impl Caller for EchoCaller {
    async fn call(&mut self) -> Result<u64> {
        self.grpc.ready().await.context("the channel is not ready")?;
        let path = PathAndQuery::from_static("/tallyman.bench.Echo/Echo");
        let request = tonic::Request::new(self.payload.clone());
        let reply = self.grpc.unary(request, path, ProstCodec::<Payload, Payload>::default()).await?;
        ensure!(reply.into_inner() == self.payload, "the echo is not what was sent");
        Ok(1)
    }
}
