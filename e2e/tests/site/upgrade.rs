//! The operator of the commit before this one is upgraded by helm to this one's, and goes back: nothing but the operator is restarted
//! until somebody asks, the webhook answers all the time, and an application that goes on counting loses no add.
//!
//! The resource types are this commit's throughout: docs/upgrade.md has them upgraded first, and go back last.

use std::collections::BTreeMap;
use std::ops::RangeFrom;
use std::process::Command;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::{Value, json};
use tallyman_e2e::packaging::printed;
use tallyman_e2e::site::{Area, Previous, SYSTEM, Site, condition};

use crate::application::{container_security, counting, metadata, pod_security, reader};
use crate::tally::Tally;

const APPLICATION: &str = "app=counting";
const OPERATORS: &str = "app.kubernetes.io/component=operator";
const ROLLUP_SERVERS: &str = "app.kubernetes.io/component=rollup";
const STATEFUL_SETS: [&str; 2] = ["plays-rollup", "plays-cache-0"];
/// Of the application, while a state lasts.
const ADDS_MIN: u64 = 50;

/// The name of an image of this commit's.
fn image(program: &str) -> String {
    format!("ghcr.io/tallyman/{program}:{}", env!("CARGO_PKG_VERSION"))
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn helm(site: &Site, arguments: &[&str]) -> Command {
    let mut command = site.tool("helm");
    command.args(arguments).args(["--namespace", SYSTEM]);
    command
}

/// Pods that are replaced one after the other: so many at least are not ending.
fn are_living(pods: &[Value], range: RangeFrom<usize>) {
    let living = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).count();
    assert!(range.contains(&living), "{living} pods, where {range:?} are to be there: {}", states(pods));
}

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
}

fn states(pods: &[Value]) -> String {
    let state = |pod: &Value| {
        let (metadata, image) = (&pod["metadata"], &pod["spec"]["containers"][0]["image"]);
        format!("{} {image} ready: {}, ending: {}", metadata["name"], is_ready(pod), metadata["deletionTimestamp"])
    };
    pods.iter().map(state).collect::<Vec<_>>().join("; ")
}

/// Waits until these pods, and no others with these labels, are ready and run an image.
async fn succeeded(area: &Area<'_>, labels: &str, replicas: usize, image: &str, look: impl AsyncFn(&[Value])) {
    area.wait_for(&format!("{replicas} pods of {labels} to run {image}"), async || {
        let pods = area.list("Pod", labels).await;
        look(&pods).await;
        let has_image = |pod: &Value| pod["spec"]["containers"][0]["image"] == image;
        let is_done = pods.len() == replicas && pods.iter().all(|pod| has_image(pod) && is_ready(pod));
        if is_done { Ok(()) } else { Err(states(&pods)) }
    })
    .await;
}

/// Has helm replace the operators: one after the other, and the webhook answers meanwhile.
async fn replace_operators(area: &Area<'_>, mut helm: Command, image: &str) {
    let system = area.site.existing(SYSTEM);
    let deployment = system.get("Deployment", "tallyman-operator").await.unwrap();
    let replicas = usize::try_from(deployment["spec"]["replicas"].as_u64().unwrap()).unwrap();
    let helm = tokio::task::spawn_blocking(move || printed(&mut helm));
    succeeded(&system, OPERATORS, replicas, image, async |pods| {
        are_living(pods, replicas..);
        webhook_answers(area).await;
    })
    .await;
    helm.await.unwrap();
    system.wait_for_rollout("Deployment", "tallyman-operator").await;
}

/// A pod that asks for a sidecar would get one.
async fn webhook_answers(area: &Area<'_>) {
    let container = json!({"name": "main", "image": "busybox:1.37", "securityContext": container_security()});
    let mut metadata = metadata("asks", "plays");
    metadata["name"] = json!("asks");
    let pod: Pod = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"securityContext": pod_security(), "containers": [container]}}))
    .unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let pod = area.wait_for("an answer about a pod", async || match area.pods().create(&dry_run, &pod).await {
        // The API server's own, such as that its webhook does not answer.
        Err(kube::Error::Api(refused)) => panic!("a pod was refused: {refused}"),
        answer => answer.map_err(|error| error.to_string()),
    });
    let pod = pod.await;
    assert!(sidecar_image(&serde_json::to_value(&pod).unwrap()).is_some(), "without a sidecar: {pod:?}");
}

fn sidecar_image(pod: &Value) -> Option<String> {
    let mut containers = pod["spec"]["initContainers"].as_array()?.iter();
    Some(text_of(&containers.find(|container| container["name"] == "tallyman-sidecar")?["image"]))
}

/// Waits until the application's new pods are there alone, and asserts that their sidecars have this image.
async fn sidecars_run(area: &Area<'_>, image: &str) {
    let replicas = area.wait_for_rollout("Deployment", "counting").await;
    let pods = area.wait_for("the new pods alone", async || {
        let pods = area.list("Pod", APPLICATION).await;
        if pods.len() as u64 == replicas { Ok(pods) } else { Err(states(&pods)) }
    });
    let pods = pods.await;
    let images: Vec<_> = pods.iter().filter_map(sidecar_image).collect();
    assert_eq!(images, vec![image; pods.len()]);
}

/// What an upgrade of the operator is not to touch.
#[derive(Debug, PartialEq)]
struct Workloads {
    instances: Vec<String>,
    templates: BTreeMap<&'static str, Value>,
    images: Value,
}

impl Workloads {
    async fn of(area: &Area<'_>) -> Self {
        let mut templates = BTreeMap::new();
        for name in STATEFUL_SETS {
            templates.insert(name, area.get("StatefulSet", name).await.unwrap()["spec"]["template"].clone());
        }
        let status = area.get("CounterNamespace", "plays").await.unwrap()["status"].clone();
        let images = json!([status["images"]["rollup"], status["images"]["memcached"]]);
        Self { instances: area.instances("").await, templates, images }
    }
}

/// Waits until the operator that has come says that other images than those that run are its own.
async fn update_is_available(area: &Area<'_>, rollup_image: &str) {
    let told = area.wait_for_condition("plays", "ImagesCurrent", "False").await;
    assert_eq!(told["reason"], "UpdateAvailable", "{told}");
    assert!(text_of(&told["message"]).contains(&format!("rollup {rollup_image} instead of")), "{told}");
    let told = area.wait_for_condition("plays", "SidecarsCurrent", "False").await;
    assert_eq!(told["reason"], "SidecarsOld", "{told}");
    area.wait_until_ready("plays").await;
}

async fn all_is_current(area: &Area<'_>) {
    for kind in ["ImagesCurrent", "SidecarsCurrent"] {
        let told = area.wait_for_condition("plays", kind, "True").await;
        assert_eq!(told["reason"], "Current", "{told}");
    }
    area.wait_until_ready("plays").await;
}

async fn follow_release(area: &Area<'_>, follow: Value) {
    let annotations = json!({"tallyman.dev/follow-release": follow});
    area.patch("CounterNamespace", "plays", json!({"metadata": {"annotations": annotations}})).await;
}

/// To this commit's.
fn upgrade(site: &Site) -> Command {
    // What was set for the previous one.
    let sets = ["image.tag=", "dataPlane.sidecarImage=", "dataPlane.rollupImage="].map(|set| ["--set", set]);
    helm(
        site,
        &[&["upgrade", "tallyman", "charts/tallyman", "--reset-then-reuse-values"], sets.as_flattened()].concat(),
    )
}

async fn play(area: &Area<'_>, previous: &Previous) {
    let site = area.site;
    let [operator, sidecar, rollup] = ["tallyman-operator", "tallyman-sidecar", "tallyman-rollup"].map(image);
    let [operator_before, sidecar_before, rollup_before] = Previous::IMAGES.map(str::to_owned);
    let chart = previous.chart("tallyman");
    let sets = [
        "image.tag=previous".to_owned(),
        format!("dataPlane.sidecarImage={sidecar_before}"),
        format!("dataPlane.rollupImage={rollup_before}"),
    ];
    let mut install = helm(site, &["upgrade", "tallyman"]);
    install.arg(chart).arg("--reset-then-reuse-values").args(sets.iter().flat_map(|set| ["--set", set]));
    replace_operators(area, install, &operator_before).await;
    let spec = json!({"counterType": "Accurate", "dataset": "upgrade_plays", "cache": {"replicas": 1, "shards": 1}, "eventStore": {"acceptLimit": "1m"}});
    area.declare("plays", spec).await;
    area.wait_until_ready("plays").await;
    let tally = Tally::begin(area);
    counting(area, "plays", 2).await;
    sidecars_run(area, &sidecar_before).await;
    tally.wait_for_more(area, ADDS_MIN).await;

    let before = Workloads::of(area).await;
    assert_eq!(before.images[0], rollup_before);
    replace_operators(area, upgrade(site), &operator).await;
    update_is_available(area, &rollup).await;
    tally.wait_for_more(area, ADDS_MIN).await;
    assert_eq!(Workloads::of(area).await, before, "the upgrade is not to touch them");

    let of_application = area.instances(APPLICATION).await;
    let servers = area.list("Pod", ROLLUP_SERVERS).await.len();
    follow_release(area, json!("true")).await;
    succeeded(area, ROLLUP_SERVERS, servers, &rollup, async |pods| are_living(pods, servers - 1..)).await;
    let told = area.wait_for_condition("plays", "ImagesCurrent", "True").await;
    assert_eq!(told["reason"], "Current", "{told}");
    area.wait_until_ready("plays").await;
    assert_eq!(area.instances(APPLICATION).await, of_application, "sidecars are replaced with their pods only");
    tally.wait_for_more(area, ADDS_MIN).await;

    area.kubectl(&["rollout", "restart", "deployment/counting"]);
    sidecars_run(area, &sidecar).await;
    all_is_current(area).await;
    tally.wait_for_more(area, ADDS_MIN).await;

    // With the annotation, it would follow the operator's release back. Without, going back touches as little as going forth.
    follow_release(area, Value::Null).await;
    let before = Workloads::of(area).await;
    assert_eq!(before.images[0], rollup);
    replace_operators(area, helm(site, &["rollback", "tallyman"]), &operator_before).await;
    update_is_available(area, &rollup_before).await;
    tally.wait_for_more(area, ADDS_MIN).await;
    assert_eq!(Workloads::of(area).await, before, "going back is not to touch them");

    replace_operators(area, upgrade(site), &operator).await;
    all_is_current(area).await;
    tally.wait_for_more(area, ADDS_MIN).await;
    assert_eq!(Workloads::of(area).await, before, "the second upgrade is not to touch them");

    let total = tally.finish(area).await;
    let reader = reader(area, "plays").await;
    total.is_counted(area, "plays", &reader).await;
    println!("{} adds, all of which were acknowledged", total.added);
}

/// What helm installed.
fn installed(site: &Site) -> String {
    printed(&mut helm(site, &["get", "manifest", "tallyman"]))
}

pub async fn an_upgrade_restarts_the_operator_alone_until_it_is_asked_for_more_and_no_add_is_lost(site: &Site) {
    if !site.is_our_own() {
        println!(
            "not tried: the images of the previous commit cannot be brought to the nodes of a cluster that is not our own"
        );
        return;
    }
    let previous = tokio::task::spawn_blocking(Previous::built).await.unwrap();
    site.load_images(&previous.images());
    let manifest = installed(site);
    play(&site.area("upgrade").await, &previous).await;
    assert_eq!(installed(site), manifest, "the site is to be as it was found");
}
