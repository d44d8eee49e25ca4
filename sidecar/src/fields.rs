//! Fields between the wire and the engine, with the checks that only the wire's types need.

use std::time::Duration;

use tallyman_api::proto::IdempotencyToken;
use tallyman_api::status::Status;
use tallyman_api::time;
use tallyman_counter::model::Timestamp;
use tallyman_counter::service::ClientToken;

/// A token; an empty name is a missing one. `field` is the token's path in the request.
///
/// # Errors
/// When `generation_time` is no timestamp.
pub(crate) fn client_token(
    token: Option<IdempotencyToken>,
    field: impl FnOnce() -> String,
) -> Result<ClientToken, Status> {
    let Some(IdempotencyToken { token, generation_time }) = token else {
        return Ok(ClientToken::default());
    };
    let generation_time = match generation_time.map(time::Timestamp::micros).transpose() {
        Ok(micros) => micros.map(Timestamp::from_micros),
        Err(error) => return Err(Status::invalid(format!("{}.generation_time", field()), error.to_string())),
    };
    Ok(ClientToken { token: Some(token).filter(|token| !token.is_empty()), generation_time })
}

/// `max_staleness`.
///
/// # Errors
/// When it is negative or no duration.
pub(crate) fn max_staleness(duration: Option<time::Duration>) -> Result<Option<Duration>, Status> {
    let converted = duration.map(Duration::try_from).transpose();
    converted.map_err(|error| Status::invalid("max_staleness", error.to_string()))
}

/// What a count covers.
pub(crate) fn as_of(time: Option<Timestamp>) -> Option<time::Timestamp> {
    time.map(|time| time::Timestamp::from_micros(time.as_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(seconds: i64, nanos: i32) -> Option<IdempotencyToken> {
        let generation_time = Some(time::Timestamp { seconds, nanos });
        Some(IdempotencyToken { token: "t".to_owned(), generation_time })
    }

    #[test]
    fn generation_time_is_truncated_to_microseconds() {
        let converted = client_token(token(1, 1_999), String::new).unwrap();
        assert_eq!(converted.generation_time, Some(Timestamp::from_micros(1_000_001)));
    }

    #[test]
    fn a_generation_time_that_is_no_timestamp_is_refused_by_its_path() {
        for (seconds, nanos) in [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0)] {
            let status = client_token(token(seconds, nanos), || "adds[3].idempotency_token".to_owned()).unwrap_err();
            assert_eq!(status.field_violations()[0].field, "adds[3].idempotency_token.generation_time");
        }
    }

    #[test]
    fn an_empty_token_is_a_missing_one() {
        let empty = IdempotencyToken::default();
        assert_eq!(client_token(Some(empty), String::new), Ok(ClientToken::default()));
        assert_eq!(client_token(None, String::new), Ok(ClientToken::default()));
    }

    #[test]
    fn a_negative_max_staleness_is_refused() {
        let negative = time::Duration { seconds: -1, nanos: 0 };
        assert_eq!(max_staleness(Some(negative)).unwrap_err().field_violations()[0].field, "max_staleness");
        assert_eq!(max_staleness(None), Ok(None));
    }
}
