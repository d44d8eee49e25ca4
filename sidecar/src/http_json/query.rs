//! Query parameters. Pure.

use percent_encoding::percent_decode_str;
use tallyman_api::status::Status;
use tallyman_api::time::Duration;

use super::path::malformed_escape;

/// The parameters of GetCount: `max_staleness`, in camelCase too.
///
/// # Errors
/// For any other parameter, for one given twice, and for what is no duration.
pub(super) fn max_staleness(query: Option<&str>) -> Result<Option<Duration>, Status> {
    let mut found = None;
    for parameter in parameters(query) {
        let (name, value) = parameter?;
        if !matches!(name.as_str(), "max_staleness" | "maxStaleness") {
            return Err(unknown(name, "max_staleness"));
        }
        let duration: Duration = value
            .parse()
            .map_err(|error: tallyman_api::time::Error| Status::invalid("max_staleness", error.to_string()))?;
        if found.replace(duration).is_some() {
            return Err(Status::invalid("max_staleness", "it is given more than once; allowed is once"));
        }
    }
    Ok(found)
}

/// For methods without parameters.
///
/// # Errors
/// For any parameter.
pub(super) fn refuse_all(query: Option<&str>) -> Result<(), Status> {
    match parameters(query).next() {
        None => Ok(()),
        Some(parameter) => Err(unknown(parameter?.0, "none")),
    }
}

fn unknown(name: String, known: &str) -> Status {
    let reason = format!("there is no query parameter `{name}` here; known: {known}");
    Status::invalid(name, reason)
}

fn parameters(query: Option<&str>) -> impl Iterator<Item = Result<(String, String), Status>> + '_ {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    })
}

fn decode(text: &str) -> Result<String, Status> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    match decoded {
        Ok(decoded) if malformed_escape(text).is_none() => Ok(decoded.into_owned()),
        _ => Err(Status::invalid("query", format!("`{text}` is not percent-encoded UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_staleness_is_read_in_both_spellings() {
        let expected = Some(Duration { seconds: 1, nanos: 500_000_000 });
        for query in ["max_staleness=1.5s", "maxStaleness=1.500s", "&max%5Fstaleness=1%2E5s&"] {
            assert_eq!(max_staleness(Some(query)), Ok(expected), "{query}");
        }
        assert_eq!(max_staleness(None), Ok(None));
        assert_eq!(max_staleness(Some("")), Ok(None));
    }

    #[test]
    fn wrong_parameters_are_refused_by_their_names() {
        for (query, field) in [
            ("maxstaleness=1s", "maxstaleness"),
            ("max_staleness=1s&x", "x"),
            ("max_staleness=1", "max_staleness"),
            ("max_staleness", "max_staleness"),
            ("max_staleness=1s&maxStaleness=1s", "max_staleness"),
            ("max_staleness=%zz", "query"),
        ] {
            assert_eq!(max_staleness(Some(query)).unwrap_err().field_violations()[0].field, field, "{query}");
        }
        assert_eq!(refuse_all(Some("delta=3")).unwrap_err().field_violations()[0].field, "delta");
        assert_eq!(refuse_all(Some("")), Ok(()));
    }
}
