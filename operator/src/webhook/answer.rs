//! From a request of HTTP to its answer: path, method, size and time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::{Handler, MUTATE_PODS, VALIDATE_COUNTER_NAMESPACES, mutate, review, validate};

/// An object has at most 1.5 MiB in the API server's store, and an update brings two of them.
const BODY_BYTES_MAX: usize = 8 << 20;
/// The API server waits for ten seconds, unless told otherwise.
const TIME_MAX: Duration = Duration::from_secs(9);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// Answers requests.
#[derive(Clone)]
pub(super) struct Answers {
    pub handler: Arc<Handler>,
    /// Cancelled once every answer is to be the last of its connection.
    pub leaving: CancellationToken,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
enum Route {
    MutatePods,
    ValidateCounterNamespaces,
}

/// A request that is none, or comes too late.
struct Refused {
    status: StatusCode,
    outcome: &'static str,
    message: String,
}

impl Refused {
    fn bad(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, outcome: "bad_request", message: message.into() }
    }
}

impl Service<Request<Incoming>> for Answers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Self { handler, leaving } = self.clone();
        Box::pin(async move {
            let mut response = answer(&handler, request).await;
            if leaving.is_cancelled() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

async fn answer(handler: &Handler, request: Request<Incoming>) -> Response<Body> {
    let (path, route) = match request.uri().path() {
        MUTATE_PODS => (MUTATE_PODS, Route::MutatePods),
        VALIDATE_COUNTER_NAMESPACES => (VALIDATE_COUNTER_NAMESPACES, Route::ValidateCounterNamespaces),
        other => {
            let text =
                format!("there is nothing at {other}; known are {MUTATE_PODS} and {VALIDATE_COUNTER_NAMESPACES}\n");
            return page(StatusCode::NOT_FOUND, TEXT, text);
        }
    };
    let late = Refused {
        status: StatusCode::SERVICE_UNAVAILABLE,
        outcome: "timeout",
        message: format!("this took longer than {} seconds", TIME_MAX.as_secs()),
    };
    let judged = tokio::time::timeout(TIME_MAX, judge(handler, route, request)).await.unwrap_or(Err(late));
    match judged {
        Ok((outcome, body)) => {
            handler.metrics.answered(path, outcome);
            page(StatusCode::OK, JSON, body)
        }
        Err(Refused { status, outcome, message }) => {
            tracing::warn!(path, %status, message, "refused a request to the webhook");
            handler.metrics.answered(path, outcome);
            page(status, TEXT, format!("{message}\n"))
        }
    }
}

async fn judge(handler: &Handler, route: Route, request: Request<Incoming>) -> Result<(&'static str, String), Refused> {
    if *request.method() != Method::POST {
        return Err(Refused::bad(StatusCode::METHOD_NOT_ALLOWED, "only POST is allowed here"));
    }
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|value| value.starts_with(JSON)) {
        return Err(Refused::bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("content-type must be {JSON}")));
    }
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = format!("the request is longer than {BODY_BYTES_MAX} bytes");
            return Refused::bad(StatusCode::PAYLOAD_TOO_LARGE, message);
        }
        Refused::bad(StatusCode::BAD_REQUEST, format!("cannot read the request: {error}"))
    })?;
    let request = review::read(&body.to_bytes()).map_err(|message| Refused::bad(StatusCode::BAD_REQUEST, message))?;
    let (outcome, answer) = match route {
        Route::MutatePods => mutate::pod(handler, &request).await,
        Route::ValidateCounterNamespaces => validate::answer(handler.lookup.resources().await.as_ref(), &request),
    };
    Ok((outcome, review::write(&request.uid, &answer).to_string()))
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
