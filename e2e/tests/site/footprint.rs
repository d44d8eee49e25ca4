//! What Tallyman takes of a cluster: the size of its images, the memory of a sidecar at rest, and the time it adds to the start of a pod.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tallyman_e2e::packaging::printed;
use tallyman_e2e::site::{Area, Site, condition, images};
use tokio::time::Instant;

use crate::application::{container_security, metadata, pod_security, reader};

const IMAGES: [&str; 3] = ["tallyman-operator.tar", "tallyman-sidecar.tar", "tallyman-rollup.tar"];
const IMAGE_BYTES_MAX: u64 = 30_000_000;
const AT_REST_BYTES_MAX: u64 = 25 << 20;
/// What nobody could do anything with who got into a container.
const TOOLS: [&str; 8] = ["sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "apk"];
/// Pods that are started with a sidecar, and without.
const PODS: usize = 5;

pub async fn images_are_small_and_have_neither_shell_nor_package_manager(_site: &Site) {
    let archives = images();
    for name in IMAGES {
        let archive = archives.iter().find(|archive| archive.ends_with(name)).unwrap();
        let bytes = archive.metadata().unwrap().len();
        println!("{name}: {:.1} MB", bytes as f64 / 1e6);
        assert!(bytes < IMAGE_BYTES_MAX, "{name} has {bytes} bytes");
        let list = "for layer in $(tar -tf \"$0\" | grep '.tar$'); do tar -xOf \"$0\" $layer | tar -t; done";
        let files = printed(Command::new("sh").args(["-c", list]).arg(archive));
        assert!(files.lines().any(|file| file.ends_with(name.trim_end_matches(".tar"))), "{files}");
        let tools: Vec<&str> = files.lines().filter(|file| TOOLS.contains(&file.rsplit('/').next().unwrap())).collect();
        assert!(tools.is_empty(), "{name} has {tools:?}");
    }
}

/// Resident memory of a container, as the kubelet sees it.
async fn resident_bytes(area: &Area<'_>, pod: &str, container: &str) -> u64 {
    let node = area.get("Pod", pod).await.unwrap()["spec"]["nodeName"].as_str().unwrap().to_owned();
    area.wait_for(&format!("the kubelet's figures of {pod}"), async || {
        let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
        let summary: Value = serde_json::from_str(&area.kubectl(&["get", "--raw", &path])).unwrap();
        let pods = summary["pods"].as_array().unwrap().iter();
        let ours =
            pods.filter(|found| found["podRef"]["name"] == pod && found["podRef"]["namespace"] == area.name.as_str());
        let mut containers = ours.flat_map(|pod| pod["containers"].as_array().into_iter().flatten());
        let memory = containers.find(|found| found["name"] == container).map(|found| &found["memory"]["rssBytes"]);
        memory.and_then(Value::as_u64).ok_or_else(|| "it has none".to_owned())
    })
    .await
}

pub async fn a_sidecar_at_rest_takes_little_memory(site: &Site) {
    let _peace = site.in_peace().await;
    let area = site.area("footprint").await;
    area.declare("plays", json!({"counterType": "Eventual", "dataset": "footprint_plays", "rollup": {"replicas": 1}}))
        .await;
    area.wait_until_ready("plays").await;
    let _reader = reader(&area, "plays").await;
    let pod = area.ready_pods("app=reader").await.remove(0);
    let bytes = resident_bytes(&area, &pod, "tallyman-sidecar").await;
    println!("a sidecar at rest: {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    assert!(bytes < AT_REST_BYTES_MAX, "{bytes} bytes");
}

/// From its creation until it is ready.
async fn start(area: &Area<'_>, name: &str, metadata: Value) -> Duration {
    let container = json!({"name": "main", "image": "busybox:1.37", "command": ["sleep", "100000"], "securityContext": container_security()});
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"securityContext": pod_security(), "terminationGracePeriodSeconds": 0, "containers": [container]}});
    pod["metadata"]["name"] = json!(name);
    let began = Instant::now();
    area.try_create(pod).await.unwrap();
    area.wait_for(&format!("{name} to be ready"), async || {
        let pod = area.get("Pod", name).await?;
        let is_ready = condition(&pod, "Ready").is_some_and(|ready| ready["status"] == "True");
        if is_ready { Ok(()) } else { Err(pod["status"].to_string()) }
    })
    .await;
    let took = began.elapsed();
    area.delete("Pod", name).await;
    took
}

/// A figure, not a test of speed: it fails only if a pod does not start.
pub async fn how_much_later_a_pod_is_ready_for_its_sidecar(site: &Site) {
    let _alone = site.alone().await;
    let area = site.area("pod-start").await;
    area.declare("plays", json!({"counterType": "Eventual", "dataset": "pod_start_plays", "rollup": {"replicas": 1}}))
        .await;
    area.wait_until_ready("plays").await;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for number in 0..PODS {
        without.push(start(&area, &format!("without-{number}"), json!({"labels": {"app": "without"}})).await);
        with.push(start(&area, &format!("with-{number}"), metadata("with", "plays")).await);
    }
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        (times[PODS / 2].as_secs_f64(), times[0].as_secs_f64(), times[PODS - 1].as_secs_f64())
    };
    let (with, without) = (median(&mut with), median(&mut without));
    println!(
        "a pod is ready after {:.2} s ({:.2}–{:.2}) with a sidecar, {:.2} s ({:.2}–{:.2}) without: {:.2} s later",
        with.0,
        with.1,
        with.2,
        without.0,
        without.1,
        without.2,
        with.0 - without.0
    );
}
