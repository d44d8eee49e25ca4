//! gRPC health: what `/readyz` says, told to clients that ask or watch by gRPC.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::readiness::Readiness;

/// How often readiness is asked for.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Lets `reporter` follow the readiness, for each of `services` (the empty name is the whole server), until the server stops;
/// from then on nothing is served.
pub async fn follow(
    services: &'static [&'static str],
    readiness: Arc<Readiness>,
    mut reporter: HealthReporter,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(FOLLOW_EVERY);
    let mut told = None;
    while !stop.is_cancelled() {
        let status = if readiness.report().ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        // Watchers hear of changes only.
        if told != Some(status) {
            tell(services, &reporter, status).await;
            told = Some(status);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            _ = ticks.tick() => {}
        }
    }
    tell(services, &reporter, ServingStatus::NotServing).await;
    // This ends the streams of watchers, on which connections would wait for ever.
    for service in services {
        reporter.clear_service_status(service).await;
    }
}

async fn tell(services: &[&str], reporter: &HealthReporter, status: ServingStatus) {
    for service in services {
        reporter.set_service_status(service, status).await;
    }
}
