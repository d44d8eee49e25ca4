//! CounterClasses: each is read with the Secrets that it names, its cluster is connected to, and its status says how that is.
//!
//! Secrets are read by name, every few seconds, and not watched: watching would need the right to read all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tallyman_crds::counter_class::CounterClassStatus;
use tallyman_crds::{CounterClass, GROUP, VERSION};
use tokio::sync::watch;

use super::Context;
use super::error::Error;
use crate::cassandra::{Access, Login};
use crate::names;

/// How soon a changed Secret is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How soon a connection that is still being made is looked at again.
const LOOK_SOON: Duration = Duration::from_secs(1);

/// What is known of a class.
#[derive(Debug, Clone)]
pub enum ClassState {
    /// It can be used.
    Usable {
        /// The class.
        class: Arc<CounterClass>,
        /// How its cluster is reached.
        access: Access,
    },
    /// It cannot be used, and why.
    Unusable {
        /// Whether it is marked as default.
        is_default: bool,
        /// Why.
        message: String,
    },
}

impl ClassState {
    fn is_default(&self) -> bool {
        match self {
            Self::Usable { class, .. } => class.spec.default,
            Self::Unusable { is_default, .. } => *is_default,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Usable { class, access }, Self::Usable { class: other, access: other_access }) => {
                class.spec == other.spec && access == other_access
            }
            (Self::Unusable { is_default, message }, Self::Unusable { is_default: other, message: other_message }) => {
                is_default == other && message == other_message
            }
            _ => false,
        }
    }
}

/// All classes, as last looked at.
#[derive(Default)]
pub struct Classes {
    known: Mutex<BTreeMap<String, ClassState>>,
    /// Whether every class that there was at the start has been looked at.
    is_complete: watch::Sender<bool>,
}

impl Classes {
    /// A class.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<ClassState> {
        self.lock().get(name).cloned()
    }

    /// Those that are marked as default, by name.
    #[must_use]
    pub fn defaults(&self) -> Vec<(String, ClassState)> {
        let known = self.lock();
        known
            .iter()
            .filter(|(_, state)| state.is_default())
            .map(|(name, state)| (name.clone(), state.clone()))
            .collect()
    }

    /// Waits until every class that there was at the start has been looked at: none that is there is taken for missing.
    pub async fn complete(&self) {
        // The sender lives as long as `self`.
        let _ = self.is_complete.subscribe().wait_for(|is_complete| *is_complete).await;
    }

    /// Hears the names of all classes that there are.
    pub fn expect<'a>(&self, mut names: impl Iterator<Item = &'a str>) {
        let known = self.lock();
        if names.all(|name| known.contains_key(name)) {
            self.is_complete.send_replace(true);
        }
    }

    /// Whether that is news.
    fn learn(&self, name: &str, state: ClassState) -> bool {
        let mut known = self.lock();
        let is_news = known.get(name).is_none_or(|before| !before.is_same(&state));
        known.insert(name.to_owned(), state);
        is_news
    }

    /// Forgets classes that `is_there` does not know. Which ones.
    pub fn retain(&self, is_there: impl Fn(&str) -> bool) -> Vec<String> {
        let mut known = self.lock();
        let gone: Vec<_> = known.keys().filter(|name| !is_there(name)).cloned().collect();
        known.retain(|name, _| is_there(name));
        gone
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ClassState>> {
        // Nothing that holds it panics half-way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at a class.
///
/// # Errors
/// When the Kubernetes API does not answer.
pub async fn reconcile(guarded: &DeserializeGuard<CounterClass>, context: &Context) -> Result<Action, Error> {
    let name = guarded.name_any();
    let class = match &guarded.0 {
        // One that is being deleted, and held by somebody's finalizer, is used until it is gone.
        Ok(class) => Arc::new(class.clone()),
        Err(invalid) => {
            let message = format!("CounterClass {name} cannot be read: {}", invalid.error);
            if context.classes.learn(&name, ClassState::Unusable { is_default: false, message }) {
                context.trigger_class(&name);
            }
            return Ok(Action::requeue(LOOK_EVERY));
        }
    };
    let state = match access(context, &class).await? {
        Ok(access) => {
            context.keeper.reach(&name, &access)?;
            ClassState::Usable { class: class.clone(), access }
        }
        Err(message) => ClassState::Unusable { is_default: class.spec.default, message },
    };
    let ready = match &state {
        ClassState::Usable { .. } => context.keeper.check(&name).map_err(|reason| ("CassandraUnavailable", reason)),
        ClassState::Unusable { message, .. } => Err(("SecretMissing", message.clone())),
    };
    let look_again = if ready.is_ok() { LOOK_EVERY } else { LOOK_SOON };
    if context.classes.learn(&name, state) {
        context.trigger_class(&name);
    }
    // A connection that is only being made says nothing of the cluster.
    if ready.is_err() && context.keeper.is_connecting(&name) {
        return Ok(Action::requeue(LOOK_SOON));
    }
    update_status(context, &class, ready).await?;
    Ok(Action::requeue(look_again))
}

/// How its cluster is reached; `Err` says what of it is missing.
async fn access(context: &Context, class: &CounterClass) -> Result<Result<Access, String>, Error> {
    let cassandra = &class.spec.cassandra;
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &context.settings.operator_namespace);
    let read = async |field: &str, name: &str, keys: &[&str]| {
        let place = format!("{field}: Secret {name} in Kubernetes namespace {}", context.settings.operator_namespace);
        let found = match secrets.get_opt(name).await.map_err(Error::doing(format!("read Secret {name}"))) {
            // No trouble of ours: who set the class and the permissions up has to hear it, and other classes do not wait.
            Err(error) if error.refusal().is_some() => return Ok(Err(format!("{place} cannot be read: {error}"))),
            found => found?,
        };
        let Some(secret) = found else { return Ok(Err(format!("{place} is not there; it is waited for"))) };
        let data = secret.data.unwrap_or_default();
        let mut values = Vec::new();
        for key in keys {
            let value = data.get(*key).and_then(|value| String::from_utf8(value.0.clone()).ok());
            match value.filter(|value| !value.is_empty()) {
                Some(value) => values.push(value),
                None => return Ok(Err(format!("{place} has no key {key}"))),
            }
        }
        Ok::<_, Error>(Ok(values))
    };
    let mut access = Access {
        contact_points: cassandra.contact_points.clone(),
        local_datacenter: cassandra.local_datacenter.clone(),
        login: None,
        ca: None,
    };
    if let Some(name) = &cassandra.admin_credentials_secret_name {
        match read("spec.cassandra.adminCredentialsSecretName", name, &["username", "password"]).await? {
            Ok(mut values) => {
                let password = values.pop().unwrap_or_default();
                access.login = Some(Login { username: values.pop().unwrap_or_default(), password });
            }
            Err(message) => return Ok(Err(message)),
        }
    }
    if let Some(tls) = &cassandra.tls {
        match read("spec.cassandra.tls.caSecretName", &tls.ca_secret_name, &["ca.crt"]).await? {
            Ok(mut values) => access.ca = values.pop(),
            Err(message) => return Ok(Err(message)),
        }
    }
    Ok(Ok(access))
}

async fn update_status(
    context: &Context,
    class: &CounterClass,
    ready: Result<(), (&'static str, String)>,
) -> Result<(), Error> {
    let before = class.status.clone().unwrap_or_default();
    let (status, reason, message) = match ready {
        Ok(()) => ("True", "Connected", "the Cassandra cluster answers".to_owned()),
        // What the driver says of each attempt may differ; what is wrong is the same.
        Err((reason, message)) => {
            match before.conditions.iter().find(|known| known.reason == reason && known.status == "False") {
                Some(known) if reason == "CassandraUnavailable" => ("False", reason, known.message.clone()),
                _ => ("False", reason, message),
            }
        }
    };
    let unchanged = before.conditions.iter().find(|known| known.type_ == "Ready" && known.status == status);
    let now = || Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
    let generation = class.meta().generation;
    let condition = |type_: &str, status: &str| Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.clone(),
        observed_generation: generation,
        last_transition_time: unchanged.map_or_else(now, |known| known.last_transition_time.clone()),
    };
    let mut conditions = vec![condition("Ready", status)];
    if status == "False" {
        conditions.push(condition("Reconciling", "True"));
    }
    let after = CounterClassStatus { observed_generation: generation, conditions };
    if after == before {
        return Ok(());
    }
    let name = class.name_any();
    let doing = format!("write the status of CounterClass {name}");
    context.must_lead(&doing)?;
    let patch = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "CounterClass", "metadata": {"name": name}, "status": after});
    let classes: Api<CounterClass> = Api::all(context.client.clone());
    let answer =
        classes.patch_status(&name, &PatchParams::apply(names::FIELD_MANAGER).force(), &Patch::Apply(&patch)).await;
    context.metrics.wrote("CounterClass", answer.is_ok());
    answer.map(drop).map_err(Error::doing(doing))
}
