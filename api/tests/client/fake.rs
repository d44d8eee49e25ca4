//! A counter server that fails as its script says, behind a proxy that can cut connections.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{Stream, StreamExt, stream};
use tallyman_api::{
    TOKEN_HONOURED,
    proto::{
        counter_service_server::{CounterService, CounterServiceServer},
        *,
    },
    status::Status,
    time::Timestamp,
};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::broadcast,
};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{Request, Response, metadata::MetadataValue, transport::Server};

/// What the server does with one mutation; without a script it applies and acknowledges.
#[derive(Debug, Clone)]
pub enum Step {
    Refuse(Status),
    /// Once another mutation has arrived.
    RefuseAfterNext(Status),
    ApplyThenFail(Status),
    ApplyThenCutConnection,
    ApplyThenHang,
}

/// A mutation as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub counter_name: String,
    pub delta: i64,
    pub token: IdempotencyToken,
}

#[derive(Default)]
struct State {
    script: VecDeque<Step>,
    /// Statuses for items of batches, by counter.
    item_script: HashMap<String, VecDeque<Status>>,
    watches: VecDeque<Vec<WatchCountResponse>>,
    seen: Vec<Seen>,
    applied: Vec<Seen>,
    batch_sizes: Vec<usize>,
    reads: usize,
}

#[derive(Clone)]
pub struct Fake {
    /// What replies say about tokens; `false` also counts a repeated token again.
    honoured: Option<bool>,
    state: Arc<Mutex<State>>,
    cut: broadcast::Sender<()>,
    arrived: broadcast::Sender<()>,
}

impl Fake {
    /// Starts a server; returns it and its address.
    pub async fn start(honoured: Option<bool>) -> (Self, String) {
        let fake =
            Self { honoured, state: Arc::default(), cut: broadcast::channel(1).0, arrived: broadcast::channel(1).0 };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server_address = listener.local_addr().unwrap();
        let service = CounterServiceServer::new(fake.clone());
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", proxy.local_addr().unwrap());
        let cut = fake.cut.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = proxy.accept().await {
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server_address).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = cut.recv() => {}
                    }
                });
            }
        });
        (fake, address)
    }

    /// As [`Fake::start`], on a Unix socket and without the proxy.
    pub fn start_unix(path: &std::path::Path) -> Self {
        let fake = Self {
            honoured: Some(true),
            state: Arc::default(),
            cut: broadcast::channel(1).0,
            arrived: broadcast::channel(1).0,
        };
        let incoming = UnixListenerStream::new(UnixListener::bind(path).unwrap());
        let service = CounterServiceServer::new(fake.clone());
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        fake
    }

    pub fn script(&self, steps: impl IntoIterator<Item = Step>) {
        self.state.lock().unwrap().script.extend(steps);
    }

    pub fn script_item(&self, counter_name: &str, statuses: impl IntoIterator<Item = Status>) {
        let mut state = self.state.lock().unwrap();
        state.item_script.entry(counter_name.to_owned()).or_default().extend(statuses);
    }

    /// The messages of the next watch, after which its stream ends.
    pub fn script_watch(&self, messages: impl IntoIterator<Item = (i64, i64)>) {
        let messages = messages
            .into_iter()
            .map(|(count, micros)| WatchCountResponse { count, as_of: Some(Timestamp::from_micros(micros)) });
        self.state.lock().unwrap().watches.push_back(messages.collect());
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// The tokens of all mutations that arrived, in order.
    pub fn tokens_seen(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.token.token).collect()
    }

    pub fn batch_sizes(&self) -> Vec<usize> {
        self.state.lock().unwrap().batch_sizes.clone()
    }

    pub fn reads(&self) -> usize {
        self.state.lock().unwrap().reads
    }

    pub fn count(&self, counter_name: &str) -> i64 {
        let state = self.state.lock().unwrap();
        state.applied.iter().filter(|add| add.counter_name == counter_name).map(|add| add.delta).sum()
    }

    fn apply(&self, add: Seen) {
        let mut state = self.state.lock().unwrap();
        let is_repeat = state.applied.iter().any(|applied| applied.token == add.token);
        if self.honoured == Some(false) || !is_repeat {
            state.applied.push(add);
        }
    }

    async fn mutate(
        &self,
        counter_name: String,
        delta: i64,
        token: Option<IdempotencyToken>,
    ) -> Result<(), tonic::Status> {
        let add = Seen { counter_name, delta, token: token.expect("the client always sends a token") };
        // Nobody waiting for it is fine.
        let _ = self.arrived.send(());
        let mut next_arrival = self.arrived.subscribe();
        let step = {
            let mut state = self.state.lock().unwrap();
            state.seen.push(add.clone());
            state.script.pop_front()
        };
        match step {
            None => {
                self.apply(add);
                Ok(())
            }
            Some(Step::RefuseAfterNext(status)) => {
                next_arrival.recv().await.unwrap();
                Err(self.fail(status))
            }
            Some(Step::Refuse(status)) => Err(self.fail(status)),
            Some(Step::ApplyThenFail(status)) => {
                self.apply(add);
                Err(self.fail(status))
            }
            Some(Step::ApplyThenCutConnection) => {
                self.apply(add);
                let _ = self.cut.send(());
                std::future::pending().await
            }
            Some(Step::ApplyThenHang) => {
                self.apply(add);
                std::future::pending().await
            }
        }
    }

    fn fail(&self, status: Status) -> tonic::Status {
        let mut status = tonic::Status::from(status);
        if let Some(honoured) = self.honoured {
            status.metadata_mut().insert(TOKEN_HONOURED, value(honoured));
        }
        status
    }

    fn reply<T>(&self, message: T) -> Result<Response<T>, tonic::Status> {
        let mut response = Response::new(message);
        if let Some(honoured) = self.honoured {
            response.metadata_mut().insert(TOKEN_HONOURED, value(honoured));
        }
        Ok(response)
    }
}

fn value(honoured: bool) -> MetadataValue<tonic::metadata::Ascii> {
    MetadataValue::from_static(if honoured { "true" } else { "false" })
}

#[tonic::async_trait]
impl CounterService for Fake {
    async fn add_count(&self, request: Request<AddCountRequest>) -> Result<Response<AddCountResponse>, tonic::Status> {
        let request = request.into_inner();
        self.mutate(request.counter_name, request.delta, request.idempotency_token).await?;
        self.reply(AddCountResponse {})
    }

    async fn add_and_get_count(
        &self,
        request: Request<AddAndGetCountRequest>,
    ) -> Result<Response<AddAndGetCountResponse>, tonic::Status> {
        let request = request.into_inner();
        self.mutate(request.counter_name.clone(), request.delta, request.idempotency_token).await?;
        let count = self.count(&request.counter_name);
        self.reply(AddAndGetCountResponse { count, as_of: Some(Timestamp::from_micros(1)) })
    }

    async fn get_count(&self, request: Request<GetCountRequest>) -> Result<Response<GetCountResponse>, tonic::Status> {
        self.state.lock().unwrap().reads += 1;
        let count = self.count(&request.into_inner().counter_name);
        self.reply(GetCountResponse { count, as_of: None })
    }

    async fn clear_count(
        &self,
        request: Request<ClearCountRequest>,
    ) -> Result<Response<ClearCountResponse>, tonic::Status> {
        let request = request.into_inner();
        let delta = -self.count(&request.counter_name);
        self.mutate(request.counter_name, delta, request.idempotency_token).await?;
        self.reply(ClearCountResponse {})
    }

    async fn batch_add_count(
        &self,
        request: Request<BatchAddCountRequest>,
    ) -> Result<Response<BatchAddCountResponse>, tonic::Status> {
        let adds = request.into_inner().adds;
        self.state.lock().unwrap().batch_sizes.push(adds.len());
        let mut results = Vec::new();
        for add in adds {
            let status = {
                let mut state = self.state.lock().unwrap();
                state.item_script.get_mut(&add.counter_name).and_then(VecDeque::pop_front)
            };
            let add = Seen {
                counter_name: add.counter_name,
                delta: add.delta,
                token: add.idempotency_token.expect("the client always sends a token"),
            };
            self.state.lock().unwrap().seen.push(add.clone());
            if status.is_none() {
                self.apply(add);
            }
            results.push(batch_add_count_response::Result { status });
        }
        self.reply(BatchAddCountResponse { results })
    }

    async fn batch_get_count(
        &self,
        request: Request<BatchGetCountRequest>,
    ) -> Result<Response<BatchGetCountResponse>, tonic::Status> {
        let names = request.into_inner().counter_names;
        self.state.lock().unwrap().batch_sizes.push(names.len());
        let mut results = Vec::new();
        for counter_name in names {
            let status = {
                let mut state = self.state.lock().unwrap();
                state.item_script.get_mut(&counter_name).and_then(VecDeque::pop_front)
            };
            let count = status.is_none().then(|| self.count(&counter_name));
            results.push(batch_get_count_response::Result { counter_name, count, as_of: None, status });
        }
        self.reply(BatchGetCountResponse { results })
    }

    type WatchCountStream = Pin<Box<dyn Stream<Item = Result<WatchCountResponse, tonic::Status>> + Send>>;

    async fn watch_count(
        &self,
        request: Request<WatchCountRequest>,
    ) -> Result<Response<Self::WatchCountStream>, tonic::Status> {
        let next = self.state.lock().unwrap().watches.pop_front();
        match next {
            Some(messages) => self.reply(stream::iter(messages).map(Ok).boxed()),
            None => Err(self.fail(Status::namespace_unknown(&request.into_inner().namespace))),
        }
    }
}
