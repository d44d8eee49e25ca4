//! A CounterNamespace that this release cannot read, as another release's schema let it in.

use jiff::Timestamp;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tallyman_crds::{CounterNamespace, CounterNamespaceStatus, GROUP, VERSION};

use super::error::Error;
use super::status::{self, Observed};
use super::validate::Refused;
use super::{Context, Guarded, LOOK_EVERY, deletion, write_status};

/// Says so in its status, and lets it go when it is deleted.
pub(super) async fn reconcile(context: &Context, guarded: &Guarded, reason: &str) -> Result<Action, Error> {
    let (kubernetes_namespace, name) = (guarded.namespace().unwrap_or_default(), guarded.name_any());
    if guarded.meta().deletion_timestamp.is_some() {
        return deletion::let_go_unread(context, guarded).await;
    }
    let refused = Refused {
        reason: "Unreadable",
        message: format!("this release of the operator cannot read the resource: {reason}"),
        waiting_helps: false,
    };
    let observed = Observed { generation: guarded.meta().generation, refused: Some(refused), ..Observed::default() };
    let before = status_alone(context, &kubernetes_namespace, &name).await?;
    let after = status::status(&observed, &before, Timestamp::now());
    if after != before {
        let patch = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "CounterNamespace", "metadata": {"name": name},
            "status": after,
        });
        write_status(context, &kubernetes_namespace, &name, &patch).await?;
    }
    // Only a change of it helps, which the watch shows.
    Ok(Action::requeue(LOOK_EVERY))
}

/// The status of a resource that cannot be read as a whole; empty when it cannot be read either.
async fn status_alone(
    context: &Context,
    kubernetes_namespace: &str,
    name: &str,
) -> Result<CounterNamespaceStatus, Error> {
    let resource = ApiResource::erase::<CounterNamespace>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), kubernetes_namespace, &resource);
    let doing = format!("read {kubernetes_namespace}/{name}");
    let found = api.get_opt(name).await.map_err(Error::doing(doing))?;
    let status = found.and_then(|mut found| found.data.get_mut("status").map(serde_json::Value::take));
    Ok(status.and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default())
}
