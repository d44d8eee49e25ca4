//! A rollup server elsewhere, as touched counters are sent to it: one long-lived stream, connected to in the background for as
//! long as it takes, and made anew when it breaks. Nothing here holds up a request: a server that is away is not ready, and
//! what it would have been sent goes to others.
//!
//! The stream itself is `link`'s, what it is encrypted with `certificates`'; here is what keeps one there.

mod certificates;
mod link;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use futures::future::try_join_all;
use tallyman_counter::forward::{RollupEndpoint, Undelivered, server_name};
use tallyman_counter::model::{CounterName, NamespaceName};
use tallyman_daemon::tls_files::{TlsContents, TlsFiles};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::link::{Ended, Incoming, Link};

/// How long it may take to connect, and to begin the stream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How soon a stream that ended is made anew; the wait doubles with every attempt in vain…
const RETRY_MIN: Duration = Duration::from_millis(100);
/// …up to this.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Bytes of names in one message; far below what gRPC allows in one.
const MESSAGE_BYTES: usize = 64 * 1024;
/// What a name costs in a message beside its bytes, at most.
const NAME_OVERHEAD_BYTES: usize = 4;

/// A rollup server at some `host:port`. Its connection ends with it.
pub struct RemoteRollupServer {
    name: String,
    link: Arc<ArcSwapOption<Link>>,
    connecting: JoinHandle<()>,
}

impl RemoteRollupServer {
    /// The rollup server at `host:port`, which need not be there yet: it is connected to from now on, within this runtime. A
    /// name is resolved anew for every connection. With `tls` by mutual TLS, the server having a certificate for `host`; the files
    /// need not be there yet, and a connection is made anew when they are renewed.
    #[must_use]
    pub fn connect(address: &str, tls: Option<TlsFiles>) -> Arc<Self> {
        let link = Arc::new(ArcSwapOption::empty());
        let connecting = tokio::spawn(keep_connected(address.to_owned(), tls, link.clone()));
        Arc::new(Self { name: server_name(address).to_owned(), link, connecting })
    }
}

impl Drop for RemoteRollupServer {
    fn drop(&mut self) {
        self.connecting.abort();
    }
}

#[async_trait]
impl RollupEndpoint for RemoteRollupServer {
    fn name(&self) -> &str {
        &self.name
    }

    fn is_ready(&self, namespace: &NamespaceName) -> bool {
        self.link.load().as_ref().is_some_and(|link| link.is_ready(namespace))
    }

    async fn send(&self, namespace: &NamespaceName, counters: &[CounterName]) -> Result<usize, Undelivered> {
        let Some(link) = self.link.load_full() else {
            return Err(Undelivered { reason: "there is no connection".to_owned() });
        };
        let messages = messages(counters).into_iter().map(|names| link.send(namespace, names));
        Ok(try_join_all(messages).await?.into_iter().sum())
    }
}

/// The counters in messages of bounded size.
fn messages(counters: &[CounterName]) -> Vec<Vec<String>> {
    let mut messages = Vec::new();
    let (mut message, mut bytes) = (Vec::new(), 0);
    for name in counters {
        let cost = name.as_str().len() + NAME_OVERHEAD_BYTES;
        if bytes + cost > MESSAGE_BYTES && !message.is_empty() {
            messages.push(std::mem::take(&mut message));
            bytes = 0;
        }
        bytes += cost;
        message.push(name.as_str().to_owned());
    }
    if !message.is_empty() {
        messages.push(message);
    }
    messages
}

/// Connects to `address`, again and again, and shows the connection in `current` while there is one.
async fn keep_connected(address: String, tls: Option<TlsFiles>, current: Arc<ArcSwapOption<Link>>) {
    let mut wait = RETRY_MIN;
    let mut is_reported = false;
    loop {
        match timeout(CONNECT_TIMEOUT, begin(&address, tls.as_ref())).await {
            Ok(Ok((link, incoming, contents))) => {
                tracing::info!(%address, "connected to a rollup server");
                let link = Arc::new(link);
                current.store(Some(link.clone()));
                let ended = tokio::select! {
                    ended = link.receive(incoming) => Some(ended),
                    () = renewed(&address, tls.as_ref(), contents.as_ref()) => None,
                };
                current.store(None);
                // Whoever waits for an acknowledgement learns that there will be none.
                link.close();
                if let Some(ended) = ended {
                    is_reported = ended.has_spoken;
                    // A server that spoke was there a moment ago; one that is going will be back later rather than sooner.
                    if ended.has_spoken {
                        wait = RETRY_MIN;
                    }
                    log_end(&address, &ended);
                } else {
                    tracing::info!(%address, "certificates were renewed: the connection to a rollup server is made anew");
                    (is_reported, wait) = (false, RETRY_MIN);
                }
            }
            failed => {
                let reason = match failed {
                    Ok(Err(reason)) => reason,
                    _ => format!("no answer within {CONNECT_TIMEOUT:?}"),
                };
                if is_reported {
                    tracing::debug!(%address, %reason, "cannot connect to a rollup server");
                } else {
                    tracing::warn!(%address, %reason, "cannot connect to a rollup server; it is tried until it is there");
                    is_reported = true;
                }
            }
        }
        // Spread, so that not all sidecars come at once to a server that is back.
        sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

/// Begins a stream, with what the files hold by now.
async fn begin(address: &str, tls: Option<&TlsFiles>) -> Result<(Link, Incoming, Option<TlsContents>), String> {
    let contents = match tls {
        Some(files) => Some(files.read().await?),
        None => None,
    };
    let (link, incoming) = Link::begin(certificates::endpoint(address, contents.as_ref())?).await?;
    Ok((link, incoming, contents))
}

/// Waits until the connection is to be made anew; for ever where nothing can be renewed.
async fn renewed(address: &str, tls: Option<&TlsFiles>, contents: Option<&TlsContents>) {
    match (tls, contents) {
        (Some(files), Some(contents)) => certificates::renewed(address, files, contents).await,
        _ => pending().await,
    }
}

fn log_end(address: &str, ended: &Ended) {
    if ended.is_orderly {
        tracing::info!(%address, "a rollup server is going away");
    } else {
        tracing::warn!(%address, reason = %ended.reason, "the connection to a rollup server ended; it is made anew");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_hold_all_counters_in_order_and_none_is_too_large() {
        let names: Vec<_> =
            (0..1_000).map(|i| CounterName::new(&format!("{i:0width$}", width = 1 + i % 512)).unwrap()).collect();
        let messages = messages(&names);
        assert!(messages.len() > 2);
        for message in &messages {
            assert!(message.iter().map(|name| name.len() + NAME_OVERHEAD_BYTES).sum::<usize>() <= MESSAGE_BYTES);
        }
        let sent: Vec<_> = messages.concat();
        assert!(sent.iter().map(String::as_str).eq(names.iter().map(CounterName::as_str)));
        assert!(super::messages(&[]).is_empty());
    }
}
