//! Request bodies in the proto3 JSON mapping. What is wrong with one is told by the field's path, in snake_case.

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tallyman_api::status::Status;
use tonic::Code;

use crate::grpc::REQUEST_BYTES_MAX;

/// What an error is about when it is about the body as a whole.
const BODY: &str = "body";

/// Reads a body; an empty one stands for `{}`.
///
/// # Errors
/// INVALID_ARGUMENT when it is too large, no JSON, or not the message.
pub(super) async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Status> {
    let collected = Limited::new(body, REQUEST_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Status::invalid(BODY, format!("it is larger than the {REQUEST_BYTES_MAX} bytes allowed"))
        } else {
            Status::new(Code::Cancelled, format!("the body did not arrive: {error}"))
        }
    })?;
    parse(&collected.to_bytes())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Status> {
    let text = match bytes.trim_ascii_start().first() {
        None => b"{}",
        // Serde would take a list for a message, by the order of its fields; the mapping does not.
        Some(b'[') => return Err(Status::invalid(BODY, "it is a list; allowed is an object")),
        Some(_) => bytes,
    };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let message = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        refused(&path, error.inner())
    })?;
    deserializer.end().map_err(|error| refused(".", &error))?;
    Ok(message)
}

fn refused(path: &str, error: &serde_json::Error) -> Status {
    let reason = error.to_string();
    if error.classify() != Category::Data {
        return Status::invalid(BODY, format!("malformed JSON: {reason}"));
    }
    let field = if path == "." { BODY.to_owned() } else { snake_case(path) };
    Status::invalid(field, reason)
}

/// Field names as the API's definition has them.
fn snake_case(path: &str) -> String {
    let mut snake = String::with_capacity(path.len() + 4);
    for character in path.chars() {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

/// Fills in a field that the path holds. The body may leave it out or say the same.
///
/// # Errors
/// When the body says something else.
pub(super) fn bind(in_body: &mut String, in_path: String, field: &str) -> Result<(), Status> {
    if !in_body.is_empty() && *in_body != in_path {
        return Err(Status::invalid(field, format!("the body says `{in_body}` and the path `{in_path}`")));
    }
    *in_body = in_path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tallyman_api::proto::{AddCountRequest, BatchAddCountRequest};

    use super::*;

    fn field_of<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        let status = parse::<T>(text.as_bytes()).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        status.field_violations()[0].field.clone()
    }

    #[test]
    fn an_empty_body_is_an_empty_message() {
        for text in ["", " \r\n", "{}"] {
            assert_eq!(parse::<AddCountRequest>(text.as_bytes()), Ok(AddCountRequest::default()));
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_path() {
        for (text, field) in [
            (r#"{"delta": 1.5}"#, "delta"),
            (r#"{"dleta": 1}"#, "dleta"),
            (r#"{"idempotencyToken": {"generationTime": "now"}}"#, "idempotency_token.generation_time"),
            (r#"{"idempotencyToken": {"tokn": "now"}}"#, "idempotency_token.tokn"),
            ("[]", "body"),
            ("1", "body"),
        ] {
            assert_eq!(field_of::<AddCountRequest>(text), field, "{text}");
        }
        assert_eq!(field_of::<BatchAddCountRequest>(r#"{"adds": [{}, {"delta": "x"}]}"#), "adds[1].delta");
        assert_eq!(field_of::<BatchAddCountRequest>(r#"{"adds": [{"dleta": 1}]}"#), "adds[0].dleta");
    }

    #[test]
    fn malformed_json_is_told_by_its_position() {
        for text in ["{", r#"{"delta": }"#, "{} {}", "{\"delta\": 1,}", "\u{0}", r#"{"delta": 1"#] {
            let status = parse::<AddCountRequest>(text.as_bytes()).unwrap_err();
            assert_eq!(status.field_violations()[0].field, "body", "{text}");
            assert!(status.message.contains("line 1 column"), "{}", status.message);
        }
    }

    #[test]
    fn a_name_may_stand_in_the_body_too_if_it_is_the_paths() {
        let mut name = String::new();
        bind(&mut name, "a".to_owned(), "counter_name").unwrap();
        bind(&mut name, "a".to_owned(), "counter_name").unwrap();
        let status = bind(&mut name, "b".to_owned(), "counter_name").unwrap_err();
        assert_eq!(status.field_violations()[0].field, "counter_name");
        assert!(status.message.contains("`a`") && status.message.contains("`b`"), "{}", status.message);
    }
}
