//! An application is rolled while it counts.

use serde_json::json;
use tallyman_e2e::site::Site;

use crate::application::{counting, reader};
use crate::tally::Tally;

pub async fn no_add_is_lost_or_doubled_when_an_application_is_rolled(site: &Site) {
    let area = site.area("restart").await;
    area.declare("plays", json!({"counterType": "Accurate", "dataset": "restart_plays", "rollup": {"replicas": 1}, "eventStore": {"acceptLimit": "1m"}}))
        .await;
    area.wait_until_ready("plays").await;
    let reader = reader(&area, "plays").await;
    let tally = Tally::begin(&area);
    counting(&area, "plays", 3).await;
    tally.wait_for_more(&area, 100).await;
    for _ in 0..2 {
        area.kubectl(&["rollout", "restart", "deployment/counting"]);
        area.wait_for_rollout("Deployment", "counting").await;
        tally.wait_for_more(&area, 100).await;
    }
    let total = tally.finish(&area).await;
    assert!(total.pods >= 9, "{} pods", total.pods);
    total.is_counted(&area, "plays", &reader).await;
    total.sidecars_were_there_all_the_time();
}
