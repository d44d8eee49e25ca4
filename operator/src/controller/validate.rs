//! Whether a CounterNamespace may be provisioned as it is: what the schema and its rules cannot see, as it lies in other
//! objects. Pure.

use std::sync::Arc;

use tallyman_crds::{CounterClass, CounterNamespace, CounterType};

use super::dereference::{ClassFound, Dereferenced};
use crate::build::was_provisioned;
use crate::capacity::{self, Plan};
use crate::cassandra::Access;

/// Why a CounterNamespace is not provisioned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// One word, for conditions and events.
    pub reason: &'static str,
    /// For a person: what is wrong, and what to do.
    pub message: String,
    /// Whether it may be mended without a change of this resource, such as by a class that appears.
    pub waiting_helps: bool,
}

/// What a CounterNamespace is provisioned from.
#[derive(Debug)]
pub struct Valid {
    /// Its class.
    pub class: Arc<CounterClass>,
    /// How the class's cluster is reached.
    pub access: Access,
    /// Its settings.
    pub plan: Plan,
    /// The other namespaces of its dataset, oldest first, but for those that are refused.
    pub siblings: Vec<CounterNamespace>,
}

/// Judges it.
///
/// # Errors
/// Why it is not provisioned.
pub fn validate(namespace: &CounterNamespace, found: &Dereferenced) -> Result<Valid, Refused> {
    let (class, access) = class(found)?;
    let oldest = if namespace.spec.counter_type == CounterType::BestEffort {
        None
    } else {
        dataset_is_free(namespace, &found.siblings)?
    };
    let plan = capacity::plan_in_dataset(&namespace.spec, oldest.map(|oldest| &oldest.spec));
    if let Some(oldest) = oldest {
        agrees(namespace, &plan, oldest)?;
    }
    let siblings =
        found.siblings.iter().filter(|sibling| is_beside(namespace, sibling)).map(|sibling| (**sibling).clone());
    Ok(Valid { class, access, plan, siblings: siblings.collect() })
}

/// Its class and how that is reached.
///
/// # Errors
/// What of it is waited for.
pub fn class(found: &Dereferenced) -> Result<(Arc<CounterClass>, Access), Refused> {
    let waits = |reason, message| Refused { reason, message, waiting_helps: true };
    match &found.class {
        ClassFound::Usable { class, access } => Ok((class.clone(), access.clone())),
        ClassFound::Missing(name) => {
            Err(waits("ClassMissing", format!("there is no CounterClass {name}; it is waited for")))
        }
        ClassFound::NoDefault => Err(waits(
            "ClassMissing",
            "spec.className is absent and no CounterClass is marked as default; one is waited for".to_owned(),
        )),
        ClassFound::SeveralDefaults(names) => Err(waits(
            "ClassAmbiguous",
            format!("spec.className is absent and several CounterClasses are marked as default: {}", names.join(", ")),
        )),
        ClassFound::Unusable(message) => Err(waits("ClassNotReady", message.clone())),
    }
}

/// Who came first: the dataset is theirs.
fn age(namespace: &CounterNamespace) -> (Option<jiff::Timestamp>, Option<&str>, Option<&str>) {
    let metadata = &namespace.metadata;
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
    (created, metadata.namespace.as_deref(), metadata.name.as_deref())
}

fn is_beside(namespace: &CounterNamespace, sibling: &CounterNamespace) -> bool {
    sibling.metadata.namespace == namespace.metadata.namespace
}

/// The oldest other namespace of the dataset that is older than this one, in the same Kubernetes namespace.
fn dataset_is_free<'a>(
    namespace: &CounterNamespace,
    siblings: &'a [Arc<CounterNamespace>],
) -> Result<Option<&'a CounterNamespace>, Refused> {
    let older = || siblings.iter().filter(|sibling| age(sibling) < age(namespace));
    // One that never got it has no right to it by its age: whose it is, Cassandra's own record says.
    if let Some(elsewhere) = older().find(|sibling| !is_beside(namespace, sibling) && was_provisioned(sibling)) {
        return Err(Refused {
            reason: "DatasetTaken",
            message: format!(
                "spec.dataset: {:?} belongs to Kubernetes namespace {}; a dataset belongs to one, so name another",
                namespace.dataset_or_default(),
                elsewhere.metadata.namespace.as_deref().unwrap_or_default(),
            ),
            waiting_helps: false,
        });
    }
    Ok(older().min_by(|one, other| age(one).cmp(&age(other))).map(|oldest| &**oldest))
}

fn agrees(namespace: &CounterNamespace, plan: &Plan, oldest: &CounterNamespace) -> Result<(), Refused> {
    let theirs = capacity::plan_in_dataset(&oldest.spec, None);
    for ((field, mine), (_, theirs)) in of_dataset(namespace, plan).into_iter().zip(of_dataset(oldest, &theirs)) {
        if mine != theirs {
            let other = oldest.metadata.name.as_deref().unwrap_or_default();
            return Err(Refused {
                reason: "DatasetDisagreement",
                message: format!(
                    "spec.eventStore.{field}: {mine} here and {theirs} in CounterNamespace {other}, which shares dataset {:?} and is older; \
                     slices are the dataset's, so its namespaces must agree",
                    namespace.dataset_or_default()
                ),
                waiting_helps: false,
            });
        }
    }
    Ok(())
}

/// What is the dataset's, by field of `spec.eventStore`.
fn of_dataset(namespace: &CounterNamespace, plan: &Plan) -> [(&'static str, String); 8] {
    let events = namespace.spec.event_store_or_default();
    let planned = |show: fn(&capacity::Events) -> String| plan.events.as_ref().map(show).unwrap_or_default();
    [
        ("acceptLimit", events.accept_limit.to_string()),
        ("writeTimeout", events.write_timeout.to_string()),
        ("maxClockSkew", events.max_clock_skew.to_string()),
        ("bucketsPerId", planned(|events| events.buckets_per_id.value.to_string())),
        ("bucketWidth", planned(|events| events.bucket_width.value.to_string())),
        ("sliceWidth", planned(|events| events.slice_width.value.to_string())),
        ("retention.closeAfter", events.retention.close_after.to_string()),
        ("retention.deleteAfter", events.retention.delete_after.to_string()),
    ]
}

#[cfg(test)]
mod tests;
