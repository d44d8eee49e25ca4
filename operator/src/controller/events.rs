//! Kubernetes Events: one when what a namespace's Ready condition says has changed, and one for each repair. Never one for what
//! is as it was.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::runtime::events::{Event, EventType};
use tallyman_crds::CounterNamespace;
use tallyman_crds::counter_namespace::CounterNamespaceStatus;

use super::Context;
use super::apply::Applied;

/// The longest note that an API server takes, bytes.
const NOTE_MAX: usize = 1024;

/// What a change of status is worth telling.
#[must_use]
pub fn of_change(before: &CounterNamespaceStatus, after: &CounterNamespaceStatus) -> Vec<Event> {
    let told = |kind: &str, tells: fn(&Condition) -> bool| {
        let find =
            |status: &CounterNamespaceStatus| status.conditions.iter().find(|known| known.type_ == kind).cloned();
        let now = find(after).filter(tells)?;
        let is_old = find(before).is_some_and(|known| known.status == now.status && known.reason == now.reason);
        (!is_old).then_some(now)
    };
    let ready = told("Ready", |condition| condition.status == "True");
    let ready = ready.map(|condition| event(EventType::Normal, "Ready", &condition.message));
    let degraded = told("Degraded", |condition| condition.status == "True");
    let degraded = degraded.map(|condition| event(EventType::Warning, &condition.reason, &condition.message));
    let sidecars = told("SidecarsCurrent", |condition| condition.reason == "SidecarsMissing");
    let sidecars = sidecars.map(|condition| event(EventType::Warning, "SidecarsMissing", &condition.message));
    [degraded, ready, sidecars].into_iter().flatten().collect()
}

/// What a repair is worth telling.
#[must_use]
pub fn of_repairs(applied: &Applied) -> Vec<Event> {
    let repaired = applied.repaired.iter().map(|object| {
        let note = format!("{object} was changed by somebody, and is as built again");
        // Events that differ in their note alone count as one, which keeps its first note.
        let related = object.split_once(' ').map(|(kind, name)| ObjectReference {
            kind: Some(kind.to_owned()),
            name: Some(name.to_owned()),
            ..ObjectReference::default()
        });
        Event { secondary: related, ..event(EventType::Normal, "Repaired", &note) }
    });
    repaired.collect()
}

/// An event of ours.
#[must_use]
pub fn event(type_: EventType, reason: &str, note: &str) -> Event {
    let mut note = note.to_owned();
    let end = (0..=NOTE_MAX.min(note.len())).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
    note.truncate(end);
    Event { type_, reason: reason.to_owned(), note: Some(note), action: "Reconcile".to_owned(), secondary: None }
}

/// Publishes them. One that is lost is lost: the status says the same.
pub async fn publish(context: &Context, namespace: &CounterNamespace, events: Vec<Event>) {
    for event in events {
        if let Err(error) = context.recorder.publish(&event, &namespace.object_ref(&())).await {
            tracing::debug!(%error, reason = %event.reason, "an Event could not be published");
        }
    }
}
