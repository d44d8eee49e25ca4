//! HTTP/JSON: the methods by path and verb, in the proto3 JSON mapping; errors as gRPC-gateway answers them.

mod body;
mod events;
mod path;
mod query;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Serialize;
use tallyman_api::proto::{
    AddAndGetCountRequest, AddCountRequest, BatchAddCountRequest, BatchGetCountRequest, ClearCountRequest,
    GetCountRequest, WatchCountRequest,
};
use tallyman_api::status::Status;
use tonic::Code;
use tonic::body::Body;

use self::path::{Operation, Target};
use crate::grpc::{TOKEN_HONOURED, honoured};
use crate::methods::{Answer, Api, Refusal, Reply};
use crate::traces::{Call, Transport};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers a request.
pub(crate) async fn respond(api: &Api, request: Request<Incoming>) -> Response<Body> {
    let target = match path::parse(request.uri().path()) {
        Ok(target) => target,
        Err(status) => return refused(&Refusal { status, token_honoured: None }),
    };
    let allowed = target.operation.method();
    if *request.method() != allowed {
        return method_not_allowed(request.method(), &allowed);
    }
    let namespace = target.namespace.clone();
    let answered = call(api, target, request).await;
    answered.unwrap_or_else(|status| refused(&Refusal { status, token_honoured: api.token_honoured(&namespace) }))
}

/// Reads the request and calls its method.
///
/// # Errors
/// When the request cannot be read; the method's own errors are in its response.
async fn call(api: &Api, target: Target, request: Request<Incoming>) -> Result<Response<Body>, Status> {
    let Target { operation, namespace, counter_name } = target;
    let (parts, incoming) = request.into_parts();
    let transport = Transport::HttpJson { method: &parts.method, route: operation.route() };
    let (call, query) = (Call { transport, headers: &parts.headers }, parts.uri.query());
    if operation != Operation::Get {
        query::refuse_all(query)?;
    }
    /// The body, with the fields that the path holds as well.
    macro_rules! read {
        ($message:ident: $($field:ident),+) => {{
            let mut message: $message = body::read(incoming).await?;
            $(body::bind(&mut message.$field, $field, stringify!($field))?;)+
            message
        }};
    }
    Ok(match operation {
        Operation::Get => {
            let max_staleness = query::max_staleness(query)?;
            json(api.get_count(GetCountRequest { namespace, counter_name, max_staleness }, call).await)
        }
        Operation::Watch => match api.watch_count(WatchCountRequest { namespace, counter_name }, call) {
            Ok(reply) => events::response(reply),
            Err(refusal) => refused(&refusal),
        },
        Operation::Add => json(api.add_count(read!(AddCountRequest: namespace, counter_name), call).await),
        Operation::AddAndGet => {
            json(api.add_and_get_count(read!(AddAndGetCountRequest: namespace, counter_name), call).await)
        }
        Operation::Clear => json(api.clear_count(read!(ClearCountRequest: namespace, counter_name), call).await),
        Operation::BatchAdd => json(api.batch_add_count(read!(BatchAddCountRequest: namespace), call).await),
        Operation::BatchGet => json(api.batch_get_count(read!(BatchGetCountRequest: namespace), call).await),
    })
}

fn json<T: Serialize>(answer: Answer<T>) -> Response<Body> {
    let Reply { message, token_honoured } = match answer {
        Ok(reply) => reply,
        Err(refusal) => return refused(&refusal),
    };
    match serde_json::to_vec(&message) {
        Ok(text) => {
            let mut response = Response::new(full(text));
            response.headers_mut().insert(header::CONTENT_TYPE, JSON);
            response.headers_mut().insert(TOKEN_HONOURED, honoured(token_honoured));
            response
        }
        Err(error) => {
            let status = Status::new(Code::Internal, format!("the reply has no JSON form: {error}"));
            refused(&Refusal { status, token_honoured: Some(token_honoured) })
        }
    }
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(full(status_json(&refusal.status)));
    *response.status_mut() = refusal.status.http();
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    if let Some(token_honoured) = refusal.token_honoured {
        response.headers_mut().insert(TOKEN_HONOURED, honoured(token_honoured));
    }
    response
}

/// gRPC-gateway answers 501 here; 405 with `Allow` is what HTTP has for it. The status in the body is gRPC-gateway's.
fn method_not_allowed(method: &http::Method, allowed: &http::Method) -> Response<Body> {
    let status = Status::new(Code::Unimplemented, format!("{method} is not allowed here; allowed is {allowed}"));
    let mut response = refused(&Refusal { status, token_honoured: None });
    *response.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
    let allow = if allowed == http::Method::GET { "GET" } else { "POST" };
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

fn status_json(status: &Status) -> Vec<u8> {
    // A status is strings and numbers, and always has a JSON form; without one the code still says what happened.
    serde_json::to_vec(status).unwrap_or_else(|_| format!(r#"{{"code":{}}}"#, status.code).into_bytes())
}

fn full(text: Vec<u8>) -> Body {
    Body::new(Full::new(Bytes::from(text)))
}
