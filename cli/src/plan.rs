//! `tallyman plan`: what CounterNamespaces of a file would get, before anything is done.
//!
//! The parts: [`manifests`] reads the files; [`planned`] makes of a CounterNamespace its settings, objects and schema, with the
//! operator's own functions, pure; [`cluster`] and [`cassandra`] look at what runs, if asked, and change nothing; [`difference`]
//! compares, pure; [`report`] prints.

mod arguments;
mod cassandra;
mod cluster;
mod difference;
#[cfg(test)]
mod documentation;
mod manifests;
mod planned;
mod report;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use tallyman_counter::backend::cassandra::schema::plan::{Found, plan as schema_plan};
use tallyman_counter::clock::{Clock, SystemClock};
use tallyman_crds::CounterNamespace;

pub use self::arguments::Plan as Arguments;
use self::cluster::Live;
use self::manifests::Manifests;
use self::planned::{Planned, Surroundings};
use self::report::{Report, Schema};
use crate::failure::Failure;
use crate::output::Format;

/// The exit code of `--exit-code` where something would change.
const DIFFERENT: u8 = 2;

/// Plans every CounterNamespace of the files. One that cannot be planned holds up no other.
pub async fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, Failure> {
    let manifests = Manifests::read(&arguments.filenames, arguments.class_file.as_deref())?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let cluster = match arguments.asks_a_cluster() {
        true => Some(cluster::connect(arguments).await?),
        false => None,
    };
    let mut failures = Vec::new();
    let mut datasets = BTreeSet::new();
    let mut different = false;
    for namespace in &manifests.namespaces {
        let one = async {
            let default = cluster.as_ref().map(|cluster| cluster.default_namespace.as_str());
            let default = arguments.namespace.as_deref().or(default).unwrap_or("default");
            let kubernetes_namespace = namespace.metadata.namespace.as_deref().unwrap_or(default);
            let live = match &cluster {
                Some(cluster) => Some(cluster.look(kubernetes_namespace, namespace).await?),
                None => None,
            };
            let siblings = siblings(namespace, kubernetes_namespace, default, &manifests, live.as_ref());
            let planned = Planned::new(
                namespace,
                &Surroundings { kubernetes_namespace, siblings, classes: &manifests.classes, live: live.as_ref() },
            )?;
            let objects = live.as_ref().map(|live| difference::between(&planned.built.objects, &live.objects));
            // All namespaces of a dataset want the same of it.
            let wanted = planned.built.schema.clone();
            let wanted = wanted
                .filter(|wanted| datasets.insert((wanted.dataset.cluster.clone(), wanted.dataset.keyspace.clone())));
            let schema = match wanted {
                None => None,
                Some(wanted) if arguments.cassandra => Some(cassandra::look(wanted, arguments, &clock).await?),
                Some(wanted) => {
                    let plan = schema_plan(&wanted, &Found::nothing(), clock.now());
                    let plan = plan.map_err(|refusal| Failure::local(refusal.to_string()))?;
                    Some(Schema { wanted, plan, is_compared: false })
                }
            };
            Report { planned: &planned, differences: objects.as_deref(), schema: schema.as_ref() }.print(format)?;
            Ok::<_, Failure>(
                objects.is_some_and(|objects| !objects.is_empty())
                    || schema.is_some_and(|schema| schema.is_compared && !schema.plan.is_empty()),
            )
        };
        match one.await {
            Ok(differs) => different |= differs,
            Err(failure) => failures.push(failure),
        }
    }
    // The last one is printed by who called, with the exit code.
    let Some(last) = failures.pop() else {
        return Ok(if arguments.exit_code && different { DIFFERENT.into() } else { ExitCode::SUCCESS });
    };
    for failure in &failures {
        failure.print(format);
    }
    Err(last)
}

/// The others of its dataset: those of the files, and those that run and are in no file.
fn siblings(
    namespace: &CounterNamespace,
    kubernetes_namespace: &str,
    default: &str,
    manifests: &Manifests,
    live: Option<&Live>,
) -> Vec<CounterNamespace> {
    let dataset = namespace.dataset_or_default();
    let is_sibling = |other: &&CounterNamespace| {
        other.metadata.name != namespace.metadata.name
            && other.metadata.namespace.as_deref().unwrap_or(default) == kubernetes_namespace
            && other.dataset_or_default() == dataset
    };
    let running = live.map_or(&[][..], |live| &live.namespaces);
    let mut siblings: Vec<CounterNamespace> = manifests.namespaces.iter().filter(is_sibling).cloned().collect();
    for sibling in &mut siblings {
        if let Some(there) = running.iter().find(|there| there.metadata.name == sibling.metadata.name) {
            sibling.metadata = there.metadata.clone();
        }
    }
    for there in running.iter().filter(is_sibling) {
        if !siblings.iter().any(|sibling| sibling.metadata.name == there.metadata.name) {
            siblings.push(there.clone());
        }
    }
    siblings
}
