//! Which method a raw path means. Pure.
//!
//! `:` and `/` inside names are percent-encoded, so that the last literal `:` of the last raw segment separates the verb.

use http::Method;
use percent_encoding::percent_decode_str;
use tallyman_api::status::Status;
use tonic::Code;

/// A method of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Get,
    Add,
    AddAndGet,
    Clear,
    Watch,
    BatchAdd,
    BatchGet,
}

impl Operation {
    /// The HTTP method that it is called by.
    pub fn method(self) -> Method {
        match self {
            Self::Get | Self::Watch => Method::GET,
            Self::Add | Self::AddAndGet | Self::Clear | Self::BatchAdd | Self::BatchGet => Method::POST,
        }
    }

    /// Its path, with the names of what varies.
    pub fn route(self) -> &'static str {
        match self {
            Self::Get => "/v1/namespaces/{namespace}/counters/{counter_name}",
            Self::Add => "/v1/namespaces/{namespace}/counters/{counter_name}:add",
            Self::AddAndGet => "/v1/namespaces/{namespace}/counters/{counter_name}:addAndGet",
            Self::Clear => "/v1/namespaces/{namespace}/counters/{counter_name}:clear",
            Self::Watch => "/v1/namespaces/{namespace}/counters/{counter_name}:watch",
            Self::BatchAdd => "/v1/namespaces/{namespace}/counters:batchAdd",
            Self::BatchGet => "/v1/namespaces/{namespace}/counters:batchGet",
        }
    }
}

/// What a path says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub operation: Operation,
    pub namespace: String,
    /// Empty for batches.
    pub counter_name: String,
}

/// Reads a path as it came, before any decoding.
///
/// # Errors
/// NOT_FOUND for a path or verb that means nothing, INVALID_ARGUMENT for a name that cannot be decoded.
pub(super) fn parse(path: &str) -> Result<Target, Status> {
    let unknown = || Status::new(Code::NotFound, format!("there is nothing at {path}"));
    let mut segments = path.strip_prefix("/v1/namespaces/").ok_or_else(unknown)?.split('/');
    let (namespace, collection, name) = (segments.next(), segments.next(), segments.next());
    if segments.next().is_some() {
        return Err(unknown());
    }
    let (operation, counter_name) = match (collection, name) {
        (Some("counters"), Some(segment)) => {
            let (name, verb) = match segment.rsplit_once(':') {
                Some((name, verb)) => (name, Some(verb)),
                None => (segment, None),
            };
            let operation = match verb {
                None => Operation::Get,
                Some("add") => Operation::Add,
                Some("addAndGet") => Operation::AddAndGet,
                Some("clear") => Operation::Clear,
                Some("watch") => Operation::Watch,
                Some(verb) => return Err(unknown_verb(verb, "add, addAndGet, clear, watch")),
            };
            (operation, decode(name, "counter_name")?)
        }
        (Some(collection), None) => {
            let operation = match collection.strip_prefix("counters:").ok_or_else(unknown)? {
                "batchAdd" => Operation::BatchAdd,
                "batchGet" => Operation::BatchGet,
                verb => return Err(unknown_verb(verb, "batchAdd, batchGet")),
            };
            (operation, String::new())
        }
        _ => return Err(unknown()),
    };
    let namespace = decode(namespace.unwrap_or_default(), "namespace")?;
    Ok(Target { operation, namespace, counter_name })
}

fn unknown_verb(verb: &str, known: &str) -> Status {
    let hint = "a `:` that belongs to a name is written %3A";
    Status::new(Code::NotFound, format!("there is no verb `{verb}` here; known are {known}, and {hint}"))
}

/// # Errors
/// When an escape is malformed or the text is not UTF-8.
fn decode(segment: &str, field: &str) -> Result<String, Status> {
    if let Some(escape) = malformed_escape(segment) {
        let reason = format!("`{escape}` is no percent-encoding; allowed is % and two hexadecimal digits");
        return Err(Status::invalid(field, reason));
    }
    match percent_decode_str(segment).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(error) => Err(Status::invalid(field, format!("the percent-decoded text is not UTF-8: {error}"))),
    }
}

/// The first `%` that two hexadecimal digits do not follow, with what does.
pub(super) fn malformed_escape(text: &str) -> Option<&str> {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(1..3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let wrong = |(at, _): &(usize, &str)| !is_escape(&text[*at..]);
    let (at, _) = text.match_indices('%').find(wrong)?;
    let end = text[at..].char_indices().nth(3).map_or(text.len(), |(offset, _)| at + offset);
    Some(&text[at..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(operation: Operation, namespace: &str, counter_name: &str) -> Result<Target, Status> {
        Ok(Target { operation, namespace: namespace.to_owned(), counter_name: counter_name.to_owned() })
    }

    #[test]
    fn every_method_has_its_path() {
        for (path, operation, name) in [
            ("/v1/namespaces/n/counters/c", Operation::Get, "c"),
            ("/v1/namespaces/n/counters/c:add", Operation::Add, "c"),
            ("/v1/namespaces/n/counters/c:addAndGet", Operation::AddAndGet, "c"),
            ("/v1/namespaces/n/counters/c:clear", Operation::Clear, "c"),
            ("/v1/namespaces/n/counters/c:watch", Operation::Watch, "c"),
            ("/v1/namespaces/n/counters:batchAdd", Operation::BatchAdd, ""),
            ("/v1/namespaces/n/counters:batchGet", Operation::BatchGet, ""),
        ] {
            assert_eq!(parse(path), target(operation, "n", name), "{path}");
            assert_eq!(operation.route().replace("{namespace}", "n").replace("{counter_name}", "c"), path);
        }
    }

    #[test]
    fn the_last_literal_colon_separates_the_verb_and_encoded_ones_belong_to_the_name() {
        for (segment, operation, name) in [
            ("a%3Ab", Operation::Get, "a:b"),
            ("a%3aadd", Operation::Get, "a:add"),
            ("a%3Aadd:add", Operation::Add, "a:add"),
            ("a:b:add", Operation::Add, "a:b"),
            ("a%2Fb:clear", Operation::Clear, "a/b"),
            ("a+b%20c%25", Operation::Get, "a+b c%"),
            ("%C3%BCn%C3%AF", Operation::Get, "ünï"),
            (":add", Operation::Add, ""),
        ] {
            assert_eq!(
                parse(&format!("/v1/namespaces/n/counters/{segment}")),
                target(operation, "n", name),
                "{segment}"
            );
        }
    }

    #[test]
    fn what_means_nothing_is_not_found() {
        for path in [
            "/",
            "/v1",
            "/v1/namespaces/",
            "/v1/namespaces/n",
            "/v1/namespaces/n/counters",
            "/v1/namespaces/n/counters:add",
            "/v1/namespaces/n/counters%3AbatchAdd",
            "/v1/namespaces/n/counters/c:remove",
            "/v1/namespaces/n/counters/c:Add",
            "/v1/namespaces/n/counters/c:",
            "/v1/namespaces/n/counters/c:%61dd",
            "/v1/namespaces/n/counters/a/b:add",
            "/v1/namespaces/n/counters/c/",
            "/v2/namespaces/n/counters/c",
            "v1/namespaces/n/counters/c",
        ] {
            assert_eq!(parse(path).unwrap_err().code(), Code::NotFound, "{path}");
        }
    }

    #[test]
    fn names_that_cannot_be_decoded_are_refused_by_their_field() {
        for (path, field) in [
            ("/v1/namespaces/n/counters/a%", "counter_name"),
            ("/v1/namespaces/n/counters/a%2", "counter_name"),
            ("/v1/namespaces/n/counters/a%zz:add", "counter_name"),
            ("/v1/namespaces/n/counters/a%é", "counter_name"),
            ("/v1/namespaces/n/counters/%FF", "counter_name"),
            ("/v1/namespaces/%C3/counters/a", "namespace"),
        ] {
            assert_eq!(parse(path).unwrap_err().field_violations()[0].field, field, "{path}");
        }
    }
}
