//! The operator killed at each of its requests to the Kubernetes API, before it is sent or before it is answered: whoever comes
//! after it makes the same objects as one that nothing happened to, and leaves as little at a namespace's end.
//!
//! One in thirteen of the requests, each way; with `TALLYMAN_EVERY_REQUEST=1` every one.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod killed;
mod place;

use serde_json::Value;

use killed::Fault;
use place::{Place, wait_until};

/// Of this many requests one is the last, unless all are.
const STEP: usize = 13;
const EVERY: &str = "TALLYMAN_EVERY_REQUEST";

/// The requests to be killed at.
fn faults() -> impl Iterator<Item = Fault> {
    let step = if std::env::var_os(EVERY).is_some() { 1 } else { STEP };
    (1..).step_by(step).flat_map(move |request| {
        [Fault { request, is_sent: false }, Fault { request: request + step / 2, is_sent: true }]
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts Kubernetes and Cassandra: cargo xtask test"]
async fn an_operator_killed_at_any_request_leaves_what_the_next_completes() {
    let place = Place::start().await;
    let expected = undisturbed(&place, "n000").await;
    let mut provisioning = 0;
    let mut removals = 0;
    for (number, fault) in faults().enumerate() {
        let name = format!("n{:03}", number + 1);
        println!("{name}: {fault:?}");
        place.create(&name);
        if !place.killed_at(fault, async || place.is_ready(&name)).await {
            break;
        }
        provisioning += 1;
        let operator = place.undisturbed().await;
        place.becomes(&name, &expected, fault).await;
        operator.end().await;

        place.delete(&name);
        // A removal takes fewer requests.
        if place.killed_at(fault, async || place.is_gone(&name)).await {
            removals += 1;
            let operator = place.undisturbed().await;
            place.goes(&name, Some(fault)).await;
            operator.end().await;
        } else {
            place.goes(&name, Some(fault)).await;
        }
    }
    println!("killed {provisioning} times while it provisioned, {removals} times while it removed");
    assert!(provisioning >= 8 && removals >= 4, "{provisioning} and {removals}");
}

/// What an operator makes of a namespace that nothing happens to.
async fn undisturbed(place: &Place, name: &str) -> Value {
    let operator = place.undisturbed().await;
    place.create(name);
    assert!(wait_until(async || place.is_ready(name)).await, "{:#}", place.get(name).unwrap());
    let made = place.all_of(name).await;
    assert!(made["objects"].as_array().unwrap().len() > 6 && made["tables"].as_array().unwrap().len() > 3, "{made:#}");
    place.delete(name);
    place.goes(name, None).await;
    operator.end().await;
    made
}
