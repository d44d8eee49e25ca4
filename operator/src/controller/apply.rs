//! Makes the cluster's objects what was built: compared first, so that nothing unchanged is written; by server-side apply, so that
//! what others set beside it stays; and pruned of what is no longer built.
//!
//! What was found as it should be is remembered with its `resourceVersion`: as long as the watch shows the same one, it is not even
//! read again. Secrets are not watched (that would need the right to read all of them), so that they are read again after a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};
use serde_json::Value;
use tallyman_crds::CounterNamespace;
use tokio::time::Instant;

use super::Context;
use super::error::Error;
use super::owned::{Kind, Owned, to_value};
use super::validate::Refused;
use crate::build::{Object, asks_for};
use crate::compare;
use crate::names;

/// How long a Secret that was found right is taken for it.
const SECRET_TRUSTED: Duration = Duration::from_secs(15);

/// Whether anything may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It may.
    Change,
    /// It is only looked at what would be.
    Look,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Applied {
    /// What was not there and was created.
    pub created: Vec<String>,
    /// What was not as it had been applied and was repaired.
    pub repaired: Vec<String>,
    /// What would have been changed, were it not only looked at.
    pub held_back: Vec<String>,
    /// What runs under an older release's pod template.
    pub kept_templates: Vec<String>,
    /// How far each StatefulSet is, by name.
    pub rollouts: HashMap<String, Rollout>,
    /// What cannot be applied as it is.
    pub refused: Option<Refused>,
}

impl Applied {
    /// The first that is refused is told.
    fn refuse(&mut self, refused: Refused) {
        self.refused.get_or_insert(refused);
    }
}

/// How far a StatefulSet is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Pods that are asked for.
    pub wanted: i32,
    /// Pods that there are.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods of the newest template.
    pub updated: i32,
    /// Whether all this speaks of the newest settings.
    pub is_observed: bool,
}

impl Rollout {
    /// Whether all pods are there, ready and as asked for.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_observed && self.replicas == self.wanted && self.ready >= self.wanted && self.updated >= self.wanted
    }

    fn of(live: &Value) -> Self {
        let number = |path: &str| live.pointer(path).and_then(Value::as_i64).unwrap_or(0);
        let count = |path: &str| i32::try_from(number(path)).unwrap_or(i32::MAX);
        let is_whole = live.pointer("/status/currentRevision") == live.pointer("/status/updateRevision");
        let ready = count("/status/readyReplicas");
        Self {
            wanted: count("/spec/replicas"),
            replicas: count("/status/replicas"),
            ready,
            // Once every pod is of the newest revision, the controller counts them as current and none as updated.
            updated: if is_whole { count("/status/replicas") } else { count("/status/updatedReplicas") },
            is_observed: number("/status/observedGeneration") >= number("/metadata/generation")
                && live.get("status").is_some(),
        }
    }
}

/// What was found as it should be.
struct Seen {
    resource_version: String,
    digest: String,
    at: Instant,
    rollout: Option<Rollout>,
    kept_template: bool,
}

/// What was found as it should be, over all namespaces.
#[derive(Default)]
pub struct Memory {
    seen: Mutex<HashMap<String, Seen>>,
}

impl Memory {
    /// Forgets a namespace's objects.
    pub fn forget(&self, kubernetes_namespace: &str, namespace: &str) {
        let prefix = key_prefix(kubernetes_namespace, namespace);
        self.lock().retain(|key, _| !key.starts_with(&prefix));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Seen>> {
        // Nothing that holds it panics half-way.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_prefix(kubernetes_namespace: &str, namespace: &str) -> String {
    format!("{kubernetes_namespace}/{namespace}:")
}

/// One object, as it is to be.
struct Desired {
    kind: Kind,
    name: String,
    value: Value,
    digest: String,
}

impl Desired {
    fn of(object: &Object) -> Result<Self, serde_json::Error> {
        let mut value = to_value(object)?;
        let digest = format!("{:016x}", xxhash_rust::xxh3::xxh3_64(value.to_string().as_bytes()));
        value["metadata"]["annotations"][names::APPLIED] = Value::String(digest.clone());
        let kind = Kind::of(object);
        if kind == Kind::StatefulSet {
            value["metadata"]["annotations"][names::RELEASE] = Value::String(tallyman_daemon::VERSION.to_owned());
        }
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(Self { kind, name, value, digest })
    }

    fn shown(&self) -> String {
        format!("{} {}", self.kind.name(), self.name)
    }
}

/// Applies `objects`, in their order, and prunes. Those that are held are left as they are, there or not.
///
/// # Errors
/// When the Kubernetes API does not answer, or this operator does not lead any more.
pub async fn apply(
    context: &Context,
    owned: &Owned,
    namespace: &CounterNamespace,
    objects: &[Object],
    is_held: impl Fn(&Object) -> bool,
    mode: Mode,
) -> Result<Applied, Error> {
    let name = namespace.name_any();
    let kubernetes_namespace = namespace.namespace().unwrap_or_default();
    let mut applied = Applied::default();
    let mut built = Vec::new();
    for object in objects {
        let desired =
            Desired::of(object).map_err(|error| Error::Build { name: name.clone(), reason: error.to_string() })?;
        built.push((desired.kind, desired.name.clone()));
        if is_held(object) {
            continue;
        }
        // One that is refused keeps no other from being repaired.
        one(context, owned, namespace, desired, mode, &mut applied).await?;
    }
    if applied.refused.is_some() {
        return Ok(applied);
    }
    for (kind, name, uid) in owned.of(&kubernetes_namespace, namespace.uid().as_deref().unwrap_or_default()) {
        if built.contains(&(kind, name.clone())) {
            continue;
        }
        let shown = format!("{} {name}", kind.name());
        if mode == Mode::Look {
            applied.held_back.push(shown);
            continue;
        }
        delete(context, kind, &kubernetes_namespace, &name, &uid).await?;
        tracing::info!(namespace = %kubernetes_namespace, object = %shown, "removed what is no longer asked for");
    }
    Ok(applied)
}

/// Deletes an object of this uid.
///
/// # Errors
/// When the Kubernetes API does not, or this operator does not lead any more.
pub async fn delete(
    context: &Context,
    kind: Kind,
    kubernetes_namespace: &str,
    name: &str,
    uid: &str,
) -> Result<(), Error> {
    let doing = format!("delete {} {kubernetes_namespace}/{name}", kind.name());
    context.must_lead(&doing)?;
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), kubernetes_namespace, &kind.resource());
    let this_one = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let answer = api.delete(name, &DeleteParams::background().preconditions(this_one)).await;
    context.metrics.wrote(kind.name(), answer.is_ok());
    match answer {
        Ok(_) => Ok(()),
        // It is gone, or another has come in its place, which is not ours to delete.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(Error::doing(doing)(error)),
    }
}

async fn one(
    context: &Context,
    owned: &Owned,
    namespace: &CounterNamespace,
    mut desired: Desired,
    mode: Mode,
    applied: &mut Applied,
) -> Result<(), Error> {
    let kubernetes_namespace = namespace.namespace().unwrap_or_default();
    let shown = desired.shown();
    let key = format!("{}{shown}", key_prefix(&kubernetes_namespace, &namespace.name_any()));
    if let Some((rollout, kept_template)) = remembered(context, owned, &kubernetes_namespace, &desired, &key)
        && !(kept_template && asks_for(namespace, names::FOLLOW_RELEASE))
    {
        applied.rollouts.extend(rollout.map(|rollout| (desired.name, rollout)));
        applied.kept_templates.extend(kept_template.then_some(shown));
        return Ok(());
    }
    let resource: ApiResource = desired.kind.resource();
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &kubernetes_namespace, &resource);
    let live = api.get_opt(&desired.name).await.map_err(Error::doing(format!("read {shown}")))?;
    let mut kept_template = false;
    if let Some(live) = &live {
        if !is_owned(live, namespace) {
            applied.refuse(Refused {
                reason: "Conflict",
                message: format!("{shown} exists and does not belong to this CounterNamespace; rename or delete it"),
                waiting_helps: true,
            });
            return Ok(());
        }
        if live.metadata.deletion_timestamp.is_some() {
            applied.refuse(Refused {
                reason: "BeingDeleted",
                message: format!("{shown} is being deleted; its end is waited for"),
                waiting_helps: true,
            });
            return Ok(());
        }
        kept_template = keeps_template(&mut desired, live, namespace);
    }
    let answer = match live {
        Some(live) if is_as_desired(&desired, &live) => live,
        live => {
            if mode == Mode::Look {
                applied.held_back.push(shown);
                applied
                    .rollouts
                    .extend(live.and_then(|live| rollout(&desired, &live)).map(|rollout| (desired.name, rollout)));
                return Ok(());
            }
            if live.is_some() && waits_for_other_copies(&desired, namespace, &applied.rollouts) {
                applied
                    .rollouts
                    .extend(live.and_then(|live| rollout(&desired, &live)).map(|rollout| (desired.name, rollout)));
                return Ok(());
            }
            let mut answer = write(context, &api, &desired).await;
            if let (Err(error), Some(live)) = (&answer, &live)
                && error.refusal().is_some_and(|status| status.code == 422)
                && may_be_made_anew(&desired, live)
            {
                let uid = live.uid().unwrap_or_default();
                delete(context, desired.kind, &kubernetes_namespace, &desired.name, &uid).await?;
                answer = write(context, &api, &desired).await;
            }
            let answer = match answer {
                Err(error) if error.refusal().is_some() => {
                    let message = error.refusal().map(|status| status.message.clone()).unwrap_or_default();
                    applied.refuse(Refused {
                        reason: "ApplyRefused",
                        message: format!("the API server refuses {shown}: {message}"),
                        waiting_helps: true,
                    });
                    return Ok(());
                }
                answer => answer?,
            };
            let was = live.as_ref().and_then(|live| live.annotations().get(names::APPLIED));
            match (&live, was) {
                (None, _) => applied.created.push(shown.clone()),
                (Some(_), Some(was)) if *was == desired.digest => applied.repaired.push(shown.clone()),
                (Some(_), _) => {}
            }
            answer
        }
    };
    let rollout = rollout(&desired, &answer);
    let seen = Seen {
        resource_version: answer.resource_version().unwrap_or_default(),
        digest: desired.digest,
        at: Instant::now(),
        rollout,
        kept_template,
    };
    context.memory.lock().insert(key, seen);
    applied.rollouts.extend(rollout.map(|rollout| (desired.name, rollout)));
    applied.kept_templates.extend(kept_template.then_some(shown));
    Ok(())
}

async fn write(context: &Context, api: &Api<DynamicObject>, desired: &Desired) -> Result<DynamicObject, Error> {
    let doing = format!("apply {}", desired.shown());
    context.must_lead(&doing)?;
    let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
    let answer = api.patch(&desired.name, &parameters, &Patch::Apply(&desired.value)).await;
    context.metrics.wrote(desired.kind.name(), answer.is_ok());
    answer.map_err(Error::doing(doing))
}

/// Whether an object that cannot be changed back may be deleted and made anew: just this was applied before, so that what is in the
/// way is somebody's change, such as a Service's port (another number is another entry to the API server, and two of one name are
/// refused) or `immutable: true`; and no pods go with it.
fn may_be_made_anew(desired: &Desired, live: &DynamicObject) -> bool {
    desired.kind != Kind::StatefulSet && live.annotations().get(names::APPLIED) == Some(&desired.digest)
}

/// What is known of an object that was found right and has not changed since.
fn remembered(
    context: &Context,
    owned: &Owned,
    kubernetes_namespace: &str,
    desired: &Desired,
    key: &str,
) -> Option<(Option<Rollout>, bool)> {
    let memory = context.memory.lock();
    let seen = memory.get(key).filter(|seen| seen.digest == desired.digest)?;
    let is_current = match desired.kind {
        Kind::Secret => seen.at.elapsed() < SECRET_TRUSTED,
        kind => {
            owned.resource_version(kind, kubernetes_namespace, &desired.name).as_ref() == Some(&seen.resource_version)
        }
    };
    is_current.then_some((seen.rollout, seen.kept_template))
}

fn rollout(desired: &Desired, live: &DynamicObject) -> Option<Rollout> {
    (desired.kind == Kind::StatefulSet)
        .then(|| serde_json::to_value(live).map(|live| Rollout::of(&live)).unwrap_or_default())
}

fn is_owned(live: &DynamicObject, namespace: &CounterNamespace) -> bool {
    live.owner_references().iter().any(|owner| Some(&owner.uid) == namespace.metadata.uid.as_ref())
}

/// A pod template that another release wrote stays, unless what was asked for has changed since: an upgrade of the operator
/// restarts no pod. Whether that is so here.
fn keeps_template(desired: &mut Desired, live: &DynamicObject, namespace: &CounterNamespace) -> bool {
    if desired.kind != Kind::StatefulSet || asks_for(namespace, names::FOLLOW_RELEASE) {
        return false;
    }
    let annotation = |name: &str| live.annotations().get(name).map(String::as_str);
    let is_asked_the_same = annotation(names::ASKED) == desired.value["metadata"]["annotations"][names::ASKED].as_str();
    let Some(release) = annotation(names::RELEASE).filter(|release| *release != tallyman_daemon::VERSION) else {
        return false;
    };
    if !is_asked_the_same {
        return false;
    }
    desired.value["metadata"]["annotations"][names::RELEASE] = Value::String(release.to_owned());
    let differs = !compare::differences(&desired.value["spec"]["template"], &live.data["spec"]["template"]).is_empty();
    desired.value["spec"]["template"] = live.data["spec"]["template"].clone();
    differs
}

/// Copies of a cache are changed one after the other: all at once would lose what only caches hold. Those of lower numbers come first.
fn waits_for_other_copies(
    desired: &Desired,
    namespace: &CounterNamespace,
    rollouts: &HashMap<String, Rollout>,
) -> bool {
    let copy = format!("{}-", names::cache(&namespace.name_any()));
    let mut earlier = rollouts.iter().filter(|(name, _)| name.starts_with(&copy));
    desired.kind == Kind::StatefulSet
        && desired.name.starts_with(&copy)
        && earlier.any(|(_, rollout)| !rollout.is_complete())
}

fn is_as_desired(desired: &Desired, live: &DynamicObject) -> bool {
    live.annotations().get(names::APPLIED) == Some(&desired.digest)
        && serde_json::to_value(live).is_ok_and(|live| compare::differences(&desired.value, &live).is_empty())
}
