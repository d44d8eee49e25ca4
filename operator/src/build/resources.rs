//! CPU and memory of a container: what the spec says, else the class, else the plan.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tallyman_crds::resources::Resources;

use super::context::Context;
use super::quantity;
use crate::capacity::{Choice, Origin, Rollup};

pub fn of_rollup(context: &Context<'_>, plan: &Rollup) -> ResourceRequirements {
    let class = context.class.defaults.as_ref().and_then(|defaults| defaults.rollup_resources.as_ref());
    chosen(&plan.resources, class)
}

pub fn of_cache(context: &Context<'_>) -> ResourceRequirements {
    let class = context.class.defaults.as_ref().and_then(|defaults| defaults.cache_resources.as_ref());
    chosen(&context.plan.cache.resources, class)
}

fn chosen(plan: &Choice<Resources>, class: Option<&Resources>) -> ResourceRequirements {
    let resources = match (plan.origin, class) {
        (Origin::Spec, _) | (_, None) => &plan.value,
        (_, Some(class)) => class,
    };
    requirements(resources)
}

/// As Kubernetes has it, amounts in their canonical form: an API server would otherwise change them, and they would never be as built.
pub fn requirements(resources: &Resources) -> ResourceRequirements {
    let ResourceRequirements { requests, limits, claims } = resources.into();
    let canonical = |amounts: Option<BTreeMap<String, Quantity>>| {
        amounts.map(|amounts| {
            amounts.into_iter().map(|(name, amount)| (name, Quantity(quantity::canonical(&amount.0)))).collect()
        })
    };
    ResourceRequirements { requests: canonical(requests), limits: canonical(limits), claims }
}

/// What a container may have of memory, in bytes, where it is said.
pub fn memory_limit_bytes(resources: &ResourceRequirements) -> Option<u64> {
    let Quantity(limit) = resources.limits.as_ref()?.get("memory")?;
    quantity::whole(limit)
}
