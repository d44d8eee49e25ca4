//! The leader's work: every CounterNamespace is reconciled in five steps, each a module of its own:
//! [`dereference`] → [`validate`] → [`build`] → [`apply`] → [`status`]. Only the first and the last two reach a
//! cluster; none of them waits for anything but the answers of the Kubernetes API. What takes longer, Cassandra's schemas, goes
//! on behind, in the [`Keeper`].
//!
//! One object that cannot be read or provisioned stalls no other: it is tried again by itself, later each time.

pub mod apply;
pub mod classes;
mod deletion;
pub mod dereference;
pub mod error;
pub mod events;
pub mod images;
pub mod owned;
mod scope;
pub mod status;
mod unreadable;
pub mod validate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action};
use kube::runtime::events::Recorder;
use kube::runtime::{Controller, PredicateConfig, WatchStreamExt, predicates, reflector, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tallyman_counter::configuration::{CacheStorage, Counting, NamespaceConfiguration};
use tallyman_counter::model::NamespaceName;
use tallyman_crds::counter_namespace::{CacheReplicaStatus, EndpointsStatus, ImagesStatus};
use tallyman_crds::{CounterClass, CounterNamespace, CounterType, GROUP, VERSION};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::UnboundedReceiverStream;

use self::apply::{Memory, Mode, Rollout};
use self::classes::Classes;
use self::dereference::Dereferenced;
use self::error::{Error, full_name};
pub use self::scope::Scope;
use self::status::{Observed, Provisioned};
use self::validate::{Refused, Valid};
use crate::backoff::Backoff;
use crate::build::{self, Built, Images, Inputs, RollupTls, Secrets};
use crate::cassandra::{Access, DatasetKey, Keeper, SchemaState};
use crate::certificates;
use crate::inject;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::names::{self, Component};
use crate::passwords::PasswordKey;

/// A CounterNamespace, or why it could not be read.
pub type Guarded = DeserializeGuard<CounterNamespace>;

/// Changes of one object that come this close together are one.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Namespaces reconciled at a time.
const CONCURRENCY: u16 = 16;
/// How soon a namespace is looked at though nothing happened, for what no watch shows: Secrets. With the time that those are trusted,
/// a minute at most.
const LOOK_EVERY: Duration = Duration::from_secs(45);
/// How soon a namespace is looked at again whose status somebody wrote meanwhile. No watch tells of that: changes of the status alone
/// are filtered out, ours above all.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// After failures.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_mins(5) };
/// How soon it is noticed that a class is gone.
const CLASSES_EVERY: Duration = Duration::from_millis(250);
/// How long one reconcile may take; it waits for nothing but the Kubernetes API.
const RECONCILE_LIMIT: Duration = Duration::from_mins(1);
/// How long the first list of something that is watched may take; well below [`RECONCILE_LIMIT`], to be told by its name.
const SEEN_LIMIT: Duration = Duration::from_secs(15);
/// How often namespaces are counted for the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// What the operator was told at its start.
pub struct Settings {
    /// Where its Secrets are.
    pub operator_namespace: String,
    /// The images of this release.
    pub release: Images,
    /// What sidecars should look like.
    pub injection: inject::Settings,
}

/// What reconciles work with.
pub struct Context {
    /// The Kubernetes API.
    pub client: Client,
    /// What the operator was told.
    pub settings: Settings,
    /// Whether it leads.
    pub leadership: Leadership,
    /// What is kept in Cassandra.
    pub keeper: Keeper,
    /// The classes.
    pub classes: Classes,
    /// The Kubernetes namespaces that are watched; one scope for all of them, or one each.
    pub scopes: Vec<Scope>,
    /// What passwords follow from.
    pub passwords: PasswordKey,
    /// What is told.
    pub metrics: Arc<Metrics>,
    /// Where Events go.
    pub recorder: Recorder,
    /// What was found as it should be.
    pub memory: Memory,
    /// Failures in a row, by resource.
    failures: Mutex<HashMap<String, u32>>,
}

/// What a controller is made of, but for what it makes itself.
pub struct Parts {
    /// The Kubernetes API.
    pub client: Client,
    /// What the operator was told.
    pub settings: Settings,
    /// Whether it leads.
    pub leadership: Leadership,
    /// The clock that slices are created by.
    pub clock: Arc<dyn tallyman_counter::clock::Clock>,
    /// What passwords follow from.
    pub passwords: PasswordKey,
    /// What is told.
    pub metrics: Arc<Metrics>,
    /// Where Events go.
    pub recorder: Recorder,
    /// The Kubernetes namespaces to watch; all when empty.
    pub watch_namespaces: Vec<String>,
}

/// Reconciles until it is dropped.
pub async fn run(parts: Parts) {
    let (changed, mut changes) = mpsc::unbounded_channel();
    let keeper = Keeper::new(parts.clock, Arc::new(parts.leadership.clone()), parts.metrics.clone(), changed);
    let (scopes, feeds): (Vec<_>, Vec<_>) = Scope::of(&parts.client, &parts.watch_namespaces).into_iter().unzip();
    let context = Arc::new(Context {
        client: parts.client.clone(),
        settings: parts.settings,
        leadership: parts.leadership,
        keeper,
        classes: Classes::default(),
        scopes,
        passwords: parts.passwords,
        metrics: parts.metrics,
        recorder: parts.recorder,
        memory: Memory::default(),
        failures: Mutex::default(),
    });
    let datasets = async {
        while let Some(key) = changes.recv().await {
            context.trigger_dataset(&key);
        }
    };
    let namespaces = feeds.into_iter().enumerate().map(|(index, feed)| {
        let context = context.clone();
        async move {
            let (watched, reader, triggers) = feed.into_parts();
            let config = controller::Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY);
            let reconcile = move |guarded: Arc<Guarded>, context: Arc<Context>| async move {
                reconcile(&context, index, &guarded).await
            };
            Controller::for_stream(watched, reader)
                .with_config(config)
                .reconcile_on(UnboundedReceiverStream::new(triggers))
                .run(reconcile, error_policy, context)
                .for_each(|_| async {})
                .await;
        }
    });
    tokio::join!(classes(context.clone()), datasets, futures::future::join_all(namespaces), count(&context));
}

async fn classes(context: Arc<Context>) {
    let classes: Api<DeserializeGuard<CounterClass>> = Api::all(context.client.clone());
    let (there, writer) = reflector::store();
    let watched = watcher(classes, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .touched_objects()
        // Writes to its status are no news: ours are not, and those of an operator of other Kubernetes namespaces, which may have
        // another Secret of the same name, would be answered with ours at once, and so on without end.
        .predicate_filter(predicates::generation, PredicateConfig::default());
    let controller = Controller::for_stream(watched, there.clone());
    let gone = async {
        let mut every = tokio::time::interval(CLASSES_EVERY);
        if there.wait_until_ready().await.is_err() {
            return;
        }
        loop {
            every.tick().await;
            let names: Vec<_> = there.state().iter().map(|class| class.name_any()).collect();
            context.classes.expect(names.iter().map(String::as_str));
            let is_there = |name: &str| there.find(|class| class.name_any() == name).is_some();
            for name in context.classes.retain(is_there) {
                context.keeper.leave(&name);
                context.trigger_class(&name);
            }
        }
    };
    let reconcile = |guarded: Arc<DeserializeGuard<CounterClass>>, context: Arc<Context>| async move {
        let started = Instant::now();
        let done = classes::reconcile(&guarded, &context).await;
        context.metrics.reconciled("CounterClass", done.is_ok(), started.elapsed());
        done
    };
    let failed = |class: Arc<DeserializeGuard<CounterClass>>, error: &Error, context: Arc<Context>| {
        tracing::warn!(class = %class.name_any(), %error, "a CounterClass could not be reconciled");
        Action::requeue(context.failed(&class.name_any()))
    };
    let run = controller.run(reconcile, failed, context.clone()).for_each(|_| async {});
    tokio::join!(run, gone);
}

/// Counts the namespaces, and forgets those that are gone.
async fn count(context: &Context) {
    const CONDITIONS: [&str; 4] = ["Ready", "Progressing", "Degraded", "Paused"];
    let mut every = tokio::time::interval(COUNT_EVERY);
    for scope in &context.scopes {
        // Before that, nothing of it is kept that could seem to be gone; all are counted as soon as they can be.
        let _ = seen("CounterNamespaces", scope.namespaces()).await;
    }
    loop {
        every.tick().await;
        let namespaces = context.namespaces(|_| true);
        context.keeper.retain(|key, name| {
            let is_it = |namespace: &Arc<CounterNamespace>| {
                namespace.name_any() == name.as_str() && namespace.dataset_or_default() == key.dataset
            };
            // Of one that cannot be read it is not known which dataset it has: it keeps that.
            namespaces.iter().any(is_it)
                || context.unreadable(|unread| unread.name_any() == name.as_str()).next().is_some()
        });
        for condition in CONDITIONS {
            for status in ["True", "False"] {
                let has = |namespace: &&Arc<CounterNamespace>| {
                    let conditions = namespace.status.iter().flat_map(|known| &known.conditions);
                    conditions.into_iter().any(|known| known.type_ == condition && known.status == status)
                };
                context.metrics.condition(condition, status, namespaces.iter().filter(has).count());
            }
        }
    }
}

/// Waits for what is to be watched, with an error that names it.
async fn seen(what: &'static str, ready: impl Future<Output = ()>) -> Result<(), Error> {
    let in_time = tokio::time::timeout(SEEN_LIMIT, ready).await;
    in_time.map_err(|_| Error::NotSeen { what, limit: SEEN_LIMIT })
}

impl Context {
    /// The CounterNamespaces that `is_meant` says yes to, wherever they are watched.
    #[must_use]
    pub fn namespaces(&self, is_meant: impl Fn(&CounterNamespace) -> bool) -> Vec<Arc<CounterNamespace>> {
        let all = self.scopes.iter().flat_map(|scope| scope.namespaces.state());
        let read = all.filter_map(|guarded| {
            guarded.0.as_ref().ok().filter(|namespace| is_meant(namespace)).cloned().map(Arc::new)
        });
        let mut found: Vec<_> = read.collect();
        found.sort_by_cached_key(|namespace| {
            (namespace.creation_timestamp().map(|time| time.0), full_name(&**namespace))
        });
        found
    }

    /// The CounterNamespaces that this release cannot read and `is_meant` says yes to.
    pub fn unreadable(&self, is_meant: impl Fn(&Guarded) -> bool) -> impl Iterator<Item = Arc<Guarded>> {
        let all = self.scopes.iter().flat_map(|scope| scope.namespaces.state());
        all.filter(move |guarded| guarded.0.is_err() && is_meant(guarded))
    }

    /// The name of a namespace's class, as far as it is decided.
    #[must_use]
    pub fn class_of(&self, namespace: &CounterNamespace) -> Option<String> {
        let pinned = || namespace.status.as_ref().and_then(|status| status.class_name.clone());
        namespace.spec.class_name.clone().or_else(pinned).or_else(|| {
            let mut defaults = self.classes.defaults();
            (defaults.len() == 1).then(|| defaults.remove(0).0)
        })
    }

    /// Waits until everything was seen that there is in a scope: what is missing before that may be there. Other scopes are not waited
    /// for: one Kubernetes namespace that cannot be listed is to hold up no other. Whose a dataset is that is claimed in several, Cassandra's
    /// own record says.
    async fn synced(&self, scope: &Scope) -> Result<(), Error> {
        seen("CounterClasses", self.classes.complete()).await?;
        scope.synced().await
    }

    /// Has every namespace of a class reconciled, and those that wait for a default one.
    pub fn trigger_class(&self, class: &str) {
        let is_of = |namespace: &CounterNamespace| match self.class_of(namespace) {
            Some(name) => name == class,
            None => true,
        };
        // When the default has changed, those that wait for one are of no class that is known.
        self.trigger(|namespace| {
            is_of(namespace) || namespace.status.as_ref().is_none_or(|status| status.class_name.is_none())
        });
    }

    fn trigger_dataset(&self, key: &DatasetKey) {
        self.trigger(|namespace| {
            namespace.dataset_or_default() == key.dataset && self.class_of(namespace).as_deref() == Some(&key.class)
        });
    }

    fn trigger(&self, is_meant: impl Fn(&CounterNamespace) -> bool) {
        for scope in &self.scopes {
            scope.trigger(&is_meant);
        }
    }

    /// Says so where this operator does not lead: it changes nothing then.
    ///
    /// # Errors
    /// [`Error::NotLeading`].
    pub fn must_lead(&self, doing: &str) -> Result<(), Error> {
        if self.leadership.is_held() { Ok(()) } else { Err(Error::NotLeading(doing.to_owned())) }
    }

    /// One more failure: how long to wait.
    fn failed(&self, name: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = failures.entry(name.to_owned()).or_default();
        *failures = failures.saturating_add(1);
        BACKOFF.after(*failures, name)
    }

    fn succeeded(&self, name: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

fn error_policy(guarded: Arc<Guarded>, error: &Error, context: Arc<Context>) -> Action {
    let name = full_name(&*guarded);
    let again = context.failed(&name);
    tracing::warn!(namespace = %name, %error, ?again, "a CounterNamespace could not be reconciled");
    Action::requeue(again)
}

async fn reconcile(context: &Context, scope: usize, guarded: &Guarded) -> Result<Action, Error> {
    let started = Instant::now();
    let scope = &context.scopes[scope];
    let done = async {
        context.synced(scope).await?;
        match &guarded.0 {
            Ok(namespace) if namespace.metadata.deletion_timestamp.is_some() => {
                deletion::finalize(context, scope, namespace).await
            }
            Ok(namespace) => provision(context, scope, namespace).await,
            Err(invalid) => unreadable::reconcile(context, guarded, &invalid.error).await,
        }
    };
    // An answer that never comes must not be waited for: the next attempt is made over a new connection.
    let done = tokio::time::timeout(RECONCILE_LIMIT, done).await;
    let done = done.unwrap_or_else(|_| Err(Error::TooSlow(RECONCILE_LIMIT)));
    context.metrics.reconciled("CounterNamespace", done.is_ok(), started.elapsed());
    done
}

async fn provision(context: &Context, scope: &Scope, namespace: &CounterNamespace) -> Result<Action, Error> {
    let found = dereference::dereference(context, scope, namespace).await?;
    let mut observed = Observed {
        generation: namespace.metadata.generation,
        class_name: found.class_name.clone(),
        paused: namespace.spec.paused,
        sidecars: found.sidecars.clone(),
        ..Observed::default()
    };
    match validate::validate(namespace, &found) {
        Err(refused) => observed.refused = Some(refused),
        Ok(valid) => {
            if deletion::guard(context, namespace).await? {
                // The change comes back by the watch.
                return Ok(Action::await_change());
            }
            build_and_apply(context, scope, namespace, &found, &valid, &mut observed).await?;
        }
    }
    let refused = observed.refused.is_some();
    let is_written = update_status(context, namespace, &observed).await?;
    let name = full_name(namespace);
    if !is_written {
        return Ok(Action::requeue(LOOK_AGAIN));
    }
    if refused {
        // What it waits for is not always watched: an older namespace of its dataset that is gone, somebody's object in the way.
        return Ok(Action::requeue(context.failed(&name).min(LOOK_EVERY)));
    }
    context.succeeded(&name);
    Ok(Action::requeue(Backoff { first: LOOK_EVERY, most: LOOK_EVERY }.after(1, &name)))
}

async fn build_and_apply(
    context: &Context,
    scope: &Scope,
    namespace: &CounterNamespace,
    found: &Dereferenced,
    valid: &Valid,
    observed: &mut Observed,
) -> Result<(), Error> {
    let follows = build::asks_for(namespace, names::FOLLOW_RELEASE);
    let chosen = images::choose(&valid.class, &context.settings.release, &found.pinned, follows);
    let secrets = secrets(context, namespace, found, &valid.access)?;
    let Valid { class, plan, siblings, .. } = valid;
    let inputs = Inputs { namespace, class, plan, siblings, images: &chosen.images, secrets: &secrets };
    let built = match build::build(&inputs) {
        Ok(built) => built,
        Err(error) => {
            observed.refused = Some(Refused { reason: "Invalid", message: error.to_string(), waiting_helps: false });
            return Ok(());
        }
    };
    let name = namespace.name_any();
    let mode = if namespace.spec.paused { Mode::Look } else { Mode::Change };
    let schema = schema(context, namespace, &built);
    // Sidecars count for whatever document they find. Before the dataset is known to be this namespace's, none is given to them, and
    // one that they have stays as it is: another's counts might be in the dataset, the rows of an earlier namespace of this name might
    // still be going, or the class might lead to another Cassandra by now.
    let may_count = matches!(schema, None | Some(SchemaState::Ready(_)));
    // Nor does a new one's rollup start before: without a document it has nothing to do, and the kubelet would bring it one only when it
    // looks again, after a minute or more.
    let rollup_name = names::rollup(&name);
    let is_new = !build::was_provisioned(namespace);
    let is_held = |object: &build::Object| match object {
        build::Object::ConfigMap(_) => !may_count,
        build::Object::StatefulSet(set) => !may_count && is_new && set.metadata.name.as_ref() == Some(&rollup_name),
        _ => false,
    };
    let applied = apply::apply(context, &scope.owned, namespace, &built.objects, is_held, mode).await?;
    let rollout = |name: String| applied.rollouts.get(&name).copied().unwrap_or_default();
    let mut updates = chosen.updates;
    updates.extend(applied.kept_templates.iter().map(|object| format!("{object} with this release's pod template")));
    let has_own_cache = class.spec.memcached.is_none();
    let cache = (0..plan.cache.replicas.value).filter(|_| has_own_cache);
    let is_durable = built.schema.is_some();
    observed.provisioned = Some(Provisioned {
        plan: plan.status(),
        schema,
        rollup: plan.rollup.as_ref().filter(|_| is_durable).map(|planned| {
            // One that is not there yet is waited for.
            let none = Rollout { wanted: planned.replicas.value, ..Rollout::default() };
            applied.rollouts.get(&rollup_name).copied().unwrap_or(none)
        }),
        cache: cache.map(|replica| rollout(names::cache_replica(&name, replica))).collect(),
        endpoints: endpoints(&built.configuration),
        images: ImagesStatus {
            sidecar: Some(chosen.images.sidecar),
            rollup: is_durable.then_some(chosen.images.rollup),
            memcached: has_own_cache.then_some(chosen.images.memcached),
        },
        updates,
        selector: selector(&name),
    });
    observed.held_back.clone_from(&applied.held_back);
    observed.refused.clone_from(&applied.refused);
    events::publish(context, namespace, events::of_repairs(&applied)).await;
    Ok(())
}

/// What is wanted of Cassandra, asked for. A namespace that is paused before it was ever provisioned asks for nothing.
fn schema(context: &Context, namespace: &CounterNamespace, built: &Built) -> Option<SchemaState> {
    let wanted = built.schema.clone()?;
    let key = DatasetKey { class: wanted.dataset.cluster.clone(), dataset: wanted.dataset.keyspace.clone() };
    if namespace.spec.paused && !build::was_provisioned(namespace) {
        return Some(context.keeper.known(&key));
    }
    Some(context.keeper.want(&key, wanted, &built.configuration.namespace))
}

fn secrets(
    context: &Context,
    namespace: &CounterNamespace,
    found: &Dereferenced,
    access: &Access,
) -> Result<Secrets, Error> {
    if namespace.spec.counter_type == CounterType::BestEffort {
        return Ok(Secrets::default());
    }
    let kubernetes_namespace = namespace.namespace().unwrap_or_default();
    let dataset = namespace.dataset_or_default();
    let has_login = access.login.is_some();
    Ok(Secrets {
        password: has_login.then(|| context.passwords.password(&kubernetes_namespace, &dataset)),
        cassandra_ca: access.ca.clone(),
        rollup_tls: Some(rollup_tls(namespace, found)?),
    })
}

/// What was issued earlier, and anew what is missing or due.
fn rollup_tls(namespace: &CounterNamespace, found: &Dereferenced) -> Result<RollupTls, Error> {
    let name = namespace.name_any();
    let service = format!("{}.{}.svc", names::rollup(&name), namespace.namespace().unwrap_or_default());
    let issued = certificates::rollup_tls(
        &full_name(namespace),
        &[format!("*.{service}"), service],
        found.rollup_tls.authority.as_ref(),
        found.rollup_tls.server.as_ref(),
        found.rollup_tls.client.as_ref(),
        Timestamp::now(),
    );
    issued.map_err(|error| Error::Certificates(error.to_string()))
}

fn endpoints(configuration: &NamespaceConfiguration) -> EndpointsStatus {
    let (rollup, cache) = match &configuration.counting {
        Counting::BestEffort(best_effort) => (Vec::new(), Some(&best_effort.storage)),
        Counting::Durable(durable) => (durable.rollup_endpoints.clone(), durable.cache.as_ref()),
    };
    let cache = match cache {
        Some(CacheStorage::Memcached { replicas, .. }) => {
            replicas.iter().map(|shards| CacheReplicaStatus { shards: shards.clone() }).collect()
        }
        Some(CacheStorage::Memory) | None => Vec::new(),
    };
    EndpointsStatus { rollup, cache }
}

fn selector(name: &str) -> String {
    let labels = names::selector_labels(name, Component::Rollup);
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Whether the status is as observed now; `false` when somebody wrote the resource meanwhile.
async fn update_status(context: &Context, namespace: &CounterNamespace, observed: &Observed) -> Result<bool, Error> {
    let before = namespace.status.clone().unwrap_or_default();
    let after = status::status(observed, &before, Timestamp::now());
    if namespace.status.as_ref() == Some(&after) {
        return Ok(true);
    }
    let after_json = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "CounterNamespace",
        // Whoever wrote in between is looked at first.
        "metadata": {"name": namespace.name_any(), "resourceVersion": namespace.resource_version()},
        "status": after,
    });
    let kubernetes_namespace = namespace.namespace().unwrap_or_default();
    if !write_status(context, &kubernetes_namespace, &namespace.name_any(), &after_json).await? {
        return Ok(false);
    }
    events::publish(context, namespace, events::of_change(&before, &after)).await;
    Ok(true)
}

/// Whether it was written, or is gone; `false` when it is of another version than the patch.
async fn write_status(
    context: &Context,
    kubernetes_namespace: &str,
    name: &str,
    patch: &serde_json::Value,
) -> Result<bool, Error> {
    let doing = format!("write the status of {kubernetes_namespace}/{name}");
    context.must_lead(&doing)?;
    let api: Api<Guarded> = Api::namespaced(context.client.clone(), kubernetes_namespace);
    let parameters = PatchParams::apply(names::FIELD_MANAGER).force();
    let answer = api.patch_status(name, &parameters, &Patch::Apply(patch)).await;
    context.metrics.wrote("CounterNamespace", answer.is_ok());
    match answer {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(Error::doing(doing)(error)),
    }
}

/// The namespace's name as the engine takes it. The schema is narrower than the engine.
fn engine_name(namespace: &CounterNamespace) -> Result<NamespaceName, Error> {
    let name = namespace.name_any();
    NamespaceName::new(&name).map_err(|error| Error::Build { name, reason: error.to_string() })
}
