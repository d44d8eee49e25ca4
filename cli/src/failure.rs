//! What a command fails with: a message, the reason for programs, the remedy, and the exit code.

use std::process::ExitCode;

use serde::Serialize;
use tallyman_api::client::Error;
use tallyman_api::proto::IdempotencyToken;
use tallyman_api::status::Status;

use crate::output::Format;

/// Refused or failed.
const FAILED: u8 = 1;
/// A change that may or may not have been applied.
const OUTCOME_UNKNOWN: u8 = 3;

/// Why a command failed.
#[derive(Debug, Clone, Serialize)]
pub struct Failure {
    /// For programs: a reason of the API, the name of a status code, or `FAILED`.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Box<str>>,
    /// The token of a change whose outcome is unknown.
    #[serde(rename = "idempotencyToken", skip_serializing_if = "Option::is_none")]
    pub token: Option<Box<IdempotencyToken>>,
    #[serde(skip)]
    code: u8,
    #[serde(skip)]
    silent: bool,
}

impl Failure {
    /// A failure of this process.
    pub fn local(message: impl Into<String>) -> Self {
        Self {
            reason: "FAILED".to_owned(),
            message: message.into(),
            remedy: None,
            token: None,
            code: FAILED,
            silent: false,
        }
    }

    /// Who read our output has gone: there is nobody to tell.
    pub fn reader_gone() -> Self {
        Self { silent: true, code: 0, ..Self::local("the output's reader has gone") }
    }

    /// What to do about it.
    pub fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into().into()), ..self }
    }

    /// A failure of a request to the counter API at `address`.
    pub fn of_client(error: &Error, address: &str) -> Self {
        let message = match error {
            Error::OutcomeUnknown { last, .. } => {
                format!("the change may or may not have been applied: {}", last.message)
            }
            error => error.status().map_or_else(|| error.to_string(), |status| status.message.clone()),
        };
        let token = match error {
            Error::OutcomeUnknown { token, .. } => Some(Box::new(token.clone())),
            _ => None,
        };
        let code = if error.is_outcome_unknown() { OUTCOME_UNKNOWN } else { FAILED };
        Self { reason: reason(error), message, remedy: remedy(error, address), token, code, silent: false }
    }

    /// Prints it on standard error.
    pub fn print(&self, format: Format) {
        if self.silent {
            return;
        }
        match format {
            Format::Text => {
                eprintln!("error: {} ({})", self.message, self.reason);
                if let Some(remedy) = &self.remedy {
                    eprintln!("  {remedy}");
                }
            }
            Format::Json | Format::Yaml => match serde_json::to_string(&serde_json::json!({"error": self})) {
                Ok(line) => eprintln!("{line}"),
                Err(_) => eprintln!("error: {}", self.message),
            },
        }
    }

    /// The exit code that goes with it.
    pub fn exit_code(&self) -> ExitCode {
        self.code.into()
    }
}

/// The exit code of a command some of whose changes were not acknowledged.
pub fn exit_code_of_unacknowledged(some_unknown: bool) -> ExitCode {
    if some_unknown { OUTCOME_UNKNOWN } else { FAILED }.into()
}

/// The reason for programs: of the API where it has one, otherwise its status code's name.
pub fn reason(error: &Error) -> String {
    if error.is_outcome_unknown() {
        return "OUTCOME_UNKNOWN".to_owned();
    }
    match error.status() {
        None => "INVALID_ADDRESS".to_owned(),
        Some(status) => status.reason().map_or_else(|| code_name(status), |reason| reason.to_string()),
    }
}

/// A status code's name as the API writes it: `InvalidArgument` is `INVALID_ARGUMENT`.
fn code_name(status: &Status) -> String {
    let mut name = String::new();
    for letter in format!("{:?}", status.code()).chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

fn remedy(error: &Error, address: &str) -> Option<Box<str>> {
    let remedy = match error {
        Error::NamespaceUnknown(_) => {
            format!("serve a CounterNamespace of this name at {address}, or ask another address with --addr")
        }
        Error::EventTimeOutOfRange(_) => {
            "leave out --generation-time, or compare this machine's clock with the server's; \
             an earlier attempt with the same token may have been counted"
                .to_owned()
        }
        Error::TokenReused(_) => "use a new --token for another change".to_owned(),
        Error::CountOverflow(_) => {
            "the count does not fit into 64 bits; adds are still taken, and clear starts again from 0".to_owned()
        }
        Error::ClockSkew(_) => "see the server's readiness page; nothing was counted".to_owned(),
        Error::Overloaded(_) => "try again later; nothing was counted".to_owned(),
        Error::Unavailable(_) => {
            format!("is a sidecar or `tallyman standalone` listening at {address}? Nothing was counted")
        }
        Error::OutcomeUnknown { token_honoured: Some(false), .. } => {
            "the namespace is BestEffort: sending it again may count it twice; compare the count first".to_owned()
        }
        Error::OutcomeUnknown { token, .. } => {
            let time = token.generation_time.map(|time| format!(" --generation-time {time}")).unwrap_or_default();
            format!(
                "unless the namespace is BestEffort, it is safe to run it again with --token '{}'{time}",
                token.token
            )
        }
        Error::Invalid(_) | Error::Address { .. } | Error::Other(_) => return None,
    };
    Some(remedy.into())
}

#[cfg(test)]
mod tests {
    use tallyman_api::status::Reason;

    use super::*;

    const ADDRESS: &str = "http://127.0.0.1:7777";

    #[test]
    fn an_unknown_outcome_has_its_own_exit_code_and_says_how_to_repeat_it() {
        let token = IdempotencyToken {
            token: "t-1".to_owned(),
            generation_time: Some("2025-01-31T12:00:00Z".parse().unwrap()),
        };
        let last = Box::new(Status::refused(Reason::OutcomeUnknown, "no quorum"));
        let error = Error::OutcomeUnknown { token: token.clone(), token_honoured: Some(true), last };
        let failure = Failure::of_client(&error, ADDRESS);
        assert_eq!(
            (failure.code, failure.reason.as_str(), failure.token),
            (3, "OUTCOME_UNKNOWN", Some(Box::new(token)))
        );
        assert!(failure.remedy.unwrap().contains("--token 't-1' --generation-time 2025-01-31T12:00:00Z"));
    }

    #[test]
    fn a_best_effort_change_of_unknown_outcome_is_not_called_safe_to_repeat() {
        let last = Box::new(Status::refused(Reason::OutcomeUnknown, "lost"));
        let error = Error::OutcomeUnknown { token: IdempotencyToken::default(), token_honoured: Some(false), last };
        assert!(Failure::of_client(&error, ADDRESS).remedy.unwrap().contains("twice"));
    }

    #[test]
    fn every_refusal_has_a_reason_and_exit_code_1() {
        let failure = Failure::of_client(&Error::NamespaceUnknown(Status::namespace_unknown("likes")), ADDRESS);
        assert_eq!((failure.code, failure.reason.as_str()), (1, "NAMESPACE_UNKNOWN"));
        let failure = Failure::of_client(&Error::Invalid(Status::invalid("counter_name", "is empty")), ADDRESS);
        assert_eq!((failure.code, failure.reason.as_str()), (1, "INVALID_ARGUMENT"));
        assert!(failure.message.contains("counter_name"));
    }
}
