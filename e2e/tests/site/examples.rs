//! The examples, as somebody applies them who tries Tallyman.

use serde_json::json;
use tallyman_e2e::packaging::printed;
use tallyman_e2e::site::{Area, Site};

/// Each writes the counter of its name.
const APPLICATIONS: [&str; 3] = ["curl", "python", "go"];
const NAMESPACES: [&str; 3] = ["video-plays", "account-credits", "page-views"];

/// The highest count that an application has printed: `NAME added 1, count N`.
async fn count(area: &Area<'_>, application: &str) -> Result<i64, String> {
    let pod = area.ready_pods(&format!("app={application}")).await.remove(0);
    let log = area.log(&pod, application).await?;
    let counts: Vec<i64> = log.lines().filter_map(|line| line.rsplit_once("count ")?.1.parse().ok()).collect();
    let (adds, highest) = (log.lines().filter(|line| line.contains(" added 1")).count(), counts.iter().max());
    let highest = *highest.ok_or_else(|| format!("no count in: {log}"))?;
    assert!(usize::try_from(highest).unwrap() <= adds, "more than was added: {log}");
    Ok(highest)
}

pub async fn the_development_overlay_counts_in_three_languages(site: &Site) {
    let class = site.find_class().await;
    let apply = ["apply", "--server-side", "--force-conflicts", "--kustomize", "examples/overlays/development"];
    printed(site.tool("kubectl").args(apply));
    let area = site.existing("shop");
    for name in NAMESPACES {
        area.wait_until_ready(name).await;
    }
    area.wait_for_rollout("Deployment", "player").await;
    for application in APPLICATIONS {
        area.wait_for_rollout("Deployment", application).await;
        // Counts of Eventual counters come after some seconds: several adds must be in what it reads.
        area.wait_for(&format!("{application} to see its counts rise"), async || {
            let seen = count(&area, application).await?;
            if seen >= 3 { Ok(()) } else { Err(format!("{seen}")) }
        })
        .await;
    }
    site.apply(json!({"apiVersion": "tallyman.dev/v1alpha1", "kind": "CounterClass", "metadata": {"name": "default"}, "spec": class})).await;
}
