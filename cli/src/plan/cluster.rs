//! What runs in a Kubernetes cluster: read, never written.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tallyman_crds::{CounterClass, CounterNamespace};
use tallyman_operator::names;

use super::arguments::Plan;
use crate::failure::Failure;

/// A cluster.
pub struct Cluster {
    client: Client,
    /// The Kubernetes namespace of its context.
    pub default_namespace: String,
}

/// What runs of a CounterNamespace, and around it.
pub struct Live {
    /// The CounterNamespaces of its Kubernetes namespace.
    pub namespaces: Vec<CounterNamespace>,
    /// All CounterClasses.
    pub classes: Vec<CounterClass>,
    /// Its objects, and those that have the names of objects that it would get. Of Secrets, only their metadata.
    pub objects: Vec<Value>,
}

impl Live {
    /// This one as it runs.
    pub fn namespace(&self, namespace: &CounterNamespace) -> Option<&CounterNamespace> {
        self.namespaces.iter().find(|there| there.metadata.name == namespace.metadata.name)
    }
}

pub async fn connect(arguments: &Plan) -> Result<Cluster, Failure> {
    let options = KubeConfigOptions { context: arguments.context.clone(), ..KubeConfigOptions::default() };
    let config = match &arguments.kubeconfig {
        Some(file) => {
            let read = Kubeconfig::read_from(file).map_err(failure)?;
            Config::from_custom_kubeconfig(read, &options).await.map_err(failure)?
        }
        None if arguments.context.is_some() => Config::from_kubeconfig(&options).await.map_err(failure)?,
        None => Config::infer().await.map_err(failure)?,
    };
    let default_namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(failure)?;
    Ok(Cluster { client, default_namespace })
}

impl Cluster {
    /// Reads what there is of a CounterNamespace.
    pub async fn look(&self, kubernetes_namespace: &str, namespace: &CounterNamespace) -> Result<Live, Failure> {
        let here = |client: &Client| client.clone();
        let all = ListParams::default();
        let namespaces = Api::<CounterNamespace>::namespaced(here(&self.client), kubernetes_namespace).list(&all).await;
        let classes = Api::<CounterClass>::all(here(&self.client)).list(&all).await;
        let mut live = Live {
            namespaces: namespaces.map_err(failure)?.items,
            classes: classes.map_err(failure)?.items,
            objects: Vec::new(),
        };
        let name = namespace.metadata.name.as_deref().unwrap_or_default();
        let objects = &mut live.objects;
        self.objects::<ConfigMap>(kubernetes_namespace, name, "ConfigMap", objects).await?;
        self.objects::<Service>(kubernetes_namespace, name, "Service", objects).await?;
        self.objects::<PodDisruptionBudget>(kubernetes_namespace, name, "PodDisruptionBudget", objects).await?;
        self.objects::<NetworkPolicy>(kubernetes_namespace, name, "NetworkPolicy", objects).await?;
        self.objects::<StatefulSet>(kubernetes_namespace, name, "StatefulSet", objects).await?;
        self.secrets(kubernetes_namespace, name, objects).await?;
        Ok(live)
    }

    async fn objects<K>(
        &self,
        kubernetes_namespace: &str,
        name: &str,
        kind: &str,
        objects: &mut Vec<Value>,
    ) -> Result<(), Failure>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), kubernetes_namespace);
        let list = api.list(&ListParams::default()).await.map_err(failure)?;
        for object in list {
            let value = serde_json::to_value(object);
            let value = value.map_err(|error| Failure::local(format!("a {kind} of the cluster: {error}")))?;
            objects.extend(relevant(value, name, kind));
        }
        Ok(())
    }

    /// Secrets without what is in them: their contents do not leave the cluster.
    async fn secrets(&self, kubernetes_namespace: &str, name: &str, objects: &mut Vec<Value>) -> Result<(), Failure> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), kubernetes_namespace);
        for secret in [names::sidecar_secret(name), names::rollup_secret(name), names::rollup_authority(name)] {
            if let Some(there) = api.get_metadata_opt(&secret).await.map_err(failure)? {
                objects.push(serde_json::json!({"kind": "Secret", "metadata": there.metadata}));
            }
        }
        Ok(())
    }
}

/// Of a CounterNamespace, by its label or by a name that its objects would have.
fn relevant(mut object: Value, name: &str, kind: &str) -> Option<Value> {
    let metadata = &object["metadata"];
    let is_labelled = metadata["labels"][names::COUNTER_NAMESPACE] == name;
    let there = metadata["name"].as_str().unwrap_or_default();
    let is_named = there == names::config_map(name)
        || there == names::rollup(name)
        || there == names::cache(name)
        || (0..8).any(|replica| there == names::cache_replica(name, replica));
    (is_labelled || is_named).then(|| {
        // Lists do not say of what kind their items are.
        object["kind"] = Value::from(kind);
        object
    })
}

fn failure(error: impl std::error::Error) -> Failure {
    let mut message = format!("the Kubernetes cluster: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    Failure::local(message).with_remedy("leave out --cluster, --kubeconfig and --context to plan without one")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_found_by_label_and_by_name() {
        let found = |object: Value| relevant(object, "plays", "Service").is_some();
        assert!(found(json!({"metadata": {"name": "x", "labels": {names::COUNTER_NAMESPACE: "plays"}}})));
        assert!(found(json!({"metadata": {"name": "plays-cache-1"}})));
        assert!(!found(json!({"metadata": {"name": "plays-cache-x", "labels": {names::COUNTER_NAMESPACE: "likes"}}})));
    }
}
