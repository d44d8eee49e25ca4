//! The process `tallyman-operator`, from its options to its end.
//!
//! Every replica serves the admin pages and the webhook; one at a time leads. Who loses the lease stops all its work at once and
//! stands for it again.

use std::sync::Arc;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Config};
use prometheus_client::registry::Registry;
use tallyman_counter::clock::SystemClock;
use tallyman_daemon::admin::Admin;
use tallyman_daemon::connections::{BindError, bind};
use tallyman_daemon::process::shutdown;
use tallyman_daemon::readiness::Readiness;
use tokio_util::sync::CancellationToken;

use crate::arguments::Arguments;
use crate::build::Images;
use crate::controller::{self, Parts, Settings};
use crate::inject;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::passwords::{self, PasswordKey};
use crate::webhook_service;

/// How long a request to the Kubernetes API may take. Watches are begun anew in less.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// After the leader could not begin.
const AGAIN: Duration = Duration::from_secs(5);
/// How long giving the lease up may take.
const RESIGNATION: Duration = Duration::from_secs(5);

/// Why the operator did not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot hear signals.
    #[error("cannot listen to signals: {0}")]
    Signals(std::io::Error),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// There is no way to Kubernetes.
    #[error("cannot reach Kubernetes: {0}")]
    Kubernetes(String),
}

/// Works until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot begin: an address that cannot be listened on, no way to Kubernetes.
pub async fn serve(arguments: Arguments) -> Result<(), Error> {
    let shutdown = shutdown().map_err(Error::Signals)?;
    let (admin_listener, admin_address) = bind(arguments.admin, "the admin pages").await?;
    let (webhook_listener, webhook_address) = bind(arguments.webhook, "the API server").await?;
    let client = client().await?;
    let identity = arguments.identity.clone().unwrap_or_else(identity);
    let leadership =
        Leadership::new(client.clone(), &arguments.operator_namespace, &identity, arguments.lease_duration);
    let mut registry = Registry::default();
    let metrics = Metrics::registered(&mut registry);
    let reporter = Reporter { controller: "tallyman-operator".to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    let sidecar = injection(&arguments);
    let webhook = webhook_service::Webhook::new(&arguments, client.clone(), recorder.clone(), sidecar, &mut registry);

    let [leaving, stop, ended] = std::array::from_fn(|_| CancellationToken::new());
    let readiness = Readiness::new().check("webhook", webhook.readiness());
    let admin = Admin { readiness: Arc::new(readiness), registry: Arc::new(registry), stop: leaving.clone() };
    let admin = tokio::spawn(admin.serve(admin_listener, ended.clone()));
    tracing::info!(%identity, admin = %admin_address, webhook = %webhook_address, namespace = %arguments.operator_namespace, watching = ?arguments.watch_namespaces, "serving");

    let serving_webhook = tokio::spawn(webhook.serve(webhook_listener, leaving.clone(), stop.clone()));
    tokio::select! {
        () = shutdown => {}
        () = lead_and_wait(&arguments, &client, &leadership, &metrics, &recorder) => {}
        () = leadership.campaign() => {}
    }
    tracing::info!("going away");
    leaving.cancel();
    // Nothing of the leader's work goes on by now; whoever is next need not wait.
    let _ = tokio::time::timeout(RESIGNATION, leadership.resign()).await;
    // Until nobody leads API servers here any more.
    tokio::time::sleep(arguments.webhook_linger).await;
    stop.cancel();
    for task in [serving_webhook] {
        if let Err(error) = task.await {
            tracing::error!(%error, "a task ended badly");
        }
    }
    ended.cancel();
    if let Err(error) = admin.await {
        tracing::error!(%error, "the admin pages ended badly");
    }
    Ok(())
}

/// Leads whenever the lease is held.
async fn lead_and_wait(
    arguments: &Arguments,
    client: &Client,
    leadership: &Leadership,
    metrics: &Arc<Metrics>,
    recorder: &Recorder,
) {
    loop {
        metrics.leads(false);
        leadership.taken().await;
        metrics.leads(true);
        tokio::select! {
            () = leadership.lost() => tracing::warn!("the lease was lost; all work stops"),
            () = lead(arguments, client, leadership, metrics, recorder) => {}
        }
    }
}

async fn lead(
    arguments: &Arguments,
    client: &Client,
    leadership: &Leadership,
    metrics: &Arc<Metrics>,
    recorder: &Recorder,
) {
    let passwords = loop {
        match PasswordKey::of_cluster(client.clone(), &arguments.operator_namespace).await {
            Ok(key) => break key,
            Err(error) => {
                tracing::error!(%error, secret = passwords::KEY_SECRET, "cannot lead without a key; it is tried again")
            }
        }
        tokio::time::sleep(AGAIN).await;
    };
    let parts = Parts {
        client: client.clone(),
        settings: Settings {
            operator_namespace: arguments.operator_namespace.clone(),
            release: images(arguments),
            injection: injection(arguments),
        },
        leadership: leadership.clone(),
        clock: Arc::new(SystemClock::new()),
        passwords,
        metrics: metrics.clone(),
        recorder: recorder.clone(),
        watch_namespaces: arguments.watch_namespaces.clone(),
    };
    let certificates = webhook_service::keep_certificates(arguments, client);
    tokio::join!(controller::run(parts), certificates);
}

fn images(arguments: &Arguments) -> Images {
    let release = Images::of_release();
    Images {
        sidecar: arguments.sidecar_image.clone().unwrap_or(release.sidecar),
        rollup: arguments.rollup_image.clone().unwrap_or(release.rollup),
        memcached: arguments.memcached_image.clone().unwrap_or(release.memcached),
    }
}

fn injection(arguments: &Arguments) -> inject::Settings {
    inject::Settings::new(images(arguments).sidecar)
}

fn identity() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}-{}", uuid::Uuid::now_v7().simple())
}

async fn client() -> Result<Client, Error> {
    let mut config = match Config::incluster() {
        Ok(config) => config,
        Err(outside) => {
            let no_way = |error| Error::Kubernetes(format!("{error}; and this is no pod: {outside}"));
            let kubeconfig = Kubeconfig::read().map_err(no_way)?;
            let options = KubeConfigOptions::default();
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(|error| Error::Kubernetes(error.to_string()))?
        }
    };
    config.read_timeout = None;
    config.connect_timeout = Some(REQUEST_LIMIT);
    Client::try_from(config).map_err(|error| Error::Kubernetes(error.to_string()))
}
