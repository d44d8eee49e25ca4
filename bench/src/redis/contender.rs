//! Redis as a contender.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::BoxFuture;

use super::resp::{Connection, Reply};
use crate::counters::{Acknowledged, Counters};
use crate::measurement::{self, Caller, Contender, Measurement, Span};
use crate::process::{self, Server};
use crate::tokens::Tokens;

/// Counts once per token. The token is a key of its own that expires; both are in one script, so that no crash comes between.
const DEDUPLICATE: &str = "\
    if redis.call('SET', KEYS[2], '', 'NX', 'PX', ARGV[2]) then return redis.call('INCRBY', KEYS[1], ARGV[1]) end \
    return redis.call('GET', KEYS[1])";
/// Tokens live as long as the benchmark's namespaces accept an event: from its accept limit before to its limit after.
const TOKEN_EXPIRY_MS: &[u8] = b"2000";

/// What survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every acknowledged command: `appendfsync always`.
    Always,
    /// Nothing: no file is written.
    Memory,
}

/// What counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `INCR`.
    Increment,
    /// A script that counts a token once, by `EVALSHA`.
    Deduplicate,
}

/// A running Redis and its callers.
pub struct Redis {
    name: String,
    server: Server,
    address: SocketAddr,
    counters: Counters,
    callers: Vec<RedisCaller>,
}

impl Redis {
    /// Starts Redis in `dir`. Each of the callers has its own connection and sends `pipeline` commands at a time.
    pub async fn start(
        name: &str,
        dir: &Path,
        durability: Durability,
        command: Command,
        callers: usize,
        pipeline: usize,
        counters: &Counters,
    ) -> Result<Self> {
        let address = process::free_address()?;
        let durable = match durability {
            Durability::Always => ["--appendonly", "yes", "--appendfsync", "always"].as_slice(),
            Durability::Memory => ["--appendonly", "no"].as_slice(),
        };
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let common = ["--bind", &ip, "--port", &port, "--save", "", "--daemonize", "no"];
        let own_dir = dir.join(name);
        std::fs::create_dir(&own_dir)?;
        let arguments = common.iter().chain(durable);
        let mut server = Server::start(name, "redis-server", arguments, &own_dir)
            .context("Redis is needed for comparison (Debian: apt-get install redis-server)")?;
        server.until_ready(Duration::from_millis(10), async || process::listens(address).await).await?;
        let mut connection = Connection::open(address).await?;
        let loaded = connection.ask(&[b"SCRIPT", b"LOAD", DEDUPLICATE.as_bytes()]).await?;
        let Reply::Text(script) = loaded else { anyhow::bail!("Redis did not load the script: {loaded:?}") };
        let script: Arc<str> = script.into();
        let mut connected = Vec::with_capacity(callers);
        for caller in 0..callers {
            connected.push(RedisCaller {
                connection: Connection::open(address).await?,
                command,
                script: script.clone(),
                pipeline,
                tokens: Tokens::new(),
                acknowledged: counters.acknowledged(caller),
            });
        }
        Ok(Self { name: name.to_owned(), server, address, counters: counters.clone(), callers: connected })
    }
}

impl Contender for Redis {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn measure(&mut self, span: Span) -> BoxFuture<'_, Result<Measurement>> {
        Box::pin(async move { measurement::measure(&mut self.callers, span, &[self.server.process()]).await })
    }

    fn verify(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut connection = Connection::open(self.address).await?;
            let expected = Acknowledged::sum(self.callers.iter().map(|caller| &caller.acknowledged));
            for (name, expected) in self.counters.names().zip(expected) {
                let count = match connection.ask(&[b"GET", name.as_bytes()]).await? {
                    Reply::Text(count) => count.parse::<u64>()?,
                    Reply::Nothing => 0,
                    Reply::Integer(_) => anyhow::bail!("GET answered an integer"),
                };
                ensure!(count == expected, "{name}: {expected} were acknowledged, Redis has {count}");
            }
            Ok(())
        })
    }
}

struct RedisCaller {
    connection: Connection,
    command: Command,
    script: Arc<str>,
    pipeline: usize,
    tokens: Tokens,
    acknowledged: Acknowledged,
}

impl Caller for RedisCaller {
    async fn call(&mut self) -> Result<u64> {
        let mut counted = Vec::with_capacity(self.pipeline);
        for _ in 0..self.pipeline {
            let (index, name) = self.acknowledged.next();
            match self.command {
                Command::Increment => self.connection.push(&[b"INCR", name.as_bytes()]),
                Command::Deduplicate => {
                    let token = self.tokens.next_text();
                    let script = self.script.as_bytes();
                    let (name, token) = (name.as_bytes(), token.as_bytes());
                    self.connection.push(&[b"EVALSHA", script, b"2", name, token, b"1", TOKEN_EXPIRY_MS]);
                }
            }
            counted.push(index);
        }
        self.connection.flush().await?;
        for index in counted {
            let reply = self.connection.reply().await?;
            ensure!(matches!(reply, Reply::Integer(count) if count > 0), "Redis did not count: {reply:?}");
            self.acknowledged.record(index);
        }
        Ok(self.pipeline as u64)
    }
}
