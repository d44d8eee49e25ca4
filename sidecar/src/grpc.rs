//! gRPC: the generated server over the methods, health and reflection.

use std::convert::Infallible;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use hyper::body::Incoming;
use tallyman_api::proto::counter_service_server::{CounterService, CounterServiceServer};
use tallyman_api::proto::{
    AddAndGetCountRequest, AddAndGetCountResponse, AddCountRequest, AddCountResponse, BatchAddCountRequest,
    BatchAddCountResponse, BatchGetCountRequest, BatchGetCountResponse, ClearCountRequest, ClearCountResponse,
    GetCountRequest, GetCountResponse, WatchCountRequest, WatchCountResponse,
};
use tonic::body::Body;
use tonic::codegen::async_trait;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};
use tower_service::Service;

use crate::methods::{Answer, Api, Refusal, Reply};
use crate::traces::{Call, Transport};

/// A gRPC server's answer, for the connection.
pub(crate) type ResponseFuture = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

/// The header of [`tallyman_api::TOKEN_HONOURED`].
pub(crate) const TOKEN_HONOURED: HeaderName = HeaderName::from_static(tallyman_api::TOKEN_HONOURED);

/// The largest request message, in bytes; a full batch of the longest names and tokens takes under 1 MiB.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The path of a method is this and its name.
const COUNTER_PATH: &str = "/tallyman.v1.CounterService/";

/// A service beside the API's own, not called often.
type Secondary = Arc<dyn Fn(Request<Incoming>) -> ResponseFuture + Send + Sync>;

/// All gRPC services of the port.
#[derive(Clone)]
pub(crate) struct Grpc {
    counter: CounterServiceServer<Methods>,
    /// With the prefix of their paths.
    secondary: Arc<[(&'static str, Secondary)]>,
}

impl Grpc {
    /// `health` is the server of `grpc.health.v1.Health`.
    pub fn new<H>(api: Arc<Api>, health: H) -> Self
    where
        H: Service<Request<Incoming>, Response = http::Response<Body>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        H::Future: Send + 'static,
    {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(tallyman_api::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        // The descriptors are compiled in: they are whole in every build or in none.
        let v1 = reflection().build_v1().expect("compiled-in descriptors are whole");
        let v1alpha = reflection().build_v1alpha().expect("compiled-in descriptors are whole");
        let secondary = [
            ("/grpc.health.v1.Health/", secondary(health)),
            ("/grpc.reflection.v1.ServerReflection/", secondary(v1)),
            ("/grpc.reflection.v1alpha.ServerReflection/", secondary(v1alpha)),
        ];
        let counter = CounterServiceServer::new(Methods(api)).max_decoding_message_size(REQUEST_BYTES_MAX);
        Self { counter, secondary: Arc::new(secondary) }
    }

    /// Answers a request. The API's own methods go straight to the generated server.
    pub fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        let path = request.uri().path();
        if path.starts_with(COUNTER_PATH) {
            return self.counter.clone().call(request);
        }
        match self.secondary.iter().find(|(prefix, _)| path.starts_with(prefix)) {
            Some((_, service)) => service(request),
            None => {
                let status = Status::unimplemented(format!("there is no method {path}"));
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}

fn secondary<S>(service: S) -> Secondary
where
    S: Service<Request<Incoming>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Arc::new(move |request| Box::pin(service.clone().call(request)))
}

/// Whether a request is gRPC: by its content type. gRPC-Web is not.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(header::CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// `true` or `false`, for [`TOKEN_HONOURED`].
pub(crate) fn honoured(token_honoured: bool) -> HeaderValue {
    HeaderValue::from_static(if token_honoured { "true" } else { "false" })
}

fn respond<T>(answer: Answer<T>) -> Result<Response<T>, Status> {
    match answer {
        Ok(Reply { message, token_honoured }) => {
            let mut response = Response::new(message);
            response.metadata_mut().as_mut().insert(TOKEN_HONOURED, honoured(token_honoured));
            Ok(response)
        }
        Err(Refusal { status, token_honoured }) => {
            let mut status = Status::from(status);
            if let Some(token_honoured) = token_honoured {
                status.metadata_mut().as_mut().insert(TOKEN_HONOURED, honoured(token_honoured));
            }
            Err(status)
        }
    }
}

fn grpc(metadata: &MetadataMap) -> Call<'_> {
    Call { transport: Transport::Grpc, headers: metadata.as_ref() }
}

/// The methods as the generated server wants them.
struct Methods(Arc<Api>);

#[async_trait]
impl CounterService for Methods {
    async fn add_count(&self, request: tonic::Request<AddCountRequest>) -> Result<Response<AddCountResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        respond(self.0.add_count(message, grpc(&metadata)).await)
    }

    async fn add_and_get_count(
        &self,
        request: tonic::Request<AddAndGetCountRequest>,
    ) -> Result<Response<AddAndGetCountResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        respond(self.0.add_and_get_count(message, grpc(&metadata)).await)
    }

    async fn get_count(&self, request: tonic::Request<GetCountRequest>) -> Result<Response<GetCountResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        respond(self.0.get_count(message, grpc(&metadata)).await)
    }

    async fn clear_count(
        &self,
        request: tonic::Request<ClearCountRequest>,
    ) -> Result<Response<ClearCountResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        respond(self.0.clear_count(message, grpc(&metadata)).await)
    }

    async fn batch_add_count(
        &self,
        request: tonic::Request<BatchAddCountRequest>,
    ) -> Result<Response<BatchAddCountResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        respond(self.0.batch_add_count(message, grpc(&metadata)).await)
    }

    async fn batch_get_count(
        &self,
        request: tonic::Request<BatchGetCountRequest>,
    ) -> Result<Response<BatchGetCountResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        respond(self.0.batch_get_count(message, grpc(&metadata)).await)
    }

    type WatchCountStream = BoxStream<'static, Result<WatchCountResponse, Status>>;

    async fn watch_count(
        &self,
        request: tonic::Request<WatchCountRequest>,
    ) -> Result<Response<Self::WatchCountStream>, Status> {
        let (metadata, _, message) = request.into_parts();
        let response = respond(self.0.watch_count(message, grpc(&metadata)))?;
        Ok(response.map(|watch| watch.map(|message| message.map_err(Status::from)).boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_grpc_by_their_content_type_alone() {
        let is_grpc_of = |value: &'static str| {
            is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        for value in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert!(is_grpc_of(value), "{value}");
        }
        for value in ["application/json", "application/grpc-web", "application/grpc-web+proto", ""] {
            assert!(!is_grpc_of(value), "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
