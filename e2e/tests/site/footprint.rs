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
/// Pods of each kind that are started.
const PODS: usize = 5;
const SECOND: Duration = Duration::from_secs(1);

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

/// Resident memory of a container, as the kubelet sees it at some time from now on.
async fn resident_bytes(area: &Area<'_>, pod: &str, container: &str) -> u64 {
    let node = area.get("Pod", pod).await.unwrap()["spec"]["nodeName"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/nodes/{node}/proxy/stats/summary");
    let memory = async || -> Result<(String, u64), String> {
        let summary = area.site.tool("kubectl").args(["get", "--raw", &path]).output().unwrap();
        let complaint = |error| format!("{error}: {}", String::from_utf8_lossy(&summary.stderr));
        let summary: Value = serde_json::from_slice(&summary.stdout).map_err(complaint)?;
        let is_ours =
            |found: &&Value| found["podRef"]["name"] == pod && found["podRef"]["namespace"] == area.name.as_str();
        let pod = summary["pods"].as_array().unwrap().iter().find(is_ours).ok_or("it has none of the pod")?;
        let mut containers = pod["containers"].as_array().into_iter().flatten();
        let found = containers.find(|found| found["name"] == container).ok_or("it has none of the container")?;
        let bytes = |field: &str| found["memory"][field].as_u64();
        // Of one the kernel counts what the process wrote, of the other also what it lately read.
        let bytes = bytes("rssBytes").max(bytes("workingSetBytes")).filter(|bytes| *bytes > 0);
        let bytes = bytes.ok_or("it has no memory yet")?;
        Ok((found["memory"]["time"].as_str().unwrap_or_default().to_owned(), bytes))
    };
    let (first, _) = area.wait_for("the kubelet's figures", memory).await;
    let later = async || {
        let (time, bytes) = memory().await?;
        if time > first { Ok(bytes) } else { Err(format!("still those of {time}")) }
    };
    area.wait_for("newer figures of the kubelet's", later).await
}

pub async fn a_sidecar_at_rest_takes_little_memory(site: &Site) {
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

fn container(name: &str) -> Value {
    json!({"name": name, "image": "busybox:1.37", "command": ["sleep", "100000"], "securityContext": container_security()})
}

/// From its creation until it is ready.
async fn start(area: &Area<'_>, name: &str, metadata: &Value, sidecars: &Value) -> Duration {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"securityContext": pod_security(),
        "terminationGracePeriodSeconds": 0, "initContainers": sidecars, "containers": [container("main")]}});
    pod["metadata"]["name"] = json!(name);
    let began = Instant::now();
    area.apply(pod).await;
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
    let area = site.area("pod-start").await;
    area.declare("plays", json!({"counterType": "Eventual", "dataset": "pod_start_plays", "rollup": {"replicas": 1}}))
        .await;
    area.wait_until_ready("plays").await;
    let labels = json!({"labels": {"app": "figure"}});
    let mut idle = container("idle");
    idle["restartPolicy"] = json!("Always");
    let kinds = [
        ("none", labels.clone(), json!([])),
        // What any native sidecar costs: the kubelet looks once a second whether it runs.
        ("idle", labels, json!([idle])),
        ("tallyman", metadata("figure", "plays"), json!([])),
    ];
    let mut times = kinds.each_ref().map(|_| Vec::new());
    for number in 0..PODS {
        for ((kind, metadata, sidecars), times) in kinds.iter().zip(&mut times) {
            // The kubelet looks at its pods once a second: begin at different moments of it.
            tokio::time::sleep(SECOND / u32::try_from(PODS).unwrap() * u32::try_from(number).unwrap()).await;
            times.push(start(&area, &format!("{kind}-{number}"), metadata, sidecars).await);
        }
    }
    let [none, idle, tallyman] = times.map(|mut times| {
        times.sort_unstable();
        [times[PODS / 2], times[0], times[PODS - 1]].map(|time| time.as_secs_f64())
    });
    for (kind, [median, least, most]) in [("no", none), ("an idle", idle), ("Tallyman's", tallyman)] {
        println!("with {kind} sidecar, a pod is ready after {median:.2} s ({least:.2}–{most:.2})");
    }
}
