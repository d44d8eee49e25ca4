//! The client against a server that fails in chosen ways.

#![allow(clippy::unwrap_used, reason = "a failed set-up is to fail the test")]

mod fake;

use std::time::Duration;

use fake::{Fake, Step};
use futures::StreamExt;
use tallyman_api::{
    client::{Add, Client, Error, Policy, Reading, TokenSource},
    proto::IdempotencyToken,
    status::{Reason, Status},
    time::Timestamp,
};
use tonic::Code;

fn policy() -> Policy {
    Policy { attempts_max: 4, backoff_min: Duration::from_millis(1), backoff_max: Duration::from_millis(2) }
}

fn refuse(reason: Reason) -> Step {
    Step::Refuse(Status::refused(reason, "scripted"))
}

/// A client that does not know yet whether tokens are honoured.
async fn start(honoured: Option<bool>) -> (Fake, Client) {
    let (fake, address) = Fake::start(honoured).await;
    (fake, Client::builder(address).retries(policy()).connect().unwrap())
}

#[tokio::test]
async fn an_add_that_was_applied_before_the_connection_broke_counts_once() {
    let (fake, client) = start(Some(true)).await;
    client.add("ns", "a", 1, None).await.unwrap();
    fake.script([Step::ApplyThenCutConnection]);
    client.add("ns", "a", 10, None).await.unwrap();
    assert_eq!(fake.count("a"), 11);
    let tokens = fake.tokens_seen();
    assert_eq!(tokens.len(), 3);
    assert_eq!(tokens[1], tokens[2]);
    assert_eq!(fake.reads(), 0);
}

#[tokio::test]
async fn before_any_reply_the_client_reads_to_learn_whether_it_may_repeat() {
    let (fake, client) = start(Some(true)).await;
    fake.script([Step::ApplyThenCutConnection]);
    client.add("ns", "a", 10, None).await.unwrap();
    assert_eq!((fake.count("a"), fake.reads(), fake.seen().len()), (10, 1, 2));
}

#[tokio::test]
async fn a_best_effort_add_that_may_have_been_applied_is_not_sent_again() {
    let (fake, client) = start(Some(false)).await;
    for step in [
        Step::ApplyThenCutConnection,
        Step::ApplyThenFail(Status::refused(Reason::OutcomeUnknown, "scripted")),
        Step::ApplyThenFail(Status::new(Code::Unavailable, "scripted")),
    ] {
        fake.script([step]);
        let error = client.add("ns", "a", 1, None).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        let Error::OutcomeUnknown { token_honoured, .. } = error else { panic!("{error}") };
        assert_eq!(token_honoured, Some(false));
    }
    assert_eq!((fake.count("a"), fake.seen().len()), (3, 3));
    // Only the first add had no reply to learn from.
    assert_eq!(fake.reads(), 1);
}

#[tokio::test]
async fn a_namespace_named_best_effort_is_not_read_to_find_out() {
    let (fake, address) = Fake::start(Some(false)).await;
    let client = Client::builder(address).retries(policy()).best_effort("ns").connect().unwrap();
    fake.script([Step::ApplyThenCutConnection]);
    assert!(client.add("ns", "a", 1, None).await.unwrap_err().is_outcome_unknown());
    assert_eq!((fake.seen().len(), fake.reads()), (1, 0));
}

#[tokio::test]
async fn where_no_reply_says_whether_tokens_are_honoured_nothing_is_sent_twice() {
    let (fake, client) = start(None).await;
    fake.script([Step::ApplyThenFail(Status::refused(Reason::OutcomeUnknown, "scripted"))]);
    let error = client.add("ns", "a", 1, None).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { token_honoured: None, .. }), "{error}");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_best_effort_add_that_was_refused_unapplied_is_sent_again() {
    let (fake, client) = start(Some(false)).await;
    fake.script([Step::Refuse(Status::overloaded("scripted", Duration::from_millis(1)))]);
    client.add("ns", "a", 1, None).await.unwrap();
    assert_eq!((fake.count("a"), fake.seen().len()), (1, 2));
}

#[tokio::test]
async fn out_of_range_after_an_unknown_attempt_is_reported_as_unknown() {
    let (fake, client) = start(Some(true)).await;
    fake.script([
        Step::ApplyThenFail(Status::refused(Reason::OutcomeUnknown, "scripted")),
        Step::Refuse(Status::event_time_out_of_range(Duration::from_secs(5), -6_000_000)),
    ]);
    let error = client.add("ns", "a", 1, None).await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error}");
    let Error::OutcomeUnknown { token, last, .. } = error else { panic!("{error}") };
    assert_eq!(token, fake.seen()[0].token);
    assert_eq!(last.reason(), Some(Reason::EventTimeOutOfRange));
}

#[tokio::test]
async fn out_of_range_at_once_is_a_refusal() {
    let (fake, client) = start(Some(true)).await;
    fake.script([refuse(Reason::EventTimeOutOfRange)]);
    let error = client.add("ns", "a", 1, None).await.unwrap_err();
    assert!(matches!(error, Error::EventTimeOutOfRange(_)), "{error}");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_token_that_grew_too_old_unapplied_is_replaced() {
    let (fake, client) = start(Some(true)).await;
    fake.script([refuse(Reason::ClockSkew), refuse(Reason::EventTimeOutOfRange)]);
    client.add("ns", "a", 1, None).await.unwrap();
    let tokens = fake.tokens_seen();
    assert_eq!((tokens.len(), fake.count("a")), (3, 1));
    assert_eq!(tokens[0], tokens[1]);
    assert_ne!(tokens[1], tokens[2]);
}

#[tokio::test]
async fn clock_skew_is_waited_out_beyond_the_attempts() {
    let (fake, client) = start(Some(true)).await;
    fake.script(vec![refuse(Reason::ClockSkew); 20]);
    client.add("ns", "a", 1, None).await.unwrap();
    assert_eq!((fake.seen().len(), fake.count("a")), (21, 1));
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_ends_the_call_at_once() {
    let (fake, client) = start(Some(true)).await;
    let asked = Duration::from_secs(24 * 60 * 60);
    fake.script([Step::Refuse(Status::overloaded("scripted", asked))]);
    let error = client.add("ns", "a", 1, None).await.unwrap_err();
    assert!(matches!(&error, Error::Overloaded(status) if status.retry_delay() == Some(asked)), "{error}");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn a_reused_token_and_an_unknown_namespace_are_final() {
    let (fake, client) = start(Some(true)).await;
    fake.script([refuse(Reason::TokenReused), refuse(Reason::NamespaceUnknown)]);
    assert!(matches!(client.add("ns", "a", 1, None).await, Err(Error::TokenReused(_))));
    assert!(matches!(client.clear("ns", "a", None).await, Err(Error::NamespaceUnknown(_))));
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn the_callers_token_is_sent_as_it_is() {
    let (fake, client) = start(Some(true)).await;
    let token = IdempotencyToken { token: "mine".to_owned(), generation_time: Some(Timestamp::from_micros(7)) };
    for _ in 0..2 {
        let reading = client.add_and_get("ns", "a", 5, Some(token.clone())).await.unwrap();
        assert_eq!(reading, Reading { count: 5, as_of: Some(Timestamp::from_micros(1)) });
    }
    assert!(fake.seen().iter().all(|seen| seen.token == token));
}

#[tokio::test]
async fn tokens_name_their_source() {
    let (fake, address) = Fake::start(Some(true)).await;
    let client = Client::builder(address).token_source(TokenSource::named("web-0")).connect().unwrap();
    client.add("ns", "a", 1, None).await.unwrap();
    assert!(fake.tokens_seen()[0].starts_with("web-0/"));
}

#[tokio::test]
async fn a_hedge_carries_the_same_token_and_the_first_success_wins() {
    let (fake, address) = Fake::start(Some(true)).await;
    let hedge_delay = Duration::from_millis(1);
    let client = Client::builder(address).retries(policy()).hedge_after(hedge_delay).connect().unwrap();
    // The namespace is known from here on.
    client.get("ns", "a", None).await.unwrap();
    fake.script([Step::ApplyThenHang]);
    client.add("ns", "a", 3, None).await.unwrap();
    let tokens = fake.tokens_seen();
    assert_eq!((tokens.len(), fake.count("a")), (2, 3));
    assert_eq!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn a_refusal_of_one_hedged_attempt_does_not_tell_of_the_other() {
    let too_old = Status::event_time_out_of_range(Duration::from_secs(5), -6_000_000);
    for script in
        [[Step::ApplyThenHang, Step::Refuse(too_old.clone())], [Step::RefuseAfterNext(too_old), Step::ApplyThenHang]]
    {
        let (fake, address) = Fake::start(Some(true)).await;
        let client =
            Client::builder(address).retries(policy()).hedge_after(Duration::from_millis(1)).connect().unwrap();
        client.get("ns", "a", None).await.unwrap();
        fake.script(script);
        let client = client.with_deadline(Duration::from_millis(300));
        let error = client.add("ns", "a", 3, None).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
        assert_eq!((fake.seen().len(), fake.count("a")), (2, 3));
    }
}

#[tokio::test]
async fn a_mutation_is_not_hedged_until_tokens_are_known_to_be_honoured() {
    for honoured in [Some(false), None] {
        let (fake, address) = Fake::start(honoured).await;
        let client = Client::builder(address).hedge_after(Duration::from_millis(1)).connect().unwrap();
        client.get("ns", "a", None).await.unwrap();
        fake.script([Step::ApplyThenHang]);
        let client = client.with_deadline(Duration::from_millis(300));
        let error = client.add("ns", "a", 3, None).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{error}");
        assert_eq!((fake.seen().len(), fake.count("a")), (1, 3));
    }
}

#[tokio::test]
async fn without_a_server_a_mutation_is_certainly_not_applied() {
    // A port that was just free: nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::builder(address).retries(policy()).connect().unwrap();
    let error = client.add("ns", "a", 1, None).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)) && error.is_retryable(), "{error}");

    let missing = std::env::temp_dir().join("tallyman-no-such-socket");
    let client = Client::builder(format!("unix:{}", missing.display())).retries(policy()).connect().unwrap();
    let error = client.add("ns", "a", 1, None).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_unix_socket_serves_as_well() {
    let path = std::env::temp_dir().join(format!("tallyman-api-{}.sock", std::process::id()));
    let fake = Fake::start_unix(&path);
    let client = Client::connect(format!("unix:{}", path.display())).unwrap();
    let sent = client.add("ns", "a", 1, None).await;
    std::fs::remove_file(&path).unwrap();
    sent.unwrap();
    assert_eq!(fake.count("a"), 1);
}

#[tokio::test]
async fn addresses_that_cannot_be_connected_to_are_refused_by_name() {
    for address in ["127.0.0.1:7777", "https://localhost:1", "http://", "unix:", "ftp://x", "http://a b"] {
        let error = Client::connect(address).unwrap_err();
        assert!(matches!(error, Error::Address { .. }) && error.to_string().contains(address), "{error}");
    }
}

fn adds(count: usize) -> Vec<Add> {
    (0..count).map(|index| Add { counter_name: format!("c{index}"), delta: 1 + index as i64, token: None }).collect()
}

#[tokio::test]
async fn a_batch_retries_only_the_items_that_failed_with_their_tokens() {
    let (fake, client) = start(Some(true)).await;
    fake.script_item(
        "c1",
        [Status::refused(Reason::OutcomeUnknown, "scripted"), Status::refused(Reason::Overloaded, "scripted")],
    );
    fake.script_item("c2", [Status::invalid("adds[2].counter_name", "is wrong")]);
    fake.script_item(
        "c3",
        [Status::refused(Reason::OutcomeUnknown, "scripted"), Status::refused(Reason::EventTimeOutOfRange, "scripted")],
    );
    let results = client.batch_add("ns", adds(5)).await;
    assert_eq!(fake.batch_sizes(), [5, 2, 1]);
    assert!(results[0].is_ok() && results[1].is_ok() && results[4].is_ok());
    assert!(matches!(results[2], Err(Error::Invalid(_))));
    assert!(results[3].as_ref().unwrap_err().is_outcome_unknown());
    assert_eq!([0, 1, 4].map(|index| fake.count(&format!("c{index}"))), [1, 2, 5]);
    let tokens_of_c1: Vec<_> =
        fake.seen().into_iter().filter(|seen| seen.counter_name == "c1").map(|seen| seen.token).collect();
    assert_eq!(tokens_of_c1.len(), 3);
    assert!(tokens_of_c1.iter().all(|token| *token == tokens_of_c1[0]));
}

#[tokio::test]
async fn long_batches_are_split_and_answered_in_order() {
    let (fake, client) = start(Some(true)).await;
    assert!(client.batch_add("ns", adds(2_500)).await.iter().all(Result::is_ok));
    let mut sizes = fake.batch_sizes();
    sizes.sort_unstable();
    assert_eq!(sizes, [500, 1_000, 1_000]);

    fake.script_item("c7", [Status::refused(Reason::CountOverflow, "scripted")]);
    let names = (0..1_500).map(|index| format!("c{index}")).collect();
    let readings = client.batch_get("ns", names).await;
    assert_eq!(readings.len(), 1_500);
    for (index, reading) in readings.into_iter().enumerate() {
        match index {
            7 => assert!(matches!(reading, Err(Error::CountOverflow(_)))),
            _ => assert_eq!(reading.unwrap().count, 1 + index as i64),
        }
    }
}

#[tokio::test]
async fn an_empty_batch_sends_nothing() {
    let (fake, client) = start(Some(true)).await;
    assert!(client.batch_add("ns", Vec::new()).await.is_empty());
    assert!(client.batch_get("ns", Vec::new()).await.is_empty());
    assert!(fake.batch_sizes().is_empty());
}

#[tokio::test]
async fn a_watch_survives_lost_streams_and_its_as_of_never_goes_back() {
    let (fake, client) = start(Some(true)).await;
    fake.script_watch([(1, 10), (2, 20)]);
    fake.script_watch([(2, 20), (1, 10), (3, 30)]);
    // The third stream is refused for good, which ends the watch.
    let items: Vec<_> = client.watch("ns", "a").collect().await;
    let readings: Vec<_> =
        items.iter().flatten().map(|reading| (reading.count, reading.as_of.unwrap().micros().unwrap())).collect();
    assert_eq!(readings, [(1, 10), (2, 20), (3, 30)]);
    assert!(matches!(items.last(), Some(Err(Error::NamespaceUnknown(_)))));
    assert_eq!(items.len(), 4);
}

#[tokio::test]
async fn calls_run_in_tasks_of_their_own() {
    let (fake, client) = start(Some(true)).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                client.add("ns", "a", 1, None).await.unwrap();
                assert!(client.batch_add("ns", adds(2)).await.iter().all(Result::is_ok));
                assert!(client.batch_get("ns", vec!["a".to_owned()]).await[0].is_ok());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(fake.count("a"), 8);
}
