//! What is wanted of Cassandra for the dataset of a CounterNamespace.

use tallyman_counter::backend::cassandra::schema::datasets::{Disagreement, Requested, requested};
use tallyman_counter::backend::cassandra::schema::plan::{Replication, Role, Wanted};
use tallyman_counter::configuration::NamespaceConfiguration;
use tallyman_counter::retention::Ahead;
use tallyman_crds::CounterNamespace;

use super::configuration::Source;
use super::context::Context;
use super::{Error, age, asks_for, dataset_of, is_durable, was_provisioned};
use crate::capacity::plan_in_dataset;
use crate::names;

pub fn build(context: &Context<'_>, configuration: &NamespaceConfiguration) -> Result<Option<Wanted>, Error> {
    let Some(dataset) = dataset(context, configuration)? else { return Ok(None) };
    let replication: Replication = context
        .class
        .cassandra
        .replication
        .iter()
        // At least 1, by the schema.
        .map(|(datacenter, factor)| (datacenter.clone(), factor.unsigned_abs()))
        .collect();
    let password = context.secrets.password.clone();
    let role = password.map(|password| Role { name: names::role(&context.dataset), password });
    Ok(Some(Wanted {
        dataset,
        replication,
        owner: Some(context.kubernetes_namespace.to_owned()),
        role,
        ahead: Ahead::USUAL,
        must_exist: misses_its_dataset(context),
    }))
}

/// Whether somebody had the dataset before, and nobody asks for an empty one in its place.
fn misses_its_dataset(context: &Context<'_>) -> bool {
    let members = || context.siblings.iter().chain([context.namespace]).filter(|member| is_durable(member));
    members().any(was_provisioned) && !members().any(|member| asks_for(member, names::RECREATE_DATASET))
}

/// What all CounterNamespaces of the dataset that agree ask for. The older one is right: a younger one that disagrees with it is
/// left out, and refused itself.
fn dataset(context: &Context<'_>, configuration: &NamespaceConfiguration) -> Result<Option<Requested>, Error> {
    if !context.is_durable() {
        return Ok(None);
    }
    let mut members: Vec<&CounterNamespace> =
        context.siblings.iter().filter(|sibling| is_durable(sibling)).chain([context.namespace]).collect();
    members.sort_by_key(|member| age(member));
    let mut agreed: Vec<NamespaceConfiguration> = Vec::new();
    for member in members {
        let is_own = std::ptr::eq(member, context.namespace);
        let candidate = if is_own { Some(configuration.clone()) } else { of_sibling(context, member) };
        let Some(candidate) = candidate else { continue };
        agreed.push(candidate);
        if let Err(disagreement) = as_one(&agreed) {
            if is_own {
                return Err(disagreement.into());
            }
            agreed.pop();
        }
    }
    Ok(as_one(&agreed)?)
}

fn as_one(configurations: &[NamespaceConfiguration]) -> Result<Option<Requested>, Disagreement> {
    let mut requests = requested(configurations);
    match requests.disagreements.pop() {
        Some(disagreement) => Err(disagreement),
        None => Ok(requests.datasets.pop()),
    }
}

/// A sibling whose configuration would be refused asks for nothing; its own build says why.
fn of_sibling(context: &Context<'_>, sibling: &CounterNamespace) -> Option<NamespaceConfiguration> {
    let others: Vec<CounterNamespace> = context
        .siblings
        .iter()
        .filter(|other| !std::ptr::eq(*other, sibling))
        .chain([context.namespace])
        .cloned()
        .collect();
    let oldest = dataset_of(sibling, &others);
    let plan = plan_in_dataset(&sibling.spec, oldest.map(|oldest| &oldest.spec));
    let source = Source {
        namespace: sibling,
        plan: &plan,
        class_name: context.class_name,
        class: context.class,
        kubernetes_namespace: context.kubernetes_namespace,
        credentials: context.secrets.password.is_some(),
    };
    source.configuration().ok()
}
