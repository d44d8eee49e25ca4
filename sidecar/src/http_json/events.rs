//! A watch as server-sent events: `data:` is GetCount's JSON; an error is an `event: error` with the status, and the end.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;
use tallyman_api::proto::WatchCountResponse;
use tallyman_api::status::Status;
use tonic::body::Body;

use super::status_json;
use crate::grpc::{TOKEN_HONOURED, honoured};
use crate::methods::{Reply, Watch};

/// After so long without an event a comment is sent, so that neither end takes the connection for dead.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE: &[u8] = b": keepalive\n\n";

/// The response whose body is the watch.
pub(super) fn response(reply: Reply<Watch>) -> Response<Body> {
    let events = stream::unfold(reply.message, |mut watch| async {
        let event = tokio::select! {
            biased;
            message = watch.next() => event(message?),
            () = tokio::time::sleep(KEEPALIVE_EVERY) => Bytes::from_static(KEEPALIVE),
        };
        Some((Ok::<_, Infallible>(Frame::data(event)), watch))
    });
    let mut response = Response::new(Body::new(StreamBody::new(events)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(TOKEN_HONOURED, honoured(reply.token_honoured));
    response
}

fn event(message: Result<WatchCountResponse, Status>) -> Bytes {
    let data = message.and_then(|message| {
        serde_json::to_vec(&message).map_err(|error| Status::new(tonic::Code::Internal, error.to_string()))
    });
    let (prefix, data): (&[u8], _) = match data {
        Ok(data) => (b"data: ", data),
        Err(status) => (b"event: error\ndata: ", status_json(&status)),
    };
    // JSON as written here has no line breaks, which would end the field.
    [prefix, &data, b"\n\n"].concat().into()
}
