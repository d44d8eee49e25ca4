//! Traces: what a collector gets, and what a dead one must not do.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tallyman_api::proto::counter_service_client::CounterServiceClient;
use tallyman_api::proto::{AddCountRequest, GetCountRequest, IdempotencyToken, WatchCountRequest};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::server::{Home, Server};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const COUNTER: &str = "secret-counter";
const TOKEN: &str = "secret-token";

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector {
    received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.received.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// A running collector, and its address.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let service = TraceServiceServer::new(collector.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, address)
    }

    /// What it got, by the spans' names, with the attributes of their resources.
    fn spans(&self) -> BTreeMap<String, (Span, BTreeMap<String, String>)> {
        let mut spans = BTreeMap::new();
        for of_resource in self.received.lock().unwrap().iter().flat_map(|request| &request.resource_spans) {
            let resource = attributes(&of_resource.resource.as_ref().unwrap().attributes);
            for span in of_resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
                let earlier = spans.insert(span.name.clone(), (span.clone(), resource.clone()));
                assert_eq!(earlier, None, "two spans of one request, or of one name");
            }
        }
        spans
    }
}

/// Attributes as text, with the type of those that are no text.
fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().unwrap().value.as_ref().unwrap() {
        Value::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

fn expected(attributes: &[(&str, &str)]) -> BTreeMap<String, String> {
    attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

fn traced<T>(message: T, flags: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent(flags).parse().unwrap());
    request
}

async fn grpc(server: &Server) -> CounterServiceClient<Channel> {
    let channel = Channel::from_shared(server.address()).unwrap().connect().await.unwrap();
    CounterServiceClient::new(channel)
}

fn add(namespace: &str) -> AddCountRequest {
    AddCountRequest {
        namespace: namespace.to_owned(),
        counter_name: COUNTER.to_owned(),
        delta: 2,
        idempotency_token: Some(IdempotencyToken { token: TOKEN.to_owned(), generation_time: None }),
    }
}

fn get(namespace: &str) -> GetCountRequest {
    GetCountRequest { namespace: namespace.to_owned(), counter_name: COUNTER.to_owned(), max_staleness: None }
}

fn home() -> Home {
    Home::new(&[("likes", "BestEffort", "")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_a_span_within_its_callers_trace() {
    let (collector, endpoint) = Collector::start().await;
    let home = home();
    home.write("options.yaml", &format!("otlp-endpoint: {endpoint}\n"));
    let server = home.start(&["--config", "options.yaml"]);
    let mut client = grpc(&server).await;
    client.add_count(traced(add("likes"), "01")).await.unwrap();
    let unknown = client.get_count(Request::new(get("secret-namespace"))).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    // The caller does not want this one.
    client.add_and_get_count(traced(Default::default(), "00")).await.unwrap_err();
    let watched = WatchCountRequest { namespace: "likes".to_owned(), counter_name: COUNTER.to_owned() };
    let watch = client.watch_count(Request::new(watched)).await.unwrap();

    let mut stream = TcpStream::connect(server.listen()).unwrap();
    let (path, traceparent) = (format!("/v1/namespaces/likes/counters/{COUNTER}:clear"), traceparent("01"));
    let headers = format!("host: localhost\r\ntraceparent: {traceparent}\r\nconnection: close\r\ncontent-length: 0");
    write!(stream, "POST {path} HTTP/1.1\r\n{headers}\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");

    // What was not exported by now is on the way out; the stop ends the watch.
    assert_eq!(tokio::task::spawn_blocking(|| server.terminate()).await.unwrap().code(), Some(0));
    drop(watch);
    let spans = collector.spans();
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["AddCount", "ClearCount", "GetCount", "WatchCount"]);
    let version = env!("CARGO_PKG_VERSION");
    for (name, (span, resource)) in &spans {
        assert_eq!((&*resource["service.name"], &*resource["service.version"]), ("tallyman", version));
        assert_eq!(span.kind, SpanKind::Server as i32, "{name}");
        assert!(!format!("{span:?}").contains("secret"), "{span:?}");
    }
    for name in ["AddCount", "ClearCount"] {
        let span = &spans[name].0;
        assert_eq!((&*hex(&span.trace_id), &*hex(&span.parent_span_id)), (TRACE, PARENT), "{name}");
    }
    let (get, watch) = (&spans["GetCount"].0, &spans["WatchCount"].0);
    assert!(get.parent_span_id.is_empty() && hex(&get.trace_id) != TRACE, "{get:?}");
    let of_grpc = |method: &str, more: &[(&str, &str)]| {
        let method = [("rpc.system", "grpc"), ("rpc.service", "tallyman.v1.CounterService"), ("rpc.method", method)];
        expected(&[&method, more].concat())
    };
    let namespace = ("tallyman.namespace", "likes");
    let add = attributes(&spans["AddCount"].0.attributes);
    assert_eq!(add, of_grpc("AddCount", &[namespace, ("rpc.grpc.status_code", "IntValue(0)")]));
    // Neither is it served here nor is it the server's fault.
    assert_eq!(attributes(&get.attributes), of_grpc("GetCount", &[("rpc.grpc.status_code", "IntValue(5)")]));
    assert_ne!(get.status.clone().unwrap_or_default().code, StatusCode::Error as i32);
    let ended = ("rpc.grpc.status_code", "IntValue(14)");
    assert_eq!(attributes(&watch.attributes), of_grpc("WatchCount", &[namespace, ended]));
    assert_eq!(watch.status.as_ref().unwrap().code, StatusCode::Error as i32);
    let clear = attributes(&spans["ClearCount"].0.attributes);
    let of_http = [
        ("http.request.method", "POST"),
        ("http.route", "/v1/namespaces/{namespace}/counters/{counter_name}:clear"),
        ("http.response.status_code", "IntValue(200)"),
        ("rpc.grpc.status_code", "IntValue(0)"),
        namespace,
    ];
    assert_eq!(clear, expected(&of_http));
}

/// The longest that anything waits for a collector, if nothing else bounds it: longer than any test waits.
const FOR_EVER: (&str, &str) = ("OTEL_EXPORTER_OTLP_TIMEOUT", "3600000");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_up_neither_requests_nor_the_end() {
    // The system accepts its connections; nobody reads them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let small = [FOR_EVER, ("OTEL_BSP_MAX_QUEUE_SIZE", "4"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "2")];
    let home = home();
    let server = home.start_in(&small, &["--otlp-endpoint", &endpoint]);
    let mut client = grpc(&server).await;
    for _ in 0..50 {
        client.add_count(add("likes")).await.unwrap();
    }
    assert_eq!(client.get_count(get("likes")).await.unwrap().into_inner().count, 100);
    assert_eq!(tokio::task::spawn_blocking(|| server.terminate()).await.unwrap().code(), Some(0));
    let log = crate::process::text(&home.path("log"));
    let lines = |part: &str| log.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("DroppingStarted"), 1, "{log}");
    assert_eq!(lines("they are lost"), 1, "{log}");
    assert_eq!(lines("ERROR"), 0, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_gone_is_logged_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    // Each span is a batch of its own; no failed one is tried again, as nothing is left of its time.
    let hasty = [("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "1")];
    let home = home();
    let server = home.start_in(&hasty, &["--otlp-endpoint", &endpoint]);
    let mut client = grpc(&server).await;
    for _ in 0..20 {
        client.add_count(add("likes")).await.unwrap();
    }
    assert_eq!(tokio::task::spawn_blocking(|| server.terminate()).await.unwrap().code(), Some(0));
    let log = crate::process::text(&home.path("log"));
    assert_eq!(log.lines().filter(|line| line.contains(&endpoint)).count(), 1, "{log}");
    assert!(!log.contains("opentelemetry"), "{log}");
}

#[test]
fn an_endpoint_that_is_none_is_refused_by_the_options_name() {
    let ended = home().start_in_vain(&["--otlp-endpoint", "https://collector:4317"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--otlp-endpoint") && ended.stderr.contains("http://127.0.0.1:4317"), "{ended:?}");
}
