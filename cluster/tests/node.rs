//! A real node: it runs pods, its parts may be killed and started again, and it leaves nothing behind, not even after a crash.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tallyman_cluster::{Cluster, Part, Place, Shape, Version, load_images, status};

/// The one image that every node has.
const IMAGE: &str = "tallyman.dev/pause:1";

fn place(folder: &tempfile::TempDir, last_byte: u8) -> Place {
    Place { folder: folder.path().join("cluster"), address: [192, 0, 2, last_byte].into() }
}

fn shape() -> Shape {
    Shape::with_node(Version::default())
}

fn run_pods(cluster: &Cluster) {
    let deployment = format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{replicas: 2, selector: {{matchLabels: {{app: web}}}},
           template: {{metadata: {{labels: {{app: web}}}}, spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: main, image: '{IMAGE}'}}]}}}}}}}}"
    );
    cluster.apply(&deployment).unwrap();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"]).unwrap();
}

/// Whether our end of the connection with a node is there.
fn interface(last_byte: u8) -> bool {
    Path::new(&format!("/sys/class/net/tallyman-{last_byte}")).exists()
}

/// The ids of the processes that run below a process, by what the system says of parents.
fn below(pid: u32) -> Vec<u32> {
    let output = Command::new("ps").args(["-e", "-o", "pid=,ppid="]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pairs: Vec<(u32, u32)> = text
        .lines()
        .map(|line| {
            let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap());
            (numbers.next().unwrap(), numbers.next().unwrap())
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(pairs.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.into_iter().skip(1).collect()
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// What a kubelet would change of the kernel for all of this machine.
fn kernel_settings() -> Vec<String> {
    let settings = ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops"];
    settings.map(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap()).into()
}

#[test]
#[ignore = "builds and starts Kubernetes, as root: cargo xtask test"]
fn pods_run_whatever_part_is_killed_and_all_of_it_goes_with_its_machine() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(&folder, 20);
    let settings = kernel_settings();
    let mut cluster = Cluster::start(&place, &shape()).unwrap();
    assert!(status(&place).unwrap().to_string().contains("one node"));
    run_pods(&cluster);
    let elsewhere = Place { folder: folder.path().join("elsewhere"), ..place.clone() };
    let Err(refused) = Cluster::start(&elsewhere, &shape()) else { panic!("two clusters have the same address") };
    assert!(refused.to_string().contains("does another cluster with this address run?"), "{refused}");
    assert!(interface(20), "it is not the other's to remove");
    for part in [Part::Scheduler, Part::Proxy, Part::Dns, Part::Kubelet, Part::Containerd] {
        cluster.kill(part).unwrap();
        cluster.restart(part).unwrap();
    }
    cluster.kubectl(&["rollout", "restart", "deployment/web"]).unwrap();
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"]).unwrap();

    let refused = load_images(&place, &[folder.path().join("nothing.tar")]).unwrap_err().to_string();
    assert!(refused.contains("nothing.tar"), "{refused}");

    assert_eq!(kernel_settings(), settings);
    let inside = below(cluster.process(Part::Machine).pid);
    assert!(inside.len() >= 4, "containerd's, two pods', and more: {inside:?}");
    drop(cluster);
    let left: Vec<u32> = inside.into_iter().filter(|pid| is_running(*pid)).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!interface(20));
    assert!(!place.folder.exists());
}

const OWNED_FOLDER: &str = "TALLYMAN_TEST_OWNED_FOLDER";

/// Not a test of its own: the program that [`what_a_killed_owner_left_is_ended_by_down`] kills.
#[test]
#[ignore = "is run by another test"]
fn owner_of_a_node_that_is_killed() {
    let Some(folder) = std::env::var_os(OWNED_FOLDER) else { return };
    let place = Place { folder: folder.into(), address: [192, 0, 2, 22].into() };
    let cluster = Cluster::start(&place, &shape()).unwrap();
    run_pods(&cluster);
    std::fs::write(place.folder.with_extension("ready"), "").unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "builds and starts Kubernetes, as root: cargo xtask test"]
fn what_a_killed_owner_left_is_ended_by_down() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(&folder, 22);
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_of_a_node_that_is_killed", "--include-ignored", "--nocapture"])
        .env(OWNED_FOLDER, &place.folder)
        .spawn()
        .unwrap();
    while !place.folder.with_extension("ready").exists() {
        assert_eq!(owner.try_wait().unwrap(), None, "it ended before its time");
        std::thread::sleep(Duration::from_millis(100));
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(interface(22), "it had no chance to end what it had started");
    assert!(Cluster::down(&place).unwrap());
    assert!(!interface(22));
    assert!(!place.folder.exists());
}

#[test]
#[ignore = "builds and starts Kubernetes, as root: cargo xtask test"]
fn a_machine_that_has_ended_is_said_to_have_and_down_clears_up() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(&folder, 24);
    Cluster::up(&place, &shape()).unwrap();
    let json: serde_json::Value = serde_json::from_str(&status(&place).unwrap().json()).unwrap();
    let machine = json["processes"].as_array().unwrap().iter().find(|process| process["name"] == "machine").unwrap();
    let killed = Command::new("kill").args(["-9", &machine["pid"].to_string()]).status().unwrap();
    assert!(killed.success());
    // It takes its processes along, and then its interfaces.
    for _ in 0..6_000 {
        if !interface(24) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!status(&place).unwrap().is_well());
    let refused = Cluster::up(&place, &shape()).unwrap_err().to_string();
    assert!(refused.contains("has ended") && refused.contains("cluster down"), "{refused}");
    assert!(Cluster::down(&place).unwrap());
    assert!(!interface(24));
    assert!(!place.folder.exists());
}
