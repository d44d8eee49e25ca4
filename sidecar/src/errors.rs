//! The one table from the engine's refusals to the status that clients see: code, reason and details.

use prost::Message;
use prost_types::Any;
use tallyman_api::status::{DOMAIN, ErrorInfo, Reason, Status};
use tallyman_counter::service::Error;
use tonic::Code;

/// The store cannot be asked; nothing was applied.
const STORE_UNAVAILABLE: &str = "STORE_UNAVAILABLE";
/// Stored data is damaged or missing; waiting does not help.
const DATA_DAMAGED: &str = "DATA_DAMAGED";

/// A refusal of the engine as clients see it.
pub(crate) fn status(error: &Error) -> Status {
    let message = error.to_string();
    match error {
        Error::NamespaceUnknown { namespace } => Status::namespace_unknown(namespace),
        Error::Invalid { field, reason } => Status::invalid(field.as_str(), reason),
        Error::EventTimeOutOfRange { event_time, accept_limit, now } => {
            Status::event_time_out_of_range(*accept_limit, event_time.as_micros().saturating_sub(now.as_micros()))
        }
        Error::TokenReused { token } => {
            Status::refused_with(Reason::TokenReused, message, [("token", token.as_str().to_owned())])
        }
        Error::CountOverflow { count } => {
            Status::refused_with(Reason::CountOverflow, message, [("count", count.to_string())])
        }
        Error::OutcomeUnknown { .. } => Status::refused(Reason::OutcomeUnknown, message),
        Error::ClockSkew { .. } => Status::refused(Reason::ClockSkew, message),
        Error::Overloaded { retry_after } => Status::overloaded(message, *retry_after),
        Error::Unavailable { .. } => refused(Code::Unavailable, STORE_UNAVAILABLE, message),
        Error::Damaged { .. } => refused(Code::DataLoss, DATA_DAMAGED, message),
    }
}

/// A status with a reason that is not among the client's [`Reason`]s: it decides by the code alone.
fn refused(code: Code, reason: &str, message: String) -> Status {
    let info = ErrorInfo { reason: reason.to_owned(), domain: DOMAIN.to_owned(), ..ErrorInfo::default() };
    let mut status = Status::new(code, message);
    status
        .details
        .push(Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: info.encode_to_vec() });
    status
}
