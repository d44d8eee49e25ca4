//! What a connection's requests are given to: gRPC straight to its server, everything else to HTTP/JSON.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;

use crate::grpc::{self, Grpc, ResponseFuture};
use crate::http_json;
use crate::methods::Api;

/// The services of the API's port.
#[derive(Clone)]
pub(crate) struct Dispatch {
    pub grpc: Grpc,
    pub api: Arc<Api>,
}

impl hyper::service::Service<Request<Incoming>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if grpc::is_grpc(request.headers()) {
            return self.grpc.call(request);
        }
        let api = self.api.clone();
        Box::pin(async move { Ok(http_json::respond(&api, request).await) })
    }
}
