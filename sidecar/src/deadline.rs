//! `grpc-timeout`: how long the caller waits. The header is the same for gRPC and, as with gRPC-gateway, for HTTP/JSON.

use std::time::Duration;

use http::HeaderMap;
use tallyman_api::status::Status;
use tokio::time::Instant;

/// The header; HTTP takes it in any case.
const HEADER: &str = "grpc-timeout";
/// The most digits, by gRPC's specification.
const DIGITS_MAX: usize = 8;

/// When the caller stops waiting, if it said so.
///
/// # Errors
/// INVALID_ARGUMENT when the header is malformed.
pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(None);
    };
    match value.to_str().ok().and_then(parse) {
        // Beyond the end of time is no deadline.
        Some(timeout) => Ok(Instant::now().checked_add(timeout)),
        None => Err(Status::invalid(
            HEADER,
            format!("{value:?} is no timeout; allowed are 1 to {DIGITS_MAX} digits and a unit out of H, M, S, m, u, n"),
        )),
    }
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    let is_number = (1..=DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = is_number.then(|| digits.parse().ok())??;
    Some(match unit {
        'H' => Duration::from_secs(number * 3_600),
        'M' => Duration::from_secs(number * 60),
        'S' => Duration::from_secs(number),
        'm' => Duration::from_millis(number),
        'u' => Duration::from_micros(number),
        'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_of_grpc_is_read() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7_200)),
            ("3M", Duration::from_secs(180)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("0S", Duration::ZERO),
            ("100m", Duration::from_millis(100)),
            ("7u", Duration::from_micros(7)),
            ("8n", Duration::from_nanos(8)),
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_timeout_is_refused_by_the_headers_name() {
        for text in ["", "1", "S", "-1S", "+1S", "1.5S", "1s", "123456789S", "1 S", "1é"] {
            assert_eq!(parse(text), None, "{text}");
        }
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(HEADER), "5x".parse().unwrap())]);
        assert_eq!(of(&headers).unwrap_err().field_violations()[0].field, "grpc-timeout");
    }

    #[tokio::test]
    async fn the_longest_timeout_does_not_overflow() {
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static(HEADER), "99999999H".parse().unwrap())]);
        assert!(of(&headers).is_ok());
    }
}
