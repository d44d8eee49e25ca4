//! Every refusal, by gRPC and by HTTP: code, HTTP status, reason or field.

use std::time::Duration;

use tallyman_api::proto::*;
use tallyman_api::status::Status;
use tallyman_api::time::Timestamp;
use tallyman_counter::clock::{Clock, SystemClock};
use tonic::Code;

use crate::call::{Call, Refused, add, add_and_get, batch_add, batch_get, by_grpc, by_http, clear, get, token, watch};
use crate::world::{ACCEPT_LIMIT, IN_FLIGHT_MAX, World};

/// What the details name.
#[derive(Debug, Clone, Copy)]
enum Names {
    /// The reason of `ErrorInfo`.
    Reason(&'static str),
    /// The field of `BadRequest`.
    Field(&'static str),
}
use Names::{Field, Reason};

/// A request that is refused, and how.
struct Row {
    what: &'static str,
    /// Calls that have to succeed first.
    before: Vec<Call>,
    call: Call,
    /// `grpc-timeout`, for stores that do not answer.
    timeout: &'static str,
    code: Code,
    http: u16,
    names: Names,
}

fn row(what: &'static str, call: Call, code: Code, http: u16, names: Names) -> Row {
    Row { what, before: Vec::new(), call, timeout: "", code, http, names }
}

impl Row {
    fn after(self, before: Vec<Call>) -> Self {
        Self { before, ..self }
    }

    fn within(self, timeout: &'static str) -> Self {
        Self { timeout, ..self }
    }
}

pub fn now_plus(seconds: i64) -> Timestamp {
    Timestamp::from_micros(SystemClock::new().now().as_micros() + seconds * 1_000_000)
}

/// The table of refusals. `suffix` keeps the counters of two runs apart.
#[rustfmt::skip]
fn table(suffix: &str) -> Vec<Row> {
    use Code::{AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound, OutOfRange, ResourceExhausted, Unavailable};
    let (long, control) = ("x".repeat(513), "a\u{7}b");
    let beyond = ACCEPT_LIMIT.as_secs() as i64 + 3_600;
    let (reused, now) = (format!("reused{suffix}"), now_plus(0));
    let overflown = format!("overflown{suffix}");
    let negative = GetCountRequest {
        max_staleness: Some(tallyman_api::time::Duration { seconds: -1, nanos: 0 }),
        namespace: "eventual".to_owned(), counter_name: "a".to_owned(),
    };
    vec![
        row("add: namespace not served", add("nowhere", "a", 1, None), NotFound, 404, Reason("NAMESPACE_UNKNOWN")),
        row("add and get: namespace not served", add_and_get("nowhere", "a", 1), NotFound, 404, Reason("NAMESPACE_UNKNOWN")),
        row("get: namespace not served", get("nowhere", "a"), NotFound, 404, Reason("NAMESPACE_UNKNOWN")),
        row("clear: namespace not served", clear("nowhere", "a", None), NotFound, 404, Reason("NAMESPACE_UNKNOWN")),
        row("batch add: namespace not served", batch_add("nowhere", 1), NotFound, 404, Reason("NAMESPACE_UNKNOWN")),
        row("batch get: namespace not served", batch_get("nowhere", 1), NotFound, 404, Reason("NAMESPACE_UNKNOWN")),
        row("watch: namespace not served", watch("nowhere", "a"), NotFound, 404, Reason("NAMESPACE_UNKNOWN")),
        row("empty name", add("eventual", "", 1, None), InvalidArgument, 400, Field("counter_name")),
        row("overlong name", get("eventual", &long), InvalidArgument, 400, Field("counter_name")),
        row("overlong name, best effort", add("best-effort", &long, 1, None), InvalidArgument, 400, Field("counter_name")),
        row("control character", clear("accurate", control, None), InvalidArgument, 400, Field("counter_name")),
        row("watch: overlong name", watch("eventual", &long), InvalidArgument, 400, Field("counter_name")),
        row("overlong token", add("eventual", "a", 1, token(&long, now)), InvalidArgument, 400, Field("idempotency_token.token")),
        row("1,001 adds", batch_add("eventual", 1_001), InvalidArgument, 400, Field("adds")),
        row("1,001 names", batch_get("eventual", 1_001), InvalidArgument, 400, Field("counter_names")),
        row("negative max_staleness", Call::Get(negative), InvalidArgument, 400, Field("max_staleness")),
        row("malformed timeout", get("eventual", "a"), InvalidArgument, 400, Field("grpc-timeout")).within("5x"),
        row("malformed timeout of a watch", watch("eventual", "a"), InvalidArgument, 400, Field("grpc-timeout")).within("5x"),
        row("event time too old", add("eventual", "a", 1, token("t", now_plus(-beyond))), FailedPrecondition, 400, Reason("EVENT_TIME_OUT_OF_RANGE")),
        row("event time too new", clear("accurate", "a", token("t", now_plus(beyond))), FailedPrecondition, 400, Reason("EVENT_TIME_OUT_OF_RANGE")),
        row("token with another delta", add("eventual", &reused, 2, token("t", now)), AlreadyExists, 409, Reason("TOKEN_REUSED"))
            .after(vec![add("eventual", &reused, 1, token("t", now))]),
        row("token with another operation", clear("accurate", &reused, token("t", now)), AlreadyExists, 409, Reason("TOKEN_REUSED"))
            .after(vec![add("accurate", &reused, 1, token("t", now))]),
        row("sum beyond 64 bits", get("accurate", &overflown), OutOfRange, 400, Reason("COUNT_OVERFLOW"))
            .after(vec![add("accurate", &overflown, i64::MAX, None), add("accurate", &overflown, i64::MAX, None)]),
        row("sum beyond 64 bits, added and got", add_and_get("accurate", &overflown, 1), OutOfRange, 400, Reason("COUNT_OVERFLOW")),
        row("store does not answer an add", add("hanging", "a", 1, None), Unavailable, 503, Reason("OUTCOME_UNKNOWN")).within("50m"),
        row("store does not answer a clear", clear("hanging", "a", None), Unavailable, 503, Reason("OUTCOME_UNKNOWN")).within("50m"),
        row("clock not trusted", add("skewed", "a", 1, None), Unavailable, 503, Reason("CLOCK_SKEW")),
        row("too much in flight", batch_add("eventual", IN_FLIGHT_MAX + 1), ResourceExhausted, 429, Reason("OVERLOADED")),
        row("too much in flight, reading", batch_get("best-effort", IN_FLIGHT_MAX + 1), ResourceExhausted, 429, Reason("OVERLOADED")),
        row("store cannot be asked", add("unavailable", "a", 1, None), Unavailable, 503, Reason("STORE_UNAVAILABLE")).within("50m"),
        row("damaged data", get("corrupt", "damaged"), DataLoss, 500, Reason("DATA_DAMAGED"))
            .after(vec![add("corrupt", "damaged", 1, None)]),
    ]
}

fn check(row: &Row, answer: Result<serde_json::Value, Refused>) -> Status {
    let what = row.what;
    let Refused { status, token_honoured } = answer.expect_err(what);
    assert_eq!(status.code(), row.code, "{what}: {status:?}");
    assert_eq!(status.http().as_u16(), row.http, "{what}");
    assert!(!status.message.is_empty(), "{what}");
    match row.names {
        Reason(reason) => {
            let info = status.error_info().unwrap_or_else(|| panic!("{what}: {status:?}"));
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "tallyman.dev"), "{what}");
        }
        Field(field) => assert_eq!(status.field_violations()[0].field, field, "{what}: {status:?}"),
    }
    let honoured = match (&row.call, row.names) {
        (_, Reason("NAMESPACE_UNKNOWN")) => None,
        (Call::Add(AddCountRequest { namespace, .. }), _) if namespace == "best-effort" => Some("false"),
        (Call::BatchGet(BatchGetCountRequest { namespace, .. }), _) if namespace == "best-effort" => Some("false"),
        _ => Some("true"),
    };
    assert_eq!(token_honoured.as_deref(), honoured, "{what}");
    status
}

#[tokio::test]
async fn every_refusal_has_its_code_and_its_details_by_grpc() {
    let world = World::new().await;
    for row in table("") {
        for call in row.before.clone() {
            by_grpc(&world, call, "").await.unwrap();
        }
        check(&row, by_grpc(&world, row.call.clone(), row.timeout).await);
    }
}

#[tokio::test]
async fn every_refusal_has_its_status_and_its_details_by_http() {
    let world = World::new().await;
    for row in table("") {
        for call in row.before.clone() {
            by_http(&world, call, "").await.unwrap();
        }
        check(&row, by_http(&world, row.call.clone(), row.timeout).await);
    }
}

#[tokio::test]
async fn a_refusal_is_the_same_by_both_transports() {
    let world = World::new().await;
    for (grpc, http) in table("1").into_iter().zip(table("2")) {
        for call in grpc.before.iter().chain(&http.before) {
            by_grpc(&world, call.clone(), "").await.unwrap();
        }
        let by_grpc = check(&grpc, by_grpc(&world, grpc.call.clone(), grpc.timeout).await);
        let by_http = check(&http, by_http(&world, http.call.clone(), http.timeout).await);
        let details = |status: &Status| status.error_info().map(|info| info.metadata.into_keys().collect::<Vec<_>>());
        assert_eq!(details(&by_grpc), details(&by_http), "{}", grpc.what);
        assert_eq!(by_grpc.retry_delay(), by_http.retry_delay(), "{}", grpc.what);
    }
}

#[test]
fn the_documented_table_is_this_one() {
    let documented = include_str!("../../../docs/api.md");
    for row in table("") {
        let reason = match row.names {
            Reason(reason) => reason,
            Field(_) => "(`BadRequest` names the field)",
        };
        let code: String = format!("{:?}", row.code)
            .char_indices()
            .flat_map(|(at, letter)| {
                let separator = (at > 0 && letter.is_uppercase()).then_some('_');
                separator.into_iter().chain(letter.to_uppercase())
            })
            .collect();
        let begins = format!("| {reason} | {code} | {} |", row.http);
        assert!(documented.lines().any(|line| line.starts_with(&begins)), "{begins} is not in docs/api.md");
    }
}

#[tokio::test]
async fn an_event_time_out_of_range_tells_the_limit_and_the_distance() {
    let world = World::new().await;
    let old = add("eventual", "a", 1, token("t", now_plus(-7_200)));
    let info = by_http(&world, old, "").await.unwrap_err().status.error_info().unwrap();
    assert_eq!(info.metadata["acceptLimit"], "60s");
    let distance: tallyman_api::time::Duration = info.metadata["distance"].parse().unwrap();
    assert!((-7_300..=-7_200).contains(&distance.seconds), "{distance}");
}

#[tokio::test]
async fn an_overload_says_when_to_try_again() {
    let world = World::new().await;
    let refused = by_grpc(&world, batch_get("eventual", IN_FLIGHT_MAX + 1), "").await.unwrap_err();
    assert!(refused.status.retry_delay().is_some_and(|delay| delay > Duration::ZERO));
}

#[tokio::test]
async fn a_timestamp_that_is_none_is_refused_and_never_wraps() {
    let world = World::new().await;
    let wrong = [(0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, 0), (i64::MAX / 1_000_000, 999_999_999)];
    for (seconds, nanos) in wrong {
        for namespace in ["eventual", "best-effort"] {
            let call = add(namespace, "wrong-times", 1, token("t", Timestamp { seconds, nanos }));
            let refused = by_grpc(&world, call, "").await.unwrap_err();
            assert_eq!(refused.status.code(), Code::InvalidArgument);
            assert_eq!(refused.status.field_violations()[0].field, "idempotency_token.generation_time");
        }
    }
    assert_eq!(by_grpc(&world, get("best-effort", "wrong-times"), "").await.unwrap()["count"], "0");
}

#[tokio::test]
async fn items_of_a_batch_are_refused_in_their_places_and_the_others_count() {
    let world = World::new().await;
    for namespace in ["accurate", "best-effort"] {
        let item = |counter_name: &str, idempotency_token| batch_add_count_request::Add {
            counter_name: counter_name.to_owned(),
            delta: 5,
            idempotency_token,
        };
        let adds = vec![
            item("batched", None),
            item("", None),
            item("batched", token("t", Timestamp { seconds: 0, nanos: -1 })),
            item("batched", token("u", now_plus(0))),
        ];
        let request = BatchAddCountRequest { namespace: namespace.to_owned(), adds };
        let reply = world.client.clone().batch_add_count(request).await.unwrap();
        let honoured = (namespace == "accurate").to_string();
        assert_eq!(reply.metadata().get(tallyman_api::TOKEN_HONOURED).unwrap().to_str().unwrap(), honoured);
        let fields: Vec<_> = reply
            .into_inner()
            .results
            .into_iter()
            .map(|result| result.status.map(|status| status.field_violations()[0].field.clone()))
            .collect();
        let name = Some("adds[1].counter_name".to_owned());
        let time = Some("adds[2].idempotency_token.generation_time".to_owned());
        assert_eq!(fields, [None, name, time, None], "{namespace}");

        let counter_names = vec!["batched".to_owned(), "a\nb".to_owned(), "never".to_owned()];
        let names = Call::BatchGet(BatchGetCountRequest { namespace: namespace.to_owned(), counter_names });
        let reply = by_http(&world, names, "").await.unwrap();
        assert_eq!(reply["results"][0]["count"], "10", "{namespace}");
        assert_eq!(reply["results"][1]["counterName"], "a\nb");
        assert_eq!(reply["results"][1]["status"]["code"], 3);
        assert_eq!(reply["results"][2]["count"], "0");
        assert_eq!(reply["results"][2].get("asOf").is_some(), namespace == "accurate");
    }
}
