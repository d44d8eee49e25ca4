//! The end of a CounterNamespace. Kubernetes removes what belongs to it there; a finalizer is needed only for what is in
//! Cassandra, and so only with `deletionPolicy: Delete`.
//!
//! The data plane is stopped first: no rollup server, and no document for sidecars, which then refuse the namespace. Then its rows
//! are removed, or the dataset with the last namespace in it. Where Cassandra is gone for good, an annotation lets it go.

use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tallyman_crds::counter_namespace::DeletionPolicy;
use tallyman_crds::{CounterNamespace, CounterType};

use super::error::{Error, full_name};
use super::owned::Kind;
use super::status::Observed;
use super::validate::Refused;
use super::{Context, Guarded, Scope, apply, dereference, engine_name, events, secrets, update_status, validate};
use crate::build::{self, Inputs};
use crate::cassandra::{DatasetKey, Removal};
use crate::{capacity, names};

/// Whether its end has to wait for Cassandra.
fn needs_guard(namespace: &CounterNamespace) -> bool {
    namespace.spec.deletion_policy == DeletionPolicy::Delete && namespace.spec.counter_type != CounterType::BestEffort
}

/// Sets or removes the finalizer, as `deletionPolicy` asks. Whether that was a change.
pub(super) async fn guard(context: &Context, namespace: &CounterNamespace) -> Result<bool, Error> {
    let has = namespace.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER);
    let needs = needs_guard(namespace);
    if has == needs || namespace.spec.paused {
        return Ok(false);
    }
    let others = namespace.finalizers().iter().filter(|finalizer| *finalizer != names::FINALIZER).cloned();
    let finalizers: Vec<String> = others.chain(needs.then(|| names::FINALIZER.to_owned())).collect();
    write(context, namespace, &finalizers).await?;
    Ok(true)
}

/// Lets a resource go that is being deleted, once nothing of it is left.
pub(super) async fn finalize(context: &Context, scope: &Scope, namespace: &CounterNamespace) -> Result<Action, Error> {
    let (kubernetes_namespace, name) = (namespace.namespace().unwrap_or_default(), namespace.name_any());
    context.memory.forget(&kubernetes_namespace, &name);
    let key = context.class_of(namespace).map(|class| DatasetKey { class, dataset: namespace.dataset_or_default() });
    if !namespace.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
        if let (Some(key), Ok(engine_name)) = (&key, engine_name(namespace)) {
            context.keeper.forget(key, &engine_name);
        }
        return Ok(Action::await_change());
    }
    let abandons = build::asks_for(namespace, names::ABANDON_CASSANDRA);
    if abandons || !needs_guard(namespace) {
        let note = if abandons {
            "Cassandra is left as it is, as the annotation asks"
        } else {
            "the tables are kept, as deletionPolicy asks"
        };
        return let_go(context, namespace, key.as_ref(), note).await;
    }
    for (kind, object, uid) in scope.owned.of(&kubernetes_namespace, namespace.uid().as_deref().unwrap_or_default()) {
        if matches!(kind, Kind::StatefulSet | Kind::ConfigMap) {
            apply::delete(context, kind, &kubernetes_namespace, &object, &uid).await?;
        }
    }
    match removal(context, scope, namespace).await? {
        Ok(()) => let_go(context, namespace, key.as_ref(), "nothing of it is left in Cassandra").await,
        Err(refused) => {
            let observed = Observed {
                generation: namespace.metadata.generation,
                refused: Some(refused),
                class_name: key.map(|key| key.class),
                ..Observed::default()
            };
            update_status(context, namespace, &observed).await?;
            Ok(Action::requeue(context.failed(&full_name(namespace))))
        }
    }
}

/// Removes what it has in Cassandra; `Err` says what that waits for.
async fn removal(context: &Context, scope: &Scope, namespace: &CounterNamespace) -> Result<Result<(), Refused>, Error> {
    let found = dereference::dereference(context, scope, namespace).await?;
    // Whom the dataset belongs to is for Cassandra's record to say, and whether its settings agree with others' is of no
    // matter any more: rows that it wrote while they did are there.
    let (class, access) = match validate::class(&found) {
        Ok(usable) => usable,
        Err(refused) => return Ok(Err(waits(refused.message, refused.waiting_helps))),
    };
    let beside = found.siblings.iter().filter(|sibling| sibling.metadata.namespace == namespace.metadata.namespace);
    let is_last = beside.count() == 0;
    if let Some(unread) = context.unreadable(|unread| unread.meta().namespace == namespace.metadata.namespace).next()
        && is_last
    {
        return Ok(Err(Refused {
            reason: "Deleting",
            message: format!(
                "deletion waits for CounterNamespace {}, which this release cannot read and which may have dataset {:?} too",
                unread.name_any(),
                namespace.dataset_or_default()
            ),
            waiting_helps: true,
        }));
    }
    let secrets = secrets(context, namespace, &found, &access)?;
    let plan = capacity::plan(&namespace.spec);
    let inputs = Inputs {
        namespace,
        class: &class,
        plan: &plan,
        siblings: &[],
        images: &context.settings.release,
        secrets: &secrets,
    };
    let built = match build::build(&inputs) {
        Ok(built) => built,
        Err(error) => return Ok(Err(waits(error.to_string(), false))),
    };
    let Some(wanted) = built.schema else { return Ok(Ok(())) };
    let key = DatasetKey { class: wanted.dataset.cluster.clone(), dataset: wanted.dataset.keyspace.clone() };
    Ok(match context.keeper.remove(&key, wanted, &built.configuration.namespace, is_last) {
        Removal::Done => Ok(()),
        Removal::Pending => Err(waits("its rows are being removed".to_owned(), true)),
        Removal::Failed(trouble) => Err(waits(trouble.message, trouble.waiting_helps)),
    })
}

fn waits(message: String, waiting_helps: bool) -> Refused {
    let message = format!(
        "deletion waits for Cassandra: {message}. If that is gone for good, annotate with {}=true",
        names::ABANDON_CASSANDRA
    );
    Refused { reason: "Deleting", message, waiting_helps }
}

async fn let_go(
    context: &Context,
    namespace: &CounterNamespace,
    key: Option<&DatasetKey>,
    note: &str,
) -> Result<Action, Error> {
    let finalizers = namespace.finalizers().iter().filter(|finalizer| *finalizer != names::FINALIZER).cloned();
    write(context, namespace, &finalizers.collect::<Vec<_>>()).await?;
    if let (Some(key), Ok(engine_name)) = (key, engine_name(namespace)) {
        context.keeper.forget(key, &engine_name);
    }
    context.succeeded(&full_name(namespace));
    events::publish(context, namespace, vec![events::event(EventType::Normal, "Deleted", note)]).await;
    Ok(Action::await_change())
}

/// Lets go of one that cannot be read, and so not be known to have anything in Cassandra: what it has there stays.
pub(super) async fn let_go_unread(context: &Context, guarded: &Guarded) -> Result<Action, Error> {
    if !guarded.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER) {
        return Ok(Action::await_change());
    }
    tracing::warn!(namespace = %full_name(guarded), "deleted though it cannot be read; what it has in Cassandra stays");
    let finalizers: Vec<_> =
        guarded.finalizers().iter().filter(|finalizer| *finalizer != names::FINALIZER).cloned().collect();
    write(context, guarded, &finalizers).await?;
    Ok(Action::await_change())
}

async fn write<K: ResourceExt>(context: &Context, resource: &K, finalizers: &[String]) -> Result<(), Error> {
    let (kubernetes_namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    let doing = format!("write the finalizers of {kubernetes_namespace}/{name}");
    context.must_lead(&doing)?;
    let api: Api<Guarded> = Api::namespaced(context.client.clone(), &kubernetes_namespace);
    // Whoever set another one in between is not overwritten.
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": resource.resource_version()}});
    let answer = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    context.metrics.wrote("CounterNamespace", answer.is_ok());
    match answer {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::doing(doing)(error)),
    }
}
