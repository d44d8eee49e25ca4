//! What a CounterNamespace's status says. Pure, and the same for the same state: no times but those of conditions that changed,
//! no names of pods, nothing that differs from one look to the next.
//!
//! Beside our own conditions stand `Reconciling` and `Stalled` where they are true, which is what kstatus reads: work goes on, or
//! somebody has to do something.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tallyman_crds::counter_namespace::{
    CounterNamespaceStatus, EndpointsStatus, ImagesStatus, PlanStatus, RollupStatus, SlicesStatus,
};

use super::apply::Rollout;
use super::dereference::Sidecar;
use super::validate::Refused;
use crate::cassandra::{SchemaState, Slices, Trouble};

/// What of a namespace was found and done.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Of the resource.
    pub generation: Option<i64>,
    /// Why it is not provisioned, or not wholly.
    pub refused: Option<Refused>,
    /// Its class.
    pub class_name: Option<String>,
    /// Whether nothing is to be changed.
    pub paused: bool,
    /// What was left as it is because of that: kinds and names.
    pub held_back: Vec<String>,
    /// The rest, of a namespace that is provisioned.
    pub provisioned: Option<Provisioned>,
    /// The pods that ask for its sidecar.
    pub sidecars: Vec<Sidecar>,
}

/// What of a provisioned namespace was found.
#[derive(Debug, Clone)]
pub struct Provisioned {
    /// Its settings.
    pub plan: PlanStatus,
    /// Its dataset; `None` for BestEffort.
    pub schema: Option<SchemaState>,
    /// Its rollup servers; `None` for BestEffort.
    pub rollup: Option<Rollout>,
    /// Its memcached servers, a rollout each replica group; empty where they are shared.
    pub cache: Vec<Rollout>,
    /// Where they are reached.
    pub endpoints: EndpointsStatus,
    /// The images in use.
    pub images: ImagesStatus,
    /// What this release would change, were it asked to.
    pub updates: Vec<String>,
    /// Label selector of rollup pods.
    pub selector: String,
}

/// A condition's state before it has a time.
struct State {
    is_true: Option<bool>,
    reason: &'static str,
    message: String,
}

impl State {
    fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_true: Some(true), reason, message: message.into() }
    }

    fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_true: Some(false), reason, message: message.into() }
    }

    fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self { is_true: None, reason, message: message.into() }
    }
}

/// The status, after `before`.
#[must_use]
pub fn status(observed: &Observed, before: &CounterNamespaceStatus, now: Timestamp) -> CounterNamespaceStatus {
    let provisioned = observed.provisioned.as_ref();
    let conditions = conditions(observed, is_known_ready(observed, before));
    let keep =
        |(kind, state): (&'static str, State)| condition(kind, state, observed.generation, &before.conditions, now);
    CounterNamespaceStatus {
        observed_generation: observed.generation,
        class_name: observed.class_name.clone().or_else(|| before.class_name.clone()),
        conditions: conditions.into_iter().map(keep).collect(),
        // What was provisioned earlier is still there when it is refused now.
        plan: provisioned.map_or_else(|| before.plan.clone(), |provisioned| Some(provisioned.plan.clone())),
        slices: match provisioned.and_then(|provisioned| provisioned.schema.as_ref()) {
            Some(SchemaState::Ready(slices)) => Some(slices_status(slices)),
            _ => before.slices.clone(),
        },
        endpoints: provisioned
            .map_or_else(|| before.endpoints.clone(), |provisioned| Some(provisioned.endpoints.clone())),
        images: provisioned.map_or_else(|| before.images.clone(), |provisioned| Some(provisioned.images.clone())),
        rollup: match provisioned {
            Some(Provisioned { rollup: Some(rollup), selector, .. }) => {
                Some(RollupStatus { replicas: rollup.replicas, selector: selector.clone() })
            }
            Some(_) => None,
            None => before.rollup.clone(),
        },
    }
}

fn slices_status(slices: &Slices) -> SlicesStatus {
    let time = |time: tallyman_counter::model::Timestamp| Timestamp::from_microsecond(time.as_micros()).ok().map(Time);
    // The first slice starts at the epoch, whenever that was.
    let start = slices.oldest_start.filter(|start| start.as_micros() > 0);
    SlicesStatus {
        oldest_start: start.and_then(time),
        newest_end: slices.newest_end.and_then(time),
        open: i32::try_from(slices.open).unwrap_or(i32::MAX),
        closed: i32::try_from(slices.closed).unwrap_or(i32::MAX),
    }
}

/// Whether a dataset that is only being looked at, as after a restart of the operator, was there for just these settings: then it
/// is not said to be missing.
fn is_known_ready(observed: &Observed, before: &CounterNamespaceStatus) -> bool {
    let is = |known: &Condition| {
        known.type_ == "SchemaReady" && known.status == "True" && known.observed_generation == observed.generation
    };
    before.conditions.iter().any(is)
}

fn conditions(observed: &Observed, is_known_ready: bool) -> Vec<(&'static str, State)> {
    let parts = parts(observed, is_known_ready);
    let trouble = trouble(observed);
    let waits = parts.iter().find(|(_, state)| state.is_true != Some(true));
    let ready = match (&trouble, waits) {
        (Some(refused), _) => State::no(refused.reason, refused.message.clone()),
        (None, _) if observed.paused && !observed.held_back.is_empty() => State::no(
            "Paused",
            format!("changes are held back while spec.paused is true: {}", observed.held_back.join(", ")),
        ),
        (None, Some((_, state))) => State::no(state.reason, state.message.clone()),
        (None, None) => State::yes("Ready", "everything that was asked for is there"),
    };
    let waiting_helps = trouble.as_ref().is_none_or(|refused| refused.waiting_helps);
    let works = ready.is_true != Some(true) && waiting_helps;
    let progressing = if works {
        State::yes(ready.reason, ready.message.clone())
    } else {
        State::no(
            ready.reason,
            if ready.is_true == Some(true) { "nothing is to be done" } else { "somebody has to do something first" },
        )
    };
    let degraded = match &trouble {
        Some(refused) => State::yes(refused.reason, refused.message.clone()),
        None => State::no("AsExpected", "nothing is wrong"),
    };
    let paused = if observed.paused {
        State::yes("Paused", "spec.paused is true: nothing is changed but for slices, which go on being created")
    } else {
        State::no("NotPaused", "changes are made")
    };
    let stalled = trouble.filter(|refused| !refused.waiting_helps);
    let reconciling = works.then(|| State::yes(ready.reason, ready.message.clone()));
    let mut all = vec![("Ready", ready), ("Progressing", progressing), ("Degraded", degraded), ("Paused", paused)];
    all.extend(parts);
    all.push(("SidecarsCurrent", sidecars(&observed.sidecars)));
    if let Some(provisioned) = &observed.provisioned {
        all.push(("ImagesCurrent", images(&provisioned.updates)));
    }
    all.extend(reconciling.map(|state| ("Reconciling", state)));
    all.extend(stalled.map(|refused| ("Stalled", State::yes(refused.reason, refused.message))));
    all
}

/// What is wrong, with the resource or with its dataset.
fn trouble(observed: &Observed) -> Option<Refused> {
    let schema = observed.provisioned.as_ref().and_then(|provisioned| provisioned.schema.as_ref());
    observed.refused.clone().or_else(|| match schema {
        Some(SchemaState::Failed(trouble)) => Some(Refused {
            reason: reason(trouble),
            message: trouble.message.clone(),
            waiting_helps: trouble.waiting_helps,
        }),
        _ => None,
    })
}

fn reason(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble { of: Some(_), .. } => "RemovedJustNow",
        Trouble { waiting_helps: true, .. } => "CassandraUnavailable",
        Trouble { .. } => "SchemaRefused",
    }
}

/// The conditions of the parts, in the order in which they come to be.
fn parts(observed: &Observed, is_known_ready: bool) -> Vec<(&'static str, State)> {
    let Some(provisioned) = &observed.provisioned else {
        let reason = observed.refused.as_ref().map_or("Pending", |refused| refused.reason);
        let unknown = |kind| (kind, State::unknown(reason, "not looked at: the resource is not provisioned as it is"));
        return ["SchemaReady", "CacheReady", "RollupReady"].map(unknown).into();
    };
    let schema = match &provisioned.schema {
        None => State::yes("NotNeeded", "BestEffort counters have no tables"),
        Some(SchemaState::Ready(slices)) if slices.notes.is_empty() => {
            State::yes("Provisioned", "keyspace, tables and slices are there")
        }
        Some(SchemaState::Ready(slices)) => State::yes("Provisioned", slices.notes.join("; ")),
        Some(SchemaState::Pending) if is_known_ready => {
            State::yes("Provisioned", "keyspace, tables and slices are there")
        }
        Some(SchemaState::Pending) => State::no("Provisioning", "keyspace, tables and slices are looked at"),
        Some(SchemaState::Failed(trouble)) => State::no(reason(trouble), trouble.message.clone()),
    };
    let cache = match provisioned.cache.as_slice() {
        [] => State::yes("Shared", "the class's memcached is used"),
        groups => {
            let (ready, wanted) = sum(groups);
            rollout(groups.iter().all(Rollout::is_complete), "CacheRollout", ready, wanted, "cache server")
        }
    };
    let rollup = match &provisioned.rollup {
        None => State::yes("NotNeeded", "BestEffort counters are not rolled up"),
        Some(servers) => {
            rollout(servers.is_complete(), "RollupRollout", servers.ready, servers.wanted, "rollup server")
        }
    };
    vec![("SchemaReady", schema), ("CacheReady", cache), ("RollupReady", rollup)]
}

fn sum(groups: &[Rollout]) -> (i32, i32) {
    groups.iter().fold((0, 0), |(ready, wanted), group| (ready + group.ready, wanted + group.wanted))
}

fn rollout(is_complete: bool, waits: &'static str, ready: i32, wanted: i32, what: &str) -> State {
    let plural = if wanted == 1 { "" } else { "s" };
    let message = format!("{ready} of {wanted} {what}{plural} ready and as asked for");
    if is_complete { State::yes("Available", message) } else { State::no(waits, message) }
}

fn sidecars(sidecars: &[Sidecar]) -> State {
    let count = |kind| sidecars.iter().filter(|sidecar| **sidecar == kind).count();
    match (count(Sidecar::Missing), count(Sidecar::Old)) {
        _ if sidecars.is_empty() => State::yes("NoPods", "no pod asks for this namespace's sidecar"),
        (0, 0) => State::yes("Current", "every pod that asks for a sidecar has the current one"),
        (0, old) => {
            State::no("SidecarsOld", format!("{old} of {} pods have an old sidecar; restart them", sidecars.len()))
        }
        (missing, 0) => {
            State::no("SidecarsMissing", format!("{missing} of {} pods have no sidecar; restart them", sidecars.len()))
        }
        (missing, old) => State::no(
            "SidecarsMissing",
            format!("{missing} of {} pods have no sidecar and {old} an old one; restart them", sidecars.len()),
        ),
    }
}

fn images(updates: &[String]) -> State {
    if updates.is_empty() {
        return State::yes("Current", "the images are those that are asked for");
    }
    let follow = crate::names::FOLLOW_RELEASE;
    State::no(
        "UpdateAvailable",
        format!("this release would run {}; annotate with {follow}=true to have it so", updates.join(", ")),
    )
}

fn condition(
    kind: &'static str,
    state: State,
    generation: Option<i64>,
    before: &[Condition],
    now: Timestamp,
) -> Condition {
    let status = match state.is_true {
        Some(true) => "True",
        Some(false) => "False",
        None => "Unknown",
    };
    let unchanged = before.iter().find(|known| known.type_ == kind && known.status == status);
    // An API server takes a time to the second.
    let now = || Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: state.reason.to_owned(),
        message: state.message,
        observed_generation: generation,
        last_transition_time: unchanged.map_or_else(now, |known| known.last_transition_time.clone()),
    }
}

#[cfg(test)]
mod tests;
