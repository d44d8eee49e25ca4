//! Whether the process serves everything that it is told to: each file that is wrong and each namespace, with the reason.

use std::sync::Arc;

use tallyman_counter::backend::memcached::ServerStatus;
use tallyman_counter::configuration::Loaded;
use tallyman_counter::namespace::Namespace;
use tallyman_daemon::readiness::{CheckReport, Readiness};
use tokio::sync::watch;

use super::engine::Engine;

/// The checks of the process: it is ready when every namespace that is configured is served.
pub fn checks(engine: Arc<Engine>, loaded: watch::Receiver<Arc<Loaded>>) -> Readiness {
    Readiness::new().checks(move || configuration(&loaded.borrow())).checks(move || namespaces(&engine))
}

/// The folder and its files.
fn configuration(loaded: &Loaded) -> Vec<CheckReport> {
    const NAME: &str = "configuration";
    if loaded.namespaces.is_empty() && loaded.problems.is_empty() {
        return vec![CheckReport::failed(NAME, "no namespace is configured: there is no *.json in the folder")];
    }
    let problem = |problem| {
        let reason = format!("{problem}");
        // What was right before is in force: nothing is out of service for it.
        if loaded.has_fallback(problem) {
            CheckReport::warning(NAME, reason)
        } else {
            CheckReport::failed(NAME, reason)
        }
    };
    let problems: Vec<_> = loaded.problems.iter().map(problem).collect();
    if problems.is_empty() { vec![CheckReport::ok(NAME)] } else { problems }
}

fn namespaces(engine: &Engine) -> Vec<CheckReport> {
    let refused = engine.refused();
    let refused = refused.iter().map(|refused| {
        let name = format!("namespace {}", refused.namespace);
        if refused.has_fallback {
            let reason = format!("{}; what was right before stays in force", refused.reason);
            CheckReport::warning(name, reason)
        } else {
            CheckReport::failed(name, refused.reason.clone())
        }
    });
    let served = engine.service.namespaces();
    refused.chain(served.iter().map(|namespace| self::namespace(engine, namespace))).collect()
}

fn namespace(engine: &Engine, namespace: &Namespace) -> CheckReport {
    let name = format!("namespace {}", namespace.name());
    let silent = silent(&engine.memcached_servers(namespace));
    let Some(durable) = namespace.durable() else {
        return match silent {
            Some(Silent { reason, is_all: true }) => CheckReport::failed(name, reason),
            Some(Silent { reason, is_all: false }) => CheckReport::warning(name, reason),
            None => CheckReport::ok(name),
        };
    };
    let (dataset, health) = (&durable.dataset.name, durable.dataset.health());
    if let Some(refusal) = health.refusal() {
        return CheckReport::failed(name, format!("dataset {dataset}: {refusal}"));
    }
    let mut warnings = Vec::new();
    if let Err(reason) = health.store {
        warnings.push(format!("dataset {dataset}: the store's last answer was an error: {reason}"));
    }
    if !engine.has_rollup_server(namespace) {
        let meanwhile = "what is written is kept, and its counts come with the next sweep";
        warnings.push(format!("no rollup server can be reached: {meanwhile}"));
    }
    // Counts are the same without the cache.
    warnings.extend(silent.map(|silent| silent.reason));
    if warnings.is_empty() { CheckReport::ok(name) } else { CheckReport::warning(name, warnings.join("; ")) }
}

/// Servers that do not answer.
struct Silent {
    reason: String,
    /// None does.
    is_all: bool,
}

fn silent(servers: &[ServerStatus]) -> Option<Silent> {
    let silent: Vec<_> =
        servers.iter().filter(|server| !server.answers).map(|server| server.address.as_str()).collect();
    let (is_none, is_all) = (silent.is_empty(), silent.len() == servers.len());
    let reason = || format!("memcached does not answer at {}", silent.join(", "));
    (!is_none).then(|| Silent { reason: reason(), is_all })
}
