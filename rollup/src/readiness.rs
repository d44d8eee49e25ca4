//! Whether the process rolls up everything that it is told to: each file that is wrong, each namespace and each dataset, with
//! the reason.

use std::sync::Arc;

use tallyman_counter::configuration::Loaded;
use tallyman_daemon::readiness::{CheckReport, Readiness};
use tokio::sync::watch;

use crate::engine::Engine;
use crate::tls::Tls;

/// The checks of the process.
pub fn checks(engine: Arc<Engine>, loaded: watch::Receiver<Arc<Loaded>>, tls: Option<Arc<Tls>>) -> Readiness {
    let datasets = engine.clone();
    Readiness::new()
        .checks(move || configuration(&loaded.borrow()))
        .checks(move || namespaces(&engine))
        .checks(move || self::datasets(&datasets))
        .checks(move || tls.iter().map(|tls| certificates(tls)).collect())
}

/// What sidecars connect by.
fn certificates(tls: &Tls) -> CheckReport {
    const NAME: &str = "certificates";
    match (tls.problem(), tls.is_usable()) {
        (None, _) => CheckReport::ok(NAME),
        // Sidecars get in as before, until what is in use is too old.
        (Some(problem), true) => CheckReport::warning(NAME, format!("{problem}; what was right before stays in force")),
        (Some(problem), false) => CheckReport::failed(NAME, format!("{problem}; no sidecar can connect")),
    }
}

/// The folder and its files.
fn configuration(loaded: &Loaded) -> Vec<CheckReport> {
    const NAME: &str = "configuration";
    if loaded.namespaces.is_empty() && loaded.problems.is_empty() {
        return vec![CheckReport::failed(NAME, "no namespace is configured: there is no *.json in the folder")];
    }
    if loaded.problems.is_empty() {
        return vec![CheckReport::ok(NAME)];
    }
    let report = |problem| {
        let reason = format!("{problem}");
        // What was right before is in force: nothing stands still for it.
        if loaded.has_fallback(problem) {
            CheckReport::warning(NAME, reason)
        } else {
            CheckReport::failed(NAME, reason)
        }
    };
    loaded.problems.iter().map(report).collect()
}

fn namespaces(engine: &Engine) -> Vec<CheckReport> {
    let refused = engine.refused();
    let refused = refused.iter().map(|refused| {
        let name = format!("namespace {}", refused.namespace);
        if refused.has_fallback {
            CheckReport::warning(name, format!("{}; what was right before stays in force", refused.reason))
        } else {
            CheckReport::failed(name, refused.reason.clone())
        }
    });
    let namespaces = engine.rollups.namespaces();
    let served = namespaces.iter().map(|namespace| {
        let name = format!("namespace {}", namespace.name());
        if engine.is_named_by(namespace) {
            return CheckReport::ok(name);
        }
        let endpoints = namespace.durable().map(|durable| durable.settings.rollup_endpoints.join(", "));
        CheckReport::warning(
            name,
            format!(
                "this server is named {}, which is none of its rollup_endpoints ({}): it rolls up only what those leave",
                engine.rollups.name(),
                endpoints.unwrap_or_default()
            ),
        )
    });
    refused.chain(served).collect()
}

fn datasets(engine: &Engine) -> Vec<CheckReport> {
    let report = |dataset: &Arc<tallyman_counter::dataset::Dataset>| {
        let (name, health) = (format!("dataset {}", dataset.name), dataset.health());
        match (health.refusal(), health.store) {
            (Some(refusal), _) => CheckReport::failed(name, refusal.to_string()),
            (None, Err(reason)) => {
                CheckReport::warning(name, format!("the store's last answer was an error: {reason}"))
            }
            (None, Ok(())) => CheckReport::ok(name),
        }
    };
    engine.datasets().iter().map(report).collect()
}
