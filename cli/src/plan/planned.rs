//! From a CounterNamespace to what it would get: the operator's own functions, with placeholders for what is secret. Pure.

use tallyman_crds::{CounterClass, CounterNamespace, CounterType};
use tallyman_operator::build::{self, Built, Images, Inputs, KeyPair, RollupTls, Secrets};
use tallyman_operator::capacity::{Plan, plan_in_dataset};

use super::cluster::Live;
use crate::failure::Failure;

/// The class that is made up where there is none at hand.
const EXAMPLE_CLASS: &str = "example";
/// What stands for every secret, and for what only an API server gives.
pub const PLACEHOLDER: &str = "(made in the cluster)";

/// What surrounds a CounterNamespace.
pub struct Surroundings<'a> {
    pub kubernetes_namespace: &'a str,
    /// The others of its dataset.
    pub siblings: Vec<CounterNamespace>,
    /// Of the files.
    pub classes: &'a [CounterClass],
    /// What runs, if it was looked at.
    pub live: Option<&'a Live>,
}

/// What a CounterNamespace would get.
pub struct Planned {
    pub namespace: CounterNamespace,
    pub class_name: String,
    /// Whether no class was at hand.
    pub class_is_made_up: bool,
    pub plan: Plan,
    pub built: Built,
    /// What is to be said about it.
    pub notes: Vec<String>,
}

impl Planned {
    pub fn new(namespace: &CounterNamespace, surroundings: &Surroundings<'_>) -> Result<Self, Failure> {
        let live = surroundings.live;
        let there = live.and_then(|live| live.namespace(namespace));
        let mut namespace = namespace.clone();
        let metadata = &mut namespace.metadata;
        metadata.namespace = Some(surroundings.kubernetes_namespace.to_owned());
        metadata.uid = Some(there.and_then(|there| there.metadata.uid.clone()).unwrap_or(PLACEHOLDER.to_owned()));
        metadata.creation_timestamp = there.and_then(|there| there.metadata.creation_timestamp.clone());
        let (class, class_is_made_up) = class(&namespace, surroundings)?;
        let oldest = build::dataset_of(&namespace, &surroundings.siblings);
        let plan = plan_in_dataset(&namespace.spec, oldest.map(|oldest| &oldest.spec));
        let built = build::build(&Inputs {
            namespace: &namespace,
            class: &class,
            plan: &plan,
            siblings: &surroundings.siblings,
            images: &images(&class, there),
            secrets: &placeholders(&namespace, &class),
        });
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let built = built.map_err(|error| Failure::local(format!("CounterNamespace {name}: {error}")))?;
        let mut notes = plan.notes.clone();
        if live.is_some() && there.is_none() {
            notes.push("this CounterNamespace does not exist yet in the cluster".to_owned());
        }
        let class_name = class.metadata.name.unwrap_or_default();
        Ok(Self { namespace, class_name, class_is_made_up, plan, built, notes })
    }
}

/// The class by its name, or the default one: of the files first, then of the cluster; made up where no cluster is at hand.
fn class(namespace: &CounterNamespace, surroundings: &Surroundings<'_>) -> Result<(CounterClass, bool), Failure> {
    let running = surroundings.live.map_or(&[][..], |live| &live.classes);
    let wanted = namespace.spec.class_name.as_deref();
    let fits = |class: &&CounterClass| match wanted {
        Some(name) => class.metadata.name.as_deref() == Some(name),
        None => class.spec.default,
    };
    // A file with one class for namespaces that name none means that one.
    let only = |classes: &'_ [CounterClass]| (wanted.is_none() && classes.len() == 1).then(|| classes[0].clone());
    let files = surroundings.classes;
    if let Some(class) = files.iter().find(fits).cloned().or_else(|| only(files)) {
        return Ok((class, false));
    }
    if let Some(class) = running.iter().find(fits) {
        return Ok((class.clone(), false));
    }
    let name = namespace.metadata.name.as_deref().unwrap_or_default();
    let missing = match wanted {
        Some(wanted) => format!("CounterNamespace {name}: there is no CounterClass {wanted}"),
        None => format!("CounterNamespace {name}: it names no CounterClass, and none is marked as default"),
    };
    if surroundings.live.is_some() || !files.is_empty() {
        return Err(Failure::local(missing).with_remedy("name a file that has it with --class-file"));
    }
    Ok((example_class(wanted.unwrap_or(EXAMPLE_CLASS)), true))
}

fn example_class(name: &str) -> CounterClass {
    use tallyman_crds::counter_class::{Cassandra, CounterClassSpec};
    let cassandra = Cassandra {
        contact_points: vec!["cassandra.example:9042".to_owned()],
        local_datacenter: "dc1".to_owned(),
        replication: [("dc1".to_owned(), 3)].into(),
        tls: None,
        admin_credentials_secret_name: None,
    };
    let spec =
        CounterClassSpec { default: false, region: None, cassandra, memcached: None, images: None, defaults: None };
    CounterClass::new(name, spec)
}

/// The class's, else those that are pinned, else this release's.
fn images(class: &CounterClass, there: Option<&CounterNamespace>) -> Images {
    let set = class.spec.images.clone().unwrap_or_default();
    let pinned = there.and_then(|there| there.status.as_ref()?.images.clone()).unwrap_or_default();
    let release = Images::of_release();
    Images {
        sidecar: set.sidecar.or(pinned.sidecar).unwrap_or(release.sidecar),
        rollup: set.rollup.or(pinned.rollup).unwrap_or(release.rollup),
        memcached: set.memcached.or(pinned.memcached).unwrap_or(release.memcached),
    }
}

fn placeholders(namespace: &CounterNamespace, class: &CounterClass) -> Secrets {
    let text = || PLACEHOLDER.to_owned();
    let pair = || KeyPair { certificate: text(), key: text() };
    let durable = namespace.spec.counter_type != CounterType::BestEffort;
    let cassandra = &class.spec.cassandra;
    Secrets {
        password: (durable && cassandra.admin_credentials_secret_name.is_some()).then(text),
        cassandra_ca: (durable && cassandra.tls.is_some()).then(text),
        rollup_tls: durable.then(|| RollupTls { authority: pair(), server: pair(), client: pair() }),
    }
}

#[cfg(test)]
mod tests {
    use tallyman_crds::manifest::read_manifests;

    use super::*;

    fn planned(spec: &str, classes: &[CounterClass]) -> Result<Planned, Failure> {
        let head = "apiVersion: tallyman.dev/v1alpha1\nkind: CounterNamespace\nmetadata: {name: plays}\n";
        let namespace = read_manifests(&format!("{head}spec: {spec}\n"), "f").unwrap().namespaces.remove(0);
        let surroundings = Surroundings { kubernetes_namespace: "default", siblings: Vec::new(), classes, live: None };
        Planned::new(&namespace, &surroundings)
    }

    #[test]
    fn a_class_is_made_up_only_where_there_is_none_at_all() {
        let alone = planned("{counterType: Eventual}", &[]).unwrap();
        assert_eq!((alone.class_name.as_str(), alone.class_is_made_up), ("example", true));
        let given = planned("{counterType: Eventual}", &[example_class("given")]).unwrap();
        assert_eq!((given.class_name.as_str(), given.class_is_made_up), ("given", false));
        let other = planned("{counterType: Eventual, className: wanted}", &[example_class("given")]);
        assert!(other.is_err_and(|failure| failure.message.contains("there is no CounterClass wanted")));
        let two = planned("{counterType: Eventual}", &[example_class("one"), example_class("two")]);
        assert!(two.is_err_and(|failure| failure.message.contains("none is marked as default")));
    }
}
