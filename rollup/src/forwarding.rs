//! The streams on which sidecars send touched counters: each set is taken and acknowledged, and sidecars are told what is
//! rolled up here and when this server goes away.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tallyman_api::rollup::forward_response::Kind;
use tallyman_api::rollup::rollup_service_server::RollupService;
use tallyman_api::rollup::{Acknowledgement, ForwardRequest, ForwardResponse, State};
use tallyman_counter::model::{CounterName, NamespaceName};
use tallyman_counter::pipeline::RollupServer;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::engine::Engine;

/// How soon sidecars hear that a namespace is rolled up here, or is not any more.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Replies on their way at once on one stream; while there are more, nothing further is read from it.
const WINDOW: usize = 16;

/// The service. Clones are the same one.
#[derive(Clone)]
pub struct Forwarding {
    rollups: Arc<RollupServer>,
    state: watch::Receiver<State>,
    cut: CancellationToken,
    /// Streams open now.
    streams: Gauge,
}

impl Forwarding {
    /// A service that hands over to `rollups` and tells sidecars of `state`. `streams` shows how many there are. Once `cut` is
    /// there, all streams end.
    #[must_use]
    pub fn new(
        rollups: Arc<RollupServer>,
        state: watch::Receiver<State>,
        cut: CancellationToken,
        streams: Gauge,
    ) -> Self {
        Self { rollups, state, cut, streams }
    }

    /// Carries one stream until the sidecar ends it, or it breaks.
    async fn carry(
        mut self,
        mut incoming: Streaming<ForwardRequest>,
        replies: mpsc::Sender<Result<ForwardResponse, Status>>,
    ) {
        self.state.mark_changed();
        loop {
            let kind = tokio::select! {
                biased;
                changed = self.state.changed() => match changed {
                    Ok(()) => Kind::State(self.state.borrow_and_update().clone()),
                    // Nobody knows any more.
                    Err(_) => return,
                },
                message = incoming.message() => match message {
                    Ok(Some(set)) => Kind::Acknowledgement(self.take(set)),
                    Ok(None) => return,
                    Err(status) => {
                        tracing::debug!(%status, "a stream of touched counters broke");
                        return;
                    }
                },
            };
            if replies.send(Ok(ForwardResponse { kind: Some(kind) })).await.is_err() {
                return;
            }
        }
    }

    fn take(&self, ForwardRequest { sequence, namespace, counter_names }: ForwardRequest) -> Acknowledgement {
        let sent = counter_names.len();
        let counters: Vec<_> = counter_names.iter().filter_map(|name| CounterName::new(name).ok()).collect();
        let taken = NamespaceName::new(&namespace).map_or(0, |namespace| self.rollups.touched(&namespace, &counters));
        Acknowledgement { sequence, taken: taken as u64, refused: (sent - taken) as u64 }
    }
}

#[tonic::async_trait]
impl RollupService for Forwarding {
    type ForwardStream = ReceiverStream<Result<ForwardResponse, Status>>;

    async fn forward(
        &self,
        request: Request<Streaming<ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let (replies, stream) = mpsc::channel(WINDOW);
        let (service, incoming) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let (streams, cut) = (service.streams.clone(), service.cut.clone());
            streams.inc();
            cut.run_until_cancelled(service.carry(incoming, replies)).await;
            streams.dec();
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Tells what is rolled up here, as it changes, for as long as it is polled.
pub async fn keep_told(engine: &Engine, state: &watch::Sender<State>) {
    let mut ticks = tokio::time::interval(TELL_EVERY);
    loop {
        ticks.tick().await;
        let now = State { ready_namespaces: engine.ready_namespaces(), going_away: false };
        state.send_if_modified(|told| {
            let is_news = *told != now;
            *told = now;
            is_news
        });
    }
}

/// Tells that this server is going away: sidecars send to others from then on.
pub fn tell_farewell(state: &watch::Sender<State>) {
    state.send_replace(State { ready_namespaces: Vec::new(), going_away: true });
}
