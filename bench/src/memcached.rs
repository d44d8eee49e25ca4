//! memcached: a server in a process of its own, and incrementing in it directly, one command a round trip.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::future::BoxFuture;
use memcache::exp::{Arithmetic, AsyncMetaClient, Get, MutationStatus, Set};

use crate::counters::{Acknowledged, Counters};
use crate::measurement::{self, Caller, Contender, Measurement, Span};
use crate::process::{self, Server};

/// A running memcached.
pub struct Memcached {
    pub server: Server,
    pub address: SocketAddr,
}

impl Memcached {
    /// Starts one on a free port of loopback. `name` is its name in figures and that of its log in `dir`.
    pub async fn start(name: &str, dir: &Path) -> Result<Self> {
        const MEGABYTES: &str = "512";
        let address = process::free_address()?;
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        // It refuses to be root; for others, the user is not looked at.
        let arguments = ["-l", &ip, "-p", &port, "-U", "0", "-m", MEGABYTES, "-u", "nobody"];
        let mut server = Server::start(name, "memcached", arguments, dir)
            .context("memcached is needed (Debian: apt-get install memcached)")?;
        server.until_ready(Duration::from_millis(10), async || process::listens(address).await).await?;
        Ok(Self { server, address })
    }
}

/// Callers that increment in memcached, each a command at a time.
pub struct Increments {
    memcached: Memcached,
    client: AsyncMetaClient,
    counters: Counters,
    callers: Vec<Incrementer>,
}

impl Increments {
    /// Makes the counters and `callers` callers of one client, which keeps a connection for each.
    pub async fn prepare(memcached: Memcached, callers: usize, counters: &Counters) -> Result<Self> {
        let builder = AsyncMetaClient::builder().max_idle(callers);
        let client = builder.connect_async(memcached.address.to_string()).await?;
        for result in client.run_many(counters.names().map(|name| Set::new(name, "0"))).await? {
            result?;
        }
        let caller = |nth| Incrementer { client: client.clone(), acknowledged: counters.acknowledged(nth) };
        let callers = (0..callers).map(caller).collect();
        Ok(Self { memcached, client, counters: counters.clone(), callers })
    }
}

impl Contender for Increments {
    fn name(&self) -> String {
        "memcached-incr".to_owned()
    }

    fn measure(&mut self, span: Span) -> BoxFuture<'_, Result<Measurement>> {
        let servers = [self.memcached.server.process()];
        Box::pin(async move { measurement::measure(&mut self.callers, span, &servers).await })
    }

    fn verify(&mut self) -> BoxFuture<'_, Result<()>> {
        let expected = Acknowledged::sum(self.callers.iter().map(|caller| &caller.acknowledged));
        Box::pin(async move {
            let stored = self.client.run_many(self.counters.names().map(Get::new)).await?;
            for ((name, expected), stored) in self.counters.names().zip(expected).zip(stored) {
                let Some(value) = stored?.value else { bail!("memcached has lost {name}") };
                let count: u64 = std::str::from_utf8(&value)?.trim_end().parse()?;
                ensure!(count == expected, "{name}: {expected} were acknowledged, memcached has {count}");
            }
            Ok(())
        })
    }
}

struct Incrementer {
    client: AsyncMetaClient,
    acknowledged: Acknowledged,
}

impl Caller for Incrementer {
    async fn call(&mut self) -> Result<u64> {
        let (index, name) = self.acknowledged.next();
        let result = self.client.run(Arithmetic::new(name)).await?;
        ensure!(result.status == MutationStatus::Applied, "memcached did not count: {:?}", result.status);
        self.acknowledged.record(index);
        Ok(1)
    }
}
