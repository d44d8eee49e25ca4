//! Watches a counter across lost connections.

use futures::{Stream, stream};
use tokio::time::sleep;
use tonic::Streaming;

use super::{
    Client, Error, Reading,
    call::failure,
    retry::{Decision, Failure, History, Operation, conclusion, decide},
};
use crate::{
    proto::{WatchCountRequest, WatchCountResponse},
    status::Status,
};

struct Watch {
    client: Client,
    request: WatchCountRequest,
    stream: Option<Streaming<WatchCountResponse>>,
    /// Failures since the last message.
    history: History,
    last: Option<Reading>,
}

impl Client {
    /// Watches a counter: its reading at once, then each change. A lost connection is made again, as often between two
    /// messages as the retries allow; the error that could not be overcome is the stream's last item. `as_of` never goes
    /// back, across connections too.
    pub fn watch(
        &self,
        namespace: &str,
        counter_name: &str,
    ) -> impl Stream<Item = Result<Reading, Error>> + Send + use<> {
        let watch = Watch {
            client: self.clone(),
            request: WatchCountRequest { namespace: namespace.to_owned(), counter_name: counter_name.to_owned() },
            stream: None,
            history: History::default(),
            last: None,
        };
        stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(reading) => Some((Ok(reading), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }
}

impl Watch {
    async fn next(&mut self) -> Result<Reading, Error> {
        loop {
            let failure = match self.receive().await {
                Ok(reading) => {
                    self.history = History::default();
                    if self.is_news(&reading) {
                        self.last = Some(reading);
                        return Ok(reading);
                    }
                    continue;
                }
                Err(failure) => failure,
            };
            self.stream = None;
            self.history.record(&failure);
            let policy = &self.client.shared.policy;
            match decide(policy, Operation::Read, &self.history, &failure, fastrand::f64()) {
                Decision::Retry { delay, .. } => sleep(delay).await,
                Decision::GiveUp | Decision::Learn { .. } => {
                    return Err(conclusion(Operation::Read, &self.history, failure.status, None));
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<Reading, Failure> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let mut stub = self.client.stub.clone();
                let reply = stub.watch_count(self.request.clone()).await;
                self.stream.insert(reply.map_err(|status| failure(&status))?.into_inner())
            }
        };
        match stream.message().await {
            Ok(Some(message)) => Ok(Reading { count: message.count, as_of: message.as_of }),
            // A server that stops ends its streams.
            Ok(None) => Err(Failure::reported(Status::new(tonic::Code::Unavailable, "the server ended the stream"))),
            Err(status) => Err(failure(&status)),
        }
    }

    /// A new connection may begin with what is known, or with a server that is behind.
    fn is_news(&self, reading: &Reading) -> bool {
        self.last.as_ref().is_none_or(|last| reading != last && reading.as_of >= last.as_of)
    }
}
