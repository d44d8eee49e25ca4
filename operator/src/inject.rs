//! A sidecar for a pod: whether it asks for one, whether it can have one, and the change that gives it one.
//!
//! Pure. The webhook, `tallyman inject` and the controller, which tells of pods without a sidecar or with an old one, all
//! ask here, so that they cannot differ. The pod stays the JSON it came as: fields that this release does not know are left alone.
//!
//! - [`request`]: what a pod asks for by label and annotations;
//! - [`exclusion`]: why a pod that asks for a sidecar can have none;
//! - [`sidecar`]: the container and its volumes;
//! - `patch`: the change, as JSON patch.

pub mod exclusion;
mod patch;
pub mod request;
pub mod sidecar;
#[cfg(test)]
mod tests;

use json_patch::Patch;
use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

pub use self::exclusion::SkipReason;
pub use self::request::Refusal;
use self::request::{Asked, Request};
use self::sidecar::Sidecar;
use crate::names;

/// What sidecars get that the pod's annotations do not say.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The image. Its tag decides when it is pulled, as Kubernetes has it: `latest` always, any other if it is not there.
    pub image: String,
    /// CPU and memory.
    pub resources: ResourceRequirements,
}

impl Settings {
    /// The sidecar image of this release.
    pub const IMAGE_OF_RELEASE: &str = concat!("ghcr.io/tallyman/tallyman-sidecar:", env!("CARGO_PKG_VERSION"));

    /// This image, and what a sidecar needs that serves some thousands of requests a second. There is no CPU limit: one
    /// would make every request of the application wait that comes when it is used up.
    #[must_use]
    pub fn new(image: impl Into<String>) -> Self {
        let amounts = |amounts: &[(&str, &str)]| {
            let amounts = amounts.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())));
            Some(amounts.collect())
        };
        let resources = ResourceRequirements {
            claims: None,
            limits: amounts(&[("memory", "256Mi")]),
            requests: amounts(&[("cpu", "100m"), ("memory", "64Mi")]),
        };
        Self { image: image.into(), resources }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(Self::IMAGE_OF_RELEASE)
    }
}

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It gets a sidecar, or another one in place of an old one.
    Injected(Box<Injected>),
    /// It has the sidecar that it would get.
    AlreadyCurrent,
    /// It asks for none.
    NotAsked,
    /// It asks for a sidecar and cannot have one; it runs without.
    Skipped(SkipReason),
    /// What it asks for makes no sense; it is not to run until that is mended.
    Refused(Refusal),
}

/// A pod and its sidecar.
#[derive(Debug, Clone, PartialEq)]
pub struct Injected {
    /// The pod, or pod template, with the sidecar.
    pub pod: Value,
    /// What makes it of the one that was given.
    pub patch: Patch,
    /// What its author should hear of, though it stops nothing.
    pub warnings: Vec<String>,
}

/// How a pod that is there stands to what it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It asks for no sidecar.
    NotAsked,
    /// It has the sidecar that it would get now.
    Current,
    /// It has a sidecar, and a pod made now would get another one.
    Old {
        /// The image that was injected; that of the container if nobody wrote it down.
        image: String,
    },
    /// It asks for a sidecar and has none.
    Missing {
        /// Why a new one would have none either; `None`: a new one would have one.
        reason: Option<String>,
    },
}

/// Metadata and spec of a pod or of a pod template, as far as they are read.
#[derive(Deserialize)]
struct Template {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
}

/// Gives a sidecar to `pod`, the JSON of a pod or of a pod template, if it asks for one.
///
/// Injecting into what came of it finds it current: other webhooks may make the API server ask twice.
#[must_use]
pub fn inject(pod: &Value, settings: &Settings) -> Outcome {
    if !pod.is_object() {
        return Outcome::Refused(Refusal::NotAPod { message: "it is not an object".to_owned() });
    }
    let template = match Template::deserialize(pod) {
        Ok(template) => template,
        Err(error) => return Outcome::Refused(Refusal::NotAPod { message: error.to_string() }),
    };
    let request = match request::read(&template.metadata) {
        Ok(Asked::Nothing) => return Outcome::NotAsked,
        Ok(Asked::Sidecar(request)) => request,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    if let Some(reason) = exclusion::reason(&template.metadata, &template.spec) {
        return Outcome::Skipped(reason);
    }
    let sidecar = match Sidecar::new(&request, settings) {
        Ok(sidecar) => sidecar,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    if stamp(&template.metadata) == Some(sidecar.stamp()) && image(&template.spec).is_some() {
        return Outcome::AlreadyCurrent;
    }
    let patch = patch::of(pod, &sidecar);
    let mut injected = pod.clone();
    match json_patch::patch(&mut injected, &patch) {
        Ok(()) => Outcome::Injected(Box::new(Injected { pod: injected, patch, warnings: request.warnings })),
        // Its lists were read as lists before, so that nothing is in the way; better a refusal than a panic.
        Err(error) => Outcome::Refused(Refusal::NotAPod { message: error.to_string() }),
    }
}

/// How `pod` stands to what it asks for.
#[must_use]
pub fn state_of(pod: &Pod, settings: &Settings) -> State {
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let request = match request::read(&pod.metadata) {
        Ok(Asked::Nothing) => return State::NotAsked,
        Ok(Asked::Sidecar(request)) => Ok(request),
        Err(refusal) => Err(refusal),
    };
    let wanted = request.and_then(|request| Sidecar::new(&request, settings));
    let excluded = exclusion::reason(&pod.metadata, spec);
    match (image(spec), wanted) {
        // Written by hand, and not ours to judge.
        (Some(_), _) if excluded == Some(SkipReason::OwnSidecar) => State::Current,
        (None, Err(refusal)) => State::Missing { reason: Some(refusal.to_string()) },
        (None, Ok(_)) => State::Missing { reason: excluded.map(|reason| reason.to_string()) },
        (Some(_), Ok(sidecar)) if stamp(&pod.metadata) == Some(sidecar.stamp()) => State::Current,
        (Some(image), _) => {
            let stamped = stamp(&pod.metadata).and_then(|stamp| stamp.split_once(' '));
            State::Old { image: stamped.map_or(image, |(image, _)| image).to_owned() }
        }
    }
}

/// The CounterNamespaces that `pod` asks its sidecar to serve, in order; none if it asks for no sidecar, or wrongly.
#[must_use]
pub fn counter_namespaces(metadata: &ObjectMeta) -> Vec<String> {
    match request::read(metadata) {
        Ok(Asked::Sidecar(Request { counter_namespaces, .. })) => counter_namespaces.into_iter().collect(),
        Ok(Asked::Nothing) | Err(_) => Vec::new(),
    }
}

/// What was injected, as it was written down.
fn stamp(metadata: &ObjectMeta) -> Option<&str> {
    metadata.annotations.as_ref()?.get(names::INJECTED).map(String::as_str)
}

/// The image of the sidecar that a pod has.
fn image(spec: &PodSpec) -> Option<&str> {
    let containers = spec.init_containers.iter().flatten();
    let mut sidecars = containers.filter(|container| container.name == names::SIDECAR_CONTAINER);
    sidecars.next().map(|container| container.image.as_deref().unwrap_or_default())
}
