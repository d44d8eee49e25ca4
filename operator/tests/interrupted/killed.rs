//! A client that is cut off at one of its requests, as if its process had been killed then.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use http::Request;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::sync::watch;
use tower::{Layer, Service};

/// Where an operator is killed.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// At which of its requests, from 1 on.
    pub request: usize,
    /// Whether that is sent, and its answer lost; otherwise it is not even sent.
    pub is_sent: bool,
}

/// Cuts clients off, and tells when.
#[derive(Clone)]
pub struct Killed {
    fault: Fault,
    so_far: Arc<AtomicUsize>,
    is_killed: Arc<watch::Sender<bool>>,
}

impl Killed {
    /// At this request.
    pub fn at(fault: Fault) -> Self {
        Self { fault, so_far: Arc::default(), is_killed: Arc::new(watch::Sender::new(false)) }
    }

    /// The client.
    pub fn client(&self, config: Config) -> Client {
        ClientBuilder::try_from(config).unwrap().with_layer(self).build()
    }

    /// Waits until the request has come.
    pub async fn wait(&self) {
        // The sender lives as long as `self`.
        self.is_killed.subscribe().wait_for(|is_killed| *is_killed).await.unwrap();
    }
}

impl<S> Layer<S> for Killed {
    type Service = CutOff<S>;

    fn layer(&self, service: S) -> CutOff<S> {
        CutOff { service, killed: self.clone() }
    }
}

/// A service that is cut off.
pub struct CutOff<S> {
    service: S,
    killed: Killed,
}

impl<S> Service<Request<Body>> for CutOff<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Fault { request: last, is_sent } = self.killed.fault;
        let number = self.killed.so_far.fetch_add(1, Ordering::SeqCst) + 1;
        if number < last {
            return Box::pin(self.service.call(request));
        }
        // Dead processes send nothing more.
        let answer = (number == last && is_sent).then(|| self.service.call(request));
        let is_killed = self.killed.is_killed.clone();
        Box::pin(async move {
            if let Some(answer) = answer {
                let _ = answer.await;
            }
            if number == last {
                is_killed.send_replace(true);
            }
            std::future::pending().await
        })
    }
}
