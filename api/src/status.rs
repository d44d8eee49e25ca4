//! Error details: the one place where they are made and read.
//!
//! A [`Status`] is `google.rpc.Status`. It becomes a [`tonic::Status`] (`grpc-status-details-bin`), the body of an HTTP
//! reply (serde, `@type` in the details), or the `status` of a batch result, and is read back from each.

pub(crate) mod json;

use std::{collections::BTreeMap, fmt, time::Duration};

use http::StatusCode;
use prost::Message;
use prost_types::Any;
use serde::{Deserialize, Serialize};
use tonic::Code;

pub use crate::generated::google::rpc::{BadRequest, ErrorInfo, RetryInfo, Status, bad_request::FieldViolation};

/// The domain of every [`Reason`].
pub const DOMAIN: &str = "tallyman.dev";

/// Why a request was refused, for programs: the `reason` of `google.rpc.ErrorInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The namespace is not served here.
    NamespaceUnknown,
    /// The event time lies outside the accept limit. It speaks of this attempt only.
    EventTimeOutOfRange,
    /// The token was seen with another delta or operation.
    TokenReused,
    /// The sum has left the signed 64-bit range.
    CountOverflow,
    /// The store did not acknowledge in time: applied or not.
    OutcomeUnknown,
    /// The server's clock is not trusted; nothing was applied.
    ClockSkew,
    /// Too much in flight; nothing was applied.
    Overloaded,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::NamespaceUnknown,
        Self::EventTimeOutOfRange,
        Self::TokenReused,
        Self::CountOverflow,
        Self::OutcomeUnknown,
        Self::ClockSkew,
        Self::Overloaded,
    ];

    /// As on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NamespaceUnknown => "NAMESPACE_UNKNOWN",
            Self::EventTimeOutOfRange => "EVENT_TIME_OUT_OF_RANGE",
            Self::TokenReused => "TOKEN_REUSED",
            Self::CountOverflow => "COUNT_OVERFLOW",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::ClockSkew => "CLOCK_SKEW",
            Self::Overloaded => "OVERLOADED",
        }
    }

    /// The status code that goes with it.
    pub const fn code(self) -> Code {
        match self {
            Self::NamespaceUnknown => Code::NotFound,
            Self::EventTimeOutOfRange => Code::FailedPrecondition,
            Self::TokenReused => Code::AlreadyExists,
            Self::CountOverflow => Code::OutOfRange,
            Self::OutcomeUnknown | Self::ClockSkew => Code::Unavailable,
            Self::Overloaded => Code::ResourceExhausted,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A detail of a [`Status`]; its serde form is that of an `Any` in JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "@type")]
enum Detail {
    #[serde(rename = "type.googleapis.com/google.rpc.ErrorInfo")]
    ErrorInfo(ErrorInfo),
    #[serde(rename = "type.googleapis.com/google.rpc.BadRequest")]
    BadRequest(BadRequest),
    #[serde(rename = "type.googleapis.com/google.rpc.RetryInfo")]
    RetryInfo(RetryInfo),
    /// Of a later version; it cannot be read here, so it is passed over.
    #[serde(other, skip_serializing)]
    Unknown,
}

const ERROR_INFO: &str = "google.rpc.ErrorInfo";
const BAD_REQUEST: &str = "google.rpc.BadRequest";
const RETRY_INFO: &str = "google.rpc.RetryInfo";

impl Detail {
    /// `None` for [`Detail::Unknown`].
    fn pack(&self) -> Option<Any> {
        let (name, value) = match self {
            Self::ErrorInfo(info) => (ERROR_INFO, info.encode_to_vec()),
            Self::BadRequest(request) => (BAD_REQUEST, request.encode_to_vec()),
            Self::RetryInfo(info) => (RETRY_INFO, info.encode_to_vec()),
            Self::Unknown => return None,
        };
        Some(Any { type_url: format!("type.googleapis.com/{name}"), value })
    }

    /// `None` for what cannot be read here: other types, malformed ones.
    fn unpack(any: &Any) -> Option<Self> {
        let value = any.value.as_slice();
        match any.type_url.rsplit('/').next()? {
            ERROR_INFO => ErrorInfo::decode(value).ok().map(Self::ErrorInfo),
            BAD_REQUEST => BadRequest::decode(value).ok().map(Self::BadRequest),
            RETRY_INFO => RetryInfo::decode(value).ok().map(Self::RetryInfo),
            _ => None,
        }
    }
}

impl Status {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into(), details: Vec::new() }
    }

    /// A status with a reason, and the code that goes with it.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Self {
        Self::refused_with(reason, message, [])
    }

    /// As [`Status::refused`], with limits and values seen for programs; keys in lowerCamelCase.
    pub fn refused_with<const N: usize>(
        reason: Reason,
        message: impl Into<String>,
        metadata: [(&str, String); N],
    ) -> Self {
        let metadata: BTreeMap<_, _> = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let info = ErrorInfo { reason: reason.as_str().to_owned(), domain: DOMAIN.to_owned(), metadata };
        Self::new(reason.code(), message).with(&Detail::ErrorInfo(info))
    }

    /// NOT_FOUND, NAMESPACE_UNKNOWN.
    pub fn namespace_unknown(namespace: &str) -> Self {
        Self::refused_with(
            Reason::NamespaceUnknown,
            format!("namespace `{namespace}` is not served here"),
            [("namespace", namespace.to_owned())],
        )
    }

    /// INVALID_ARGUMENT: `field` is the path in snake_case (`adds[3].counter_name`), `description` says what is wrong
    /// with it and what is allowed.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid_fields([FieldViolation { field: field.into(), description: description.into() }])
    }

    /// INVALID_ARGUMENT with several fields.
    pub fn invalid_fields(violations: impl IntoIterator<Item = FieldViolation>) -> Self {
        let field_violations: Vec<_> = violations.into_iter().collect();
        let message = field_violations
            .iter()
            .map(|violation| format!("{}: {}", violation.field, violation.description))
            .collect::<Vec<_>>()
            .join("; ");
        Self::new(Code::InvalidArgument, message).with(&Detail::BadRequest(BadRequest { field_violations }))
    }

    /// FAILED_PRECONDITION, EVENT_TIME_OUT_OF_RANGE; `distance_micros` is event_time − now.
    pub fn event_time_out_of_range(accept_limit: Duration, distance_micros: i64) -> Self {
        let limit = crate::time::Duration::from(accept_limit);
        let (side, sign) = if distance_micros < 0 { ("before", "-") } else { ("after", "") };
        let distance = crate::time::Duration::from(Duration::from_micros(distance_micros.unsigned_abs()));
        Self::refused_with(
            Reason::EventTimeOutOfRange,
            format!("generation_time lies {distance} {side} this sidecar's now; allowed are {limit}"),
            [("acceptLimit", limit.to_string()), ("distance", format!("{sign}{distance}"))],
        )
    }

    /// RESOURCE_EXHAUSTED, OVERLOADED, with the time after which to try again.
    pub fn overloaded(message: impl Into<String>, retry_delay: Duration) -> Self {
        Self::refused(Reason::Overloaded, message)
            .with(&Detail::RetryInfo(RetryInfo { retry_delay: Some(retry_delay.into()) }))
    }

    fn with(mut self, detail: &Detail) -> Self {
        self.details.extend(detail.pack());
        self
    }

    /// The status code; what is no code is UNKNOWN.
    pub fn code(&self) -> Code {
        Code::from(self.code)
    }

    /// The HTTP status that gRPC-gateway answers with.
    pub fn http(&self) -> StatusCode {
        http_status(self.code())
    }

    /// The reason, if it is one of ours.
    pub fn reason(&self) -> Option<Reason> {
        let info = self.error_info()?;
        Reason::ALL.into_iter().find(|reason| info.domain == DOMAIN && reason.as_str() == info.reason)
    }

    /// The cause with its limits and values seen.
    pub fn error_info(&self) -> Option<ErrorInfo> {
        self.find(|detail| match detail {
            Detail::ErrorInfo(info) => Some(info),
            _ => None,
        })
    }

    /// The fields that were wrong.
    pub fn field_violations(&self) -> Vec<FieldViolation> {
        self.find(|detail| match detail {
            Detail::BadRequest(request) => Some(request.field_violations),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// After which time to try again.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.find(|detail| match detail {
            Detail::RetryInfo(info) => info.retry_delay?.try_into().ok(),
            _ => None,
        })
    }

    fn find<T>(&self, pick: impl Fn(Detail) -> Option<T>) -> Option<T> {
        self.details.iter().filter_map(Detail::unpack).find_map(pick)
    }
}

/// `CODE (REASON): message`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.code())?;
        if let Some(info) = self.error_info() {
            write!(f, " ({})", info.reason)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl From<Status> for tonic::Status {
    fn from(status: Status) -> Self {
        let code = status.code();
        if status.details.is_empty() {
            Self::new(code, status.message)
        } else {
            let encoded = status.encode_to_vec();
            Self::with_details(code, status.message, encoded.into())
        }
    }
}

/// Reads the details; where there are none or they are malformed, code and message remain.
impl From<&tonic::Status> for Status {
    fn from(status: &tonic::Status) -> Self {
        let details = Self::decode(status.details()).map(|decoded| decoded.details).unwrap_or_default();
        Self { code: status.code() as i32, message: status.message().to_owned(), details }
    }
}

/// The HTTP status that gRPC-gateway answers with for a code.
pub fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // "Client closed request": nginx's, without a name in the registry.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json, to_value};

    #[test]
    fn a_refusal_renders_as_grpc_gateway_does() {
        assert_eq!(
            to_value(Status::namespace_unknown("likes")).unwrap(),
            json!({"code": 5, "message": "namespace `likes` is not served here", "details": [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "NAMESPACE_UNKNOWN",
                 "domain": "tallyman.dev", "metadata": {"namespace": "likes"}}]})
        );
        assert_eq!(
            to_value(Status::new(Code::Internal, "")).unwrap(),
            json!({"code": 13, "message": "", "details": []})
        );
    }

    #[test]
    fn an_overload_says_when_to_try_again() {
        let status = Status::overloaded("4096 requests in flight", Duration::from_millis(1_500));
        assert_eq!(
            to_value(&status).unwrap()["details"][1],
            json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"})
        );
        assert_eq!(status.retry_delay(), Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn an_event_time_out_of_range_names_the_limit_and_the_distance() {
        let status = Status::event_time_out_of_range(Duration::from_secs(5), -7_200_000);
        let info = status.error_info().unwrap();
        assert_eq!(info.metadata["acceptLimit"], "5s");
        assert_eq!(info.metadata["distance"], "-7.200s");
        assert!(status.message.contains("7.200s before"), "{}", status.message);
    }

    #[test]
    fn details_survive_grpc_and_json_both_ways() {
        let violation = FieldViolation { field: "counter_name".to_owned(), description: "is empty".to_owned() };
        for status in [
            Status::new(Code::Internal, "no details"),
            Status::invalid_fields([violation.clone(), violation]),
            Status::overloaded("busy", Duration::from_micros(1)),
            Status::event_time_out_of_range(Duration::from_secs(5), 6_000_001),
        ] {
            let grpc = tonic::Status::from(status.clone());
            assert_eq!((grpc.code(), grpc.message()), (status.code(), status.message.as_str()));
            assert_eq!(Status::from(&grpc), status);
            assert_eq!(from_value::<Status>(to_value(&status).unwrap()).unwrap(), status);
        }
    }

    #[test]
    fn every_reason_is_found_again_with_its_code() {
        for reason in Reason::ALL {
            let status = Status::refused(reason, "m");
            assert_eq!((status.reason(), status.code()), (Some(reason), reason.code()));
            assert_eq!(status.to_string(), format!("{:?} ({reason}): m", reason.code()));
        }
    }

    #[test]
    fn a_reason_of_another_domain_is_not_ours() {
        let info =
            ErrorInfo { reason: "OVERLOADED".to_owned(), domain: "example.com".to_owned(), ..Default::default() };
        let status = Status::new(Code::Unavailable, "").with(&Detail::ErrorInfo(info));
        assert_eq!(status.reason(), None);
    }

    #[test]
    fn details_that_cannot_be_read_are_passed_over() {
        let mut status = Status::refused(Reason::ClockSkew, "");
        status
            .details
            .insert(0, Any { type_url: "type.googleapis.com/google.rpc.Help".to_owned(), value: vec![10, 0] });
        status
            .details
            .insert(0, Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: vec![255] });
        assert_eq!(status.reason(), Some(Reason::ClockSkew));
        assert_eq!(to_value(&status).unwrap()["details"].as_array().unwrap().len(), 1);
        let read: Status = from_value(json!({"code": 14, "message": "", "details": [
            {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "CLOCK_SKEW", "domain": "tallyman.dev"}]}))
        .unwrap();
        assert_eq!(read.reason(), Some(Reason::ClockSkew));
        assert_eq!(
            Status::from(&tonic::Status::with_details(Code::Internal, "m", vec![255].into())),
            Status::new(Code::Internal, "m")
        );
    }

    #[test]
    fn http_answers_with_the_codes_of_grpc_gateway() {
        let codes: Vec<u16> = (0..=16).map(|code| http_status(Code::from(code)).as_u16()).collect();
        assert_eq!(codes, [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401]);
    }
}
