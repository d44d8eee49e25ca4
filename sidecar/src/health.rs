//! gRPC health: what `/readyz` says, told to clients that ask or watch by gRPC.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::readiness::Readiness;

/// The whole server, and the API.
const SERVICES: [&str; 2] = ["", "tallyman.v1.CounterService"];
/// How often readiness is asked for.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Lets `reporter` follow the readiness until the server stops; from then on nothing is served.
pub(crate) async fn follow(readiness: Arc<Readiness>, mut reporter: HealthReporter, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(FOLLOW_EVERY);
    let mut told = None;
    while !stop.is_cancelled() {
        let status = if readiness.report().ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        // Watchers hear of changes only.
        if told != Some(status) {
            tell(&reporter, status).await;
            told = Some(status);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            _ = ticks.tick() => {}
        }
    }
    tell(&reporter, ServingStatus::NotServing).await;
    // This ends the streams of watchers, on which connections would wait for ever.
    for service in SERVICES {
        reporter.clear_service_status(service).await;
    }
}

async fn tell(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}
