//! The webhook as this process serves it: what it is told of the cluster, Events for pods that run without a sidecar, and its
//! certificate: read by every replica, made anew by the leader.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DeserializeGuard, DynamicObject};
use kube::runtime::events::{EventType, Recorder};
use kube::{Api, Client, ResourceExt};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tallyman_crds::{CounterClass, CounterNamespace};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::arguments::Arguments;
use crate::certificates::webhook::{Webhook as Certificates, renew};
use crate::controller::events;
use crate::inject::{self, Settings};
use crate::webhook::tls::ServerCertificate;
use crate::webhook::{self, Handler, Lookup, Metrics, OnSkipped, Resources, SkippedPod};

/// The Secret with the webhook's certificate, in the operator's Kubernetes namespace.
const SECRET: &str = "tallyman-webhook-certificates";
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// While there is no certificate.
const LOOK_SOON: Duration = Duration::from_secs(1);
/// How long what was read of the cluster is good for: many resources are often applied at once.
const RESOURCES_FRESH: Duration = Duration::from_secs(1);
/// How long reading it may take: the API server waits.
const RESOURCES_LIMIT: Duration = Duration::from_secs(2);

/// Where the certificate comes from.
enum Source {
    Folder(PathBuf),
    Secret(Box<Api<Secret>>),
}

/// The webhook of this process.
pub struct Webhook {
    certificate: Arc<ServerCertificate>,
    handler: Handler,
    source: Source,
}

impl Webhook {
    /// Sets it up.
    pub fn new(
        arguments: &Arguments,
        client: Client,
        recorder: Recorder,
        sidecar: Settings,
        registry: &mut Registry,
    ) -> Self {
        let metrics = Metrics::register(registry);
        let certificate = ServerCertificate::none(metrics.certificate_not_after());
        let source = match &arguments.webhook_certificates_dir {
            Some(folder) => Source::Folder(folder.clone()),
            None => Source::Secret(Box::new(Api::namespaced(client.clone(), &arguments.operator_namespace))),
        };
        let lookup = Cluster { client, watching: arguments.watch_namespaces.clone(), sidecar, read: Mutex::default() };
        let handler = Handler { lookup: Arc::new(lookup), on_skipped: told_as_event(recorder), metrics };
        Self { certificate, handler, source }
    }

    /// Whether it can be reached.
    pub fn readiness(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let certificate = self.certificate.clone();
        move || if certificate.is_there() { Ok(()) } else { Err("it has no certificate yet".to_owned()) }
    }

    /// Serves until `stop`, before which it is `leaving`.
    pub async fn serve(self, listener: TcpListener, leaving: CancellationToken, stop: CancellationToken) {
        let certificate = self.certificate.clone();
        let following = async {
            match &self.source {
                Source::Folder(folder) => certificate.follow(folder, stop.clone()).await,
                Source::Secret(secrets) => {
                    tokio::select! {
                        () = follow_secret(secrets, &certificate) => {}
                        () = stop.cancelled() => {}
                    }
                }
            }
        };
        let serving = webhook::serve(listener, self.certificate.clone(), self.handler, leaving, stop.clone());
        tokio::join!(following, serving);
    }
}

async fn follow_secret(secrets: &Api<Secret>, certificate: &ServerCertificate) {
    loop {
        match secrets.get_opt(SECRET).await {
            Ok(secret) => {
                let found = secret.and_then(|secret| secret.data).and_then(|data| Certificates::from_data(&data));
                if let Some(found) = found
                    && let Err(error) = certificate.show(&found.server)
                {
                    tracing::warn!(%error, secret = SECRET, "the webhook's new certificate cannot be used");
                }
            }
            Err(error) => tracing::warn!(%error, secret = SECRET, "the webhook's certificate cannot be read"),
        }
        tokio::time::sleep(if certificate.is_there() { LOOK_EVERY } else { LOOK_SOON }).await;
    }
}

/// The leader's part: makes the certificate anew in time, and tells the API server whom to trust. Ends never, and does nothing where
/// somebody else keeps the certificate.
pub async fn keep_certificates(arguments: &Arguments, client: &Client) {
    if arguments.webhook_certificates_dir.is_some() {
        return std::future::pending().await;
    }
    loop {
        if let Err(error) = keep_once(arguments, client).await {
            tracing::warn!(error, "the webhook's certificate could not be kept");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn keep_once(arguments: &Arguments, client: &Client) -> Result<(), String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &arguments.operator_namespace);
    let words = |error: kube::Error| error.to_string();
    let secret = secrets.get_opt(SECRET).await.map_err(words)?;
    let data = secret.as_ref().and_then(|secret| secret.data.as_ref());
    let existing = data.and_then(Certificates::from_data);
    let service = format!("{}.{}.svc", arguments.webhook_service, arguments.operator_namespace);
    let renewed = renew(existing.as_ref(), &[service], Timestamp::now()).map_err(|error| error.to_string())?;
    let current = match renewed {
        None => existing,
        Some(renewed) => {
            let metadata = ObjectMeta {
                name: Some(SECRET.to_owned()),
                // Another leader's is not overwritten.
                resource_version: secret.as_ref().and_then(ResourceExt::resource_version),
                ..ObjectMeta::default()
            };
            let written = Secret { metadata, data: Some(renewed.certificates.to_data()), ..Secret::default() };
            let answer = match secret {
                Some(_) => secrets.replace(SECRET, &PostParams::default(), &written).await,
                None => secrets.create(&PostParams::default(), &written).await,
            };
            answer.map_err(words)?;
            tracing::info!(reason = %renewed.reason, "made the webhook's certificate");
            Some(renewed.certificates)
        }
    };
    let Some(current) = current else { return Ok(()) };
    let bundle = serde_json::to_value(current.ca_bundle()).map_err(|error| error.to_string())?;
    for resource in [
        ApiResource::erase::<MutatingWebhookConfiguration>(&()),
        ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
    ] {
        tell(client, &resource, &arguments.webhook_configuration, &bundle).await.map_err(words)?;
    }
    Ok(())
}

/// Has a webhook configuration trust `bundle`, if there is one of this name.
async fn tell(client: &Client, resource: &ApiResource, name: &str, bundle: &Value) -> kube::Result<()> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let Some(mut found) = api.get_opt(name).await? else { return Ok(()) };
    let mut is_told = true;
    for webhook in found.data["webhooks"].as_array_mut().into_iter().flatten() {
        let config = &mut webhook["clientConfig"];
        if config["caBundle"] != *bundle {
            config["caBundle"] = bundle.clone();
            is_told = false;
        }
    }
    if is_told {
        return Ok(());
    }
    let patch = json!({"metadata": {"resourceVersion": found.resource_version()}, "webhooks": found.data["webhooks"]});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    tracing::info!(kind = %resource.kind, name, "told the API server whom to trust as the webhook");
    Ok(())
}

/// The cluster as the webhook asks it: what was read a moment ago is good enough, as the controller judges again.
struct Cluster {
    client: Client,
    watching: Vec<String>,
    sidecar: Settings,
    read: Mutex<Option<(Instant, Resources)>>,
}

#[async_trait]
impl Lookup for Cluster {
    async fn sidecar(&self, kubernetes_namespace: &str, counter_namespaces: &BTreeSet<String>) -> Settings {
        let Some(resources) = self.resources().await else { return self.sidecar.clone() };
        let classes = counter_namespaces.iter().filter_map(|name| {
            let is_it = |namespace: &&Arc<CounterNamespace>| {
                namespace.name_any() == *name && namespace.namespace().as_deref() == Some(kubernetes_namespace)
            };
            let namespace = resources.namespaces.iter().find(is_it)?;
            let pinned = || namespace.status.as_ref().and_then(|status| status.class_name.clone());
            let class = namespace.spec.class_name.clone().or_else(pinned);
            resources
                .classes
                .iter()
                .find(|known| class.as_ref().map_or(known.spec.default, |class| known.name_any() == *class))
        });
        self.sidecar.of_classes(classes.map(|class| &**class))
    }

    async fn resources(&self) -> Option<Resources> {
        let mut read = self.read.lock().await;
        if let Some((at, resources)) = &*read
            && at.elapsed() < RESOURCES_FRESH
        {
            return Some(resources.clone());
        }
        let resources = match tokio::time::timeout(RESOURCES_LIMIT, self.list()).await {
            Ok(resources) => resources,
            Err(_) => {
                tracing::warn!(limit = ?RESOURCES_LIMIT, "the webhook cannot look at other resources in time");
                return None;
            }
        };
        let resources =
            resources.inspect_err(|error| tracing::warn!(%error, "the webhook cannot look at other resources"));
        let resources = resources.ok()?;
        *read = Some((Instant::now(), resources.clone()));
        Some(resources)
    }
}

impl Cluster {
    async fn list(&self) -> kube::Result<Resources> {
        let everything = ListParams::default();
        let all: Vec<Api<DeserializeGuard<CounterNamespace>>> = if self.watching.is_empty() {
            vec![Api::all(self.client.clone())]
        } else {
            self.watching.iter().map(|name| Api::namespaced(self.client.clone(), name)).collect()
        };
        let mut resources = Resources::default();
        for api in all {
            let found = api.list(&everything).await?;
            resources.namespaces.extend(found.items.into_iter().filter_map(|guarded| guarded.0.ok()).map(Arc::new));
        }
        let classes: Api<DeserializeGuard<CounterClass>> = Api::all(self.client.clone());
        let found = classes.list(&everything).await?;
        resources.classes.extend(found.items.into_iter().filter_map(|guarded| guarded.0.ok()).map(Arc::new));
        Ok(resources)
    }
}

fn told_as_event(recorder: Recorder) -> OnSkipped {
    Arc::new(move |skipped: SkippedPod| {
        let recorder = recorder.clone();
        tokio::spawn(async move {
            let SkippedPod { kubernetes_namespace, name, owner, reason } = skipped;
            // The pod itself does not exist yet: who made it is told.
            let regarding = match owner {
                Some(owner) => ObjectReference {
                    api_version: Some(owner.api_version),
                    kind: Some(owner.kind),
                    name: Some(owner.name),
                    namespace: Some(kubernetes_namespace),
                    uid: Some(owner.uid),
                    ..ObjectReference::default()
                },
                None => ObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(name),
                    namespace: Some(kubernetes_namespace),
                    ..ObjectReference::default()
                },
            };
            let event = events::event(EventType::Warning, "SidecarNotInjected", &reason);
            if let Err(error) = recorder.publish(&event, &regarding).await {
                tracing::debug!(%error, "an Event could not be published");
            }
        });
    })
}

impl Settings {
    /// The same as the classes of a pod's CounterNamespaces have it: the first that says something, in the order of their names.
    #[must_use]
    pub fn of_classes<'a>(&self, classes: impl Iterator<Item = &'a CounterClass>) -> inject::Settings {
        let (mut image, mut resources) = (None, None);
        for class in classes {
            image = image.or_else(|| class.spec.images.as_ref().and_then(|images| images.sidecar.clone()));
            let defaults = class.spec.defaults.as_ref();
            resources = resources.or_else(|| defaults.and_then(|defaults| defaults.sidecar_resources.clone()));
        }
        inject::Settings {
            image: image.unwrap_or_else(|| self.image.clone()),
            resources: resources
                .map_or_else(|| self.resources.clone(), |resources| crate::build::requirements(&resources)),
        }
    }
}
