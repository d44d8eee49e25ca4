//! The inputs with what every object needs of them: names and metadata.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use tallyman_crds::{CounterClassSpec, CounterNamespace, CounterNamespaceSpec};

use super::{Error, Images, Inputs, Secrets, is_durable};
use crate::capacity::Plan;
use crate::names::{self, Component};

/// What the files here build from.
pub struct Context<'a> {
    pub namespace: &'a CounterNamespace,
    pub siblings: &'a [CounterNamespace],
    pub spec: &'a CounterNamespaceSpec,
    pub class_name: &'a str,
    pub class: &'a CounterClassSpec,
    pub plan: &'a Plan,
    pub images: &'a Images,
    pub secrets: &'a Secrets,
    /// Of the CounterNamespace.
    pub name: &'a str,
    pub kubernetes_namespace: &'a str,
    pub dataset: String,
    owner: OwnerReference,
}

impl<'a> Context<'a> {
    pub fn of(inputs: &Inputs<'a>) -> Result<Self, Error> {
        let Inputs { namespace, class, plan, siblings, images, secrets } = *inputs;
        let missing = |field| Error::Incomplete { field };
        let metadata = &namespace.metadata;
        let name = metadata.name.as_deref().ok_or(missing("metadata.name"))?;
        let uid = metadata.uid.clone().ok_or(missing("metadata.uid"))?;
        Ok(Self {
            namespace,
            siblings,
            spec: &namespace.spec,
            class_name: class.metadata.name.as_deref().ok_or(missing("metadata.name"))?,
            class: &class.spec,
            plan,
            images,
            secrets,
            name,
            kubernetes_namespace: metadata.namespace.as_deref().ok_or(missing("metadata.namespace"))?,
            dataset: namespace.dataset_or_default(),
            owner: OwnerReference {
                api_version: CounterNamespace::api_version(&()).into_owned(),
                kind: CounterNamespace::kind(&()).into_owned(),
                name: name.to_owned(),
                uid,
                controller: Some(true),
                block_owner_deletion: Some(true),
            },
        })
    }

    pub fn is_durable(&self) -> bool {
        is_durable(self.namespace)
    }

    /// Whether memcached servers are built; otherwise the class has some for all.
    pub fn has_own_cache(&self) -> bool {
        self.class.memcached.is_none()
    }

    pub fn metadata(&self, name: String, component: Component) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.kubernetes_namespace.to_owned()),
            labels: Some(names::labels(self.name, component)),
            owner_references: Some(vec![self.owner.clone()]),
            ..ObjectMeta::default()
        }
    }
}
