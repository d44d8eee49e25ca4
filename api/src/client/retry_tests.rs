use super::*;
use proptest::prelude::*;

const POLICY: Policy =
    Policy { attempts_max: 3, backoff_min: Duration::from_millis(10), backoff_max: Duration::from_millis(40) };
const HONOURED: Operation = Operation::Mutation { token_honoured: Some(true), token_is_ours: true };
const NOT_HONOURED: Operation = Operation::Mutation { token_honoured: Some(false), token_is_ours: true };
const NOT_KNOWN: Operation = Operation::Mutation { token_honoured: None, token_is_ours: true };
const CALLERS_TOKEN: Operation = Operation::Mutation { token_honoured: Some(true), token_is_ours: false };

fn refused(reason: Reason) -> Failure {
    Failure::reported(Status::refused(reason, "m"))
}

fn broken() -> Failure {
    Failure::reported(Status::new(Code::Unavailable, "connection reset"))
}

/// The decision after these failures, and what would be reported if it ended there.
fn after(operation: Operation, failures: &[Failure]) -> (Decision, Error) {
    let mut history = History::default();
    for failure in failures {
        history.record(failure);
    }
    let last = failures.last().unwrap();
    let token = IdempotencyToken { token: "t".to_owned(), generation_time: None };
    (
        decide(&POLICY, operation, &history, last, 0.0),
        conclusion(operation, &history, last.status.clone(), Some(&token)),
    )
}

fn retries(decision: Decision) -> bool {
    matches!(decision, Decision::Retry { fresh_token: false, .. })
}

#[test]
fn out_of_range_after_an_unknown_attempt_is_an_unknown_outcome() {
    for first in [
        refused(Reason::OutcomeUnknown),
        broken(),
        Failure::deadline(),
        Failure::reported(Status::new(Code::Cancelled, "")),
    ] {
        let (decision, error) = after(HONOURED, &[first, refused(Reason::EventTimeOutOfRange)]);
        assert_eq!(decision, Decision::GiveUp);
        assert!(error.is_outcome_unknown(), "{error}");
    }
}

#[test]
fn no_later_refusal_makes_an_unknown_outcome_certain() {
    for later in [Reason::NamespaceUnknown, Reason::Overloaded, Reason::ClockSkew] {
        let (_, error) = after(HONOURED, &[broken(), refused(later)]);
        assert!(error.is_outcome_unknown(), "{error}");
    }
    let (_, error) = after(HONOURED, &[broken(), Failure::not_sent(Status::new(Code::Unavailable, ""))]);
    assert!(error.is_outcome_unknown(), "{error}");
}

#[test]
fn out_of_range_alone_is_a_refusal_and_final() {
    let (decision, error) = after(HONOURED, &[refused(Reason::EventTimeOutOfRange)]);
    assert_eq!(decision, Decision::GiveUp);
    assert!(matches!(error, Error::EventTimeOutOfRange(_)) && !error.is_retryable());
}

#[test]
fn a_token_that_grew_too_old_while_waiting_is_replaced_if_the_client_made_it() {
    let failures = [refused(Reason::ClockSkew), refused(Reason::EventTimeOutOfRange)];
    let (decision, _) = after(HONOURED, &failures);
    assert_eq!(decision, Decision::Retry { delay: Duration::ZERO, fresh_token: true });
    let (decision, error) = after(CALLERS_TOKEN, &failures);
    assert_eq!(decision, Decision::GiveUp);
    assert!(matches!(error, Error::EventTimeOutOfRange(_)));
}

#[test]
fn a_fresh_token_refused_at_once_is_not_replaced_again() {
    let mut history = History::default();
    let refusal = refused(Reason::EventTimeOutOfRange);
    history.record(&refused(Reason::ClockSkew));
    history.record(&refusal);
    history.record_fresh_token();
    history.record(&refusal);
    assert_eq!(decide(&POLICY, HONOURED, &history, &refusal, 0.0), Decision::GiveUp);
}

#[test]
fn a_reused_token_is_final_whatever_came_before() {
    for failures in [vec![refused(Reason::TokenReused)], vec![broken(), refused(Reason::TokenReused)]] {
        let (decision, error) = after(HONOURED, &failures);
        assert_eq!(decision, Decision::GiveUp);
        assert!(matches!(error, Error::TokenReused(_)) && !error.is_retryable());
    }
}

#[test]
fn an_overflowing_count_is_reported_as_such_and_not_retried() {
    let (decision, error) = after(HONOURED, &[broken(), refused(Reason::CountOverflow)]);
    assert_eq!(decision, Decision::GiveUp);
    assert!(matches!(error, Error::CountOverflow(_)));
}

#[test]
fn an_unknown_outcome_is_retried_only_where_tokens_are_honoured() {
    assert!(retries(after(HONOURED, &[broken()]).0));
    assert!(retries(after(CALLERS_TOKEN, &[broken()]).0));
    assert_eq!(after(NOT_HONOURED, &[broken()]).0, Decision::GiveUp);
    assert!(matches!(after(NOT_KNOWN, &[broken()]).0, Decision::Learn { .. }));
}

#[test]
fn an_unknown_outcome_is_retryable_for_the_caller_only_where_tokens_are_honoured() {
    assert!(after(HONOURED, &[broken()]).1.is_retryable());
    assert!(!after(NOT_HONOURED, &[broken()]).1.is_retryable());
    assert!(!after(NOT_KNOWN, &[broken()]).1.is_retryable());
}

#[test]
fn what_was_certainly_not_applied_is_retried_in_any_namespace() {
    let not_sent = Failure::not_sent(Status::new(Code::Unavailable, "connection refused"));
    for failure in [not_sent, refused(Reason::Overloaded), refused(Reason::ClockSkew)] {
        for operation in [Operation::Read, HONOURED, NOT_HONOURED, NOT_KNOWN] {
            let (decision, error) = after(operation, std::slice::from_ref(&failure));
            assert!(retries(decision), "{decision:?}");
            assert!(!error.is_outcome_unknown() && error.is_retryable());
        }
    }
}

#[test]
fn an_overload_is_waited_out_as_long_as_the_server_asks() {
    let asked = Duration::from_secs(3);
    let (decision, _) = after(HONOURED, &[Failure::reported(Status::overloaded("busy", asked))]);
    assert_eq!(decision, Decision::Retry { delay: asked, fresh_token: false });
    let (decision, _) = after(HONOURED, &[Failure::reported(Status::overloaded("busy", Duration::ZERO))]);
    assert_eq!(decision, Decision::Retry { delay: POLICY.backoff_min, fresh_token: false });
}

#[test]
fn clock_skew_is_retried_beyond_the_attempts_and_others_are_not() {
    assert!(retries(after(HONOURED, &vec![refused(Reason::ClockSkew); 50]).0));
    assert!(retries(after(HONOURED, &[broken(), broken()]).0));
    assert_eq!(after(HONOURED, &[broken(), broken(), broken()]).0, Decision::GiveUp);
    assert_eq!(after(Operation::Read, &[broken(), broken(), broken()]).0, Decision::GiveUp);
}

#[test]
fn tries_to_learn_count_as_attempts() {
    let mut history = History::default();
    history.record(&broken());
    history.record_probe();
    assert!(matches!(decide(&POLICY, NOT_KNOWN, &history, &broken(), 0.0), Decision::Learn { .. }));
    history.record_probe();
    assert_eq!(decide(&POLICY, NOT_KNOWN, &history, &broken(), 0.0), Decision::GiveUp);
}

#[test]
fn a_read_is_never_of_unknown_outcome() {
    for failure in [broken(), Failure::deadline(), refused(Reason::OutcomeUnknown)] {
        let mut history = History::default();
        history.record(&failure);
        let error = conclusion(Operation::Read, &history, failure.status, None);
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
    }
}

#[test]
fn a_wrong_request_is_final_and_named() {
    let (decision, error) = after(HONOURED, &[Failure::reported(Status::invalid("counter_name", "is empty"))]);
    assert_eq!(decision, Decision::GiveUp);
    assert!(matches!(&error, Error::Invalid(status) if status.field_violations()[0].field == "counter_name"));
}

#[test]
fn two_attempts_together_are_as_uncertain_as_either_and_as_final_as_either() {
    let refusal = refused(Reason::EventTimeOutOfRange);
    for both in [broken().and(refusal.clone()), refusal.clone().and(broken())] {
        let (decision, error) = after(HONOURED, &[both]);
        assert_eq!(decision, Decision::GiveUp);
        assert!(error.is_outcome_unknown(), "{error}");
    }
}

#[test]
fn waits_double_up_to_the_longest() {
    let waits: Vec<_> = (1..=5).map(|attempts| POLICY.backoff(attempts, 0.0).as_millis()).collect();
    assert_eq!(waits, [10, 20, 40, 40, 40]);
    assert_eq!(POLICY.backoff(1, 1.0), Duration::from_millis(5));
}

fn any_failure() -> impl Strategy<Value = Failure> {
    prop_oneof![
        (0..Reason::ALL.len()).prop_map(|index| refused(Reason::ALL[index])),
        (1..=16i32).prop_map(|code| Failure::reported(Status::new(Code::from(code), ""))),
        Just(Failure::not_sent(Status::new(Code::Unavailable, ""))),
        Just(Failure::malformed("")),
    ]
}

proptest! {
    #[test]
    fn a_possibly_applied_mutation_is_never_resent_without_an_honoured_token(
        failures in prop::collection::vec(any_failure(), 1..5),
    ) {
        let unknown = failures.iter().any(|failure| failure.effect == Effect::Unknown);
        for operation in [NOT_HONOURED, NOT_KNOWN] {
            let (decision, _) = after(operation, &failures);
            prop_assert!(!(unknown && matches!(decision, Decision::Retry { .. })), "{:?}", decision);
        }
    }

    #[test]
    fn a_fresh_token_is_taken_only_if_nothing_can_have_been_applied(
        failures in prop::collection::vec(any_failure(), 1..5),
    ) {
        let unknown = failures.iter().any(|failure| failure.effect == Effect::Unknown);
        let (decision, _) = after(HONOURED, &failures);
        let is_fresh = matches!(decision, Decision::Retry { fresh_token: true, .. });
        prop_assert!(!(unknown && is_fresh), "{:?}", decision);
    }

    #[test]
    fn no_wait_is_longer_than_the_longest_or_shorter_than_half_the_shortest(attempts in 0..u32::MAX, jitter in 0.0..1.0) {
        let wait = POLICY.backoff(attempts, jitter);
        prop_assert!((POLICY.backoff_min / 2..=POLICY.backoff_max).contains(&wait));
    }
}
