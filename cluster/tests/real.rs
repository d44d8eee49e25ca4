//! A real control plane: started, used, hurt, ended. Each test has a place of its own, so that they run side by side.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use tallyman_cluster::{Cluster, Event, Part, Place, Shape, StandinKubelet, Up, Version, status};

/// A place in a folder of the test's own.
fn place(folder: &tempfile::TempDir, last_byte: u8) -> Place {
    Place { folder: folder.path().join("cluster"), address: [127, 0, 101, last_byte].into() }
}

fn is_open(place: &Place) -> bool {
    TcpStream::connect(place.api_server()).is_ok()
}

fn workload(kind: &str, name: &str, replicas: u16) -> String {
    let service = if kind == "StatefulSet" { "serviceName: none, podManagementPolicy: Parallel," } else { "" };
    format!(
        "{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: {name}}}, spec: {{replicas: {replicas}, {service}
           selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: {{app: {name}}}}},
             spec: {{containers: [{{name: main, image: 'example.com/main:1'}}]}}}}}}}}"
    )
}

/// Tries until it is so.
fn eventually(what: &str, is_so: impl Fn() -> Result<(), String>) {
    let mut last = String::new();
    for _ in 0..3_600 {
        match is_so() {
            Ok(()) => return,
            Err(not) => last = not,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what}: {last}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
#[ignore = "builds and starts Kubernetes: cargo xtask test"]
fn a_stateful_set_gets_ready_is_held_back_and_goes_and_all_of_it_is_in_the_audit_log() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(&folder, 1);
    let cluster = Cluster::start(&place, &Shape::default()).unwrap();
    let version = cluster.kubectl(&["version"]).unwrap();
    assert!(version.contains("Client Version: v1.34.4") && version.contains("Server Version: v1.34.4"), "{version}");

    let runtime = runtime();
    let kubelet = runtime.block_on(StandinKubelet::start(&cluster)).unwrap();
    let mark = cluster.audit_log().mark().unwrap();
    cluster.apply(&workload("StatefulSet", "web", 2)).unwrap();
    cluster.kubectl(&["rollout", "status", "statefulset/web", "--timeout=120s"]).unwrap();
    let ready = || cluster.kubectl(&["get", "statefulset/web", "-o", "jsonpath={.status.readyReplicas}"]).unwrap();
    assert_eq!(ready(), "2");

    let wait = |what: &str, pod: &str| cluster.kubectl(&["wait", what, pod, "--timeout=120s"]).unwrap();
    kubelet.set_ready(&[("statefulset.kubernetes.io/pod-name", "web-1")], false);
    wait("--for=jsonpath={.status.readyReplicas}=1", "statefulset/web");
    wait("--for=condition=Ready=False", "pod/web-1");
    assert_eq!(ready(), "1");
    kubelet.set_ready(&[], true);
    wait("--for=condition=Ready", "pod/web-1");

    // A pod that is deleted goes, and its controller makes another.
    let pod = ["get", "pod/web-0", "--ignore-not-found", "-o", "jsonpath={.metadata.uid}"];
    let uid = || cluster.kubectl(&pod).unwrap();
    let before = uid();
    // kubectl's own wait takes whatever pod its list finds for the deleted one: where the next is there by then it waits for ever.
    cluster.kubectl(&["delete", "pod/web-0", "--wait=false"]).unwrap();
    eventually("there is another pod of the name", || {
        let now = uid();
        if now.is_empty() || now == before { Err(format!("{now:?} after {before}")) } else { Ok(()) }
    });
    wait("--for=condition=Ready", "pod/web-0");

    let controller = "system:serviceaccount:kube-system:statefulset-controller";
    let count = |events: &[Event]| {
        let writes = |fits: &dyn Fn(&Event) -> bool| {
            events.iter().filter(|event| event.is_write() && event.is_success() && fits(event)).count()
        };
        let made = |event: &Event| event.verb == "create" && event.resource == "pods" && event.subresource.is_empty();
        [
            writes(&|event| event.user == "admin" && event.resource == "statefulsets"),
            writes(&|event| event.user == "admin" && event.resource == "pods"),
            writes(&|event| made(event) && event.user == controller),
            writes(&|event| event.user == StandinKubelet::USER && event.subresource == "binding"),
        ]
    };
    let expected = [1, 1, 3, 3];
    eventually("the audit log has it all, as an event is written after its request is answered", || {
        let counted = count(&cluster.audit_log().since(mark).unwrap());
        if counted == expected { Ok(()) } else { Err(format!("{counted:?} instead of {expected:?}")) }
    });

    cluster.kubectl(&["delete", "statefulset/web", "--cascade=foreground", "--timeout=120s"]).unwrap();
    // A controller that has not heard of it yet may have made one more pod, which the garbage collector takes.
    eventually("its pods go", || {
        let pods = cluster.kubectl(&["get", "pods", "-o", "name"]).unwrap();
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    });

    drop(kubelet);
    drop(cluster);
    assert!(!is_open(&place) && !place.folder.exists());
}

#[test]
#[ignore = "builds and starts Kubernetes: cargo xtask test"]
fn four_hundred_pods_get_ready() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&place(&folder, 2), &Shape::default()).unwrap();
    let runtime = runtime();
    let _kubelet = runtime.block_on(StandinKubelet::start(&cluster)).unwrap();
    cluster.apply(&workload("StatefulSet", "many", 400)).unwrap();
    cluster.kubectl(&["rollout", "status", "statefulset/many", "--timeout=300s"]).unwrap();
    let addresses = cluster.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.podIP}"]).unwrap();
    let mut addresses: Vec<&str> = addresses.split(' ').collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 400, "each has an address of its own");
}

#[test]
#[ignore = "builds and starts Kubernetes: cargo xtask test"]
fn users_and_service_accounts_may_do_what_they_are_granted_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&place(&folder, 3), &Shape::default()).unwrap();
    cluster.kubectl(&["create", "serviceaccount", "operator"]).unwrap();
    cluster
        .kubectl(&["create", "rolebinding", "r", "--clusterrole=view", "--serviceaccount=default:operator"])
        .unwrap();
    cluster.kubectl(&["create", "clusterrolebinding", "w", "--clusterrole=edit", "--group=writers"]).unwrap();
    let operator = cluster.service_account_kubeconfig("default", "operator").unwrap();
    let writer = cluster.user("someone/else", &["writers"]).unwrap();
    let may = |kubeconfig: &std::path::Path, arguments: &[&str]| {
        let mut kubectl = cluster.kubectl_command();
        kubectl.args(arguments).env("KUBECONFIG", kubeconfig).stdout(Stdio::null()).stderr(Stdio::null());
        kubectl.status().unwrap().success()
    };
    assert!(may(&operator, &["get", "pods"]));
    assert!(!may(&operator, &["get", "nodes"]));
    assert!(!may(&operator, &["create", "configmap", "a"]));
    assert!(may(&writer, &["create", "configmap", "a"]));
    assert!(!may(&writer, &["create", "namespace", "a"]));
    // Past the API server, which would ask who somebody is.
    let etcd = format!("https://{}:2379", cluster.place().address);
    let past = ["--server", &etcd, "get", "--raw", "/health"];
    let admin = cluster.kubeconfig();
    assert!(may(&admin, &past), "etcd is to be there");
    assert!(!may(&operator, &past), "whoever wants to may write into etcd");
    let refused = cluster.service_account_kubeconfig("default", "nobody").unwrap_err().to_string();
    assert!(refused.contains("\"nobody\" not found"), "{refused}");
    let events = cluster.audit_log().all().unwrap();
    let of = |user: &str| events.iter().filter(|event| event.user == user && event.code == 403).count();
    assert_eq!(of("system:serviceaccount:default:operator"), 2);
    assert_eq!(of("someone/else"), 1);
}

#[test]
#[ignore = "builds and starts Kubernetes: cargo xtask test"]
fn what_was_written_outlives_the_death_of_every_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(&place(&folder, 4), &Shape::default()).unwrap();
    cluster.kubectl(&["create", "configmap", "kept"]).unwrap();
    for part in Part::CONTROL_PLANE {
        cluster.kill(part).unwrap();
        assert!(!cluster.process(part).is_alive(), "{part}");
        cluster.restart(part).unwrap();
        assert_eq!(cluster.kubectl(&["get", "configmap", "kept", "-o", "name"]).unwrap(), "configmap/kept\n", "{part}");
    }
    cluster.pause(Part::ApiServer).unwrap();
    assert!(cluster.kubectl(&["get", "configmaps", "--request-timeout=1s"]).is_err());
    cluster.resume(Part::ApiServer).unwrap();
    cluster.kubectl(&["get", "configmaps"]).unwrap();
}

#[test]
#[ignore = "builds and starts Kubernetes: cargo xtask test"]
fn the_newest_kubernetes_stays_up_until_down_and_is_not_started_twice() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(&folder, 5);
    let newest = Shape::control_plane(Version::V1_36);
    assert_eq!(Cluster::up(&place, &newest).unwrap(), Up::Started);
    let before = status(&place).unwrap();
    assert!(before.is_well() && before.json().contains(r#""kubernetes":"1.36""#), "{before}");
    assert_eq!(Cluster::up(&place, &newest).unwrap(), Up::RanAlready);
    let refused = Cluster::up(&place, &Shape::default()).unwrap_err().to_string();
    assert!(refused.contains("another cluster runs already") && refused.contains("cluster down"), "{refused}");
    assert_eq!(status(&place).unwrap(), before);
    assert!(Cluster::down(&place).unwrap());
    assert!(!is_open(&place) && !place.folder.exists());
    assert!(!Cluster::down(&place).unwrap());
}

const OWNED_FOLDER: &str = "TALLYMAN_TEST_OWNED_FOLDER";

/// Not a test of its own: the program that [`what_a_killed_owner_left_is_ended_by_the_next`] kills.
#[test]
#[ignore = "is run by another test"]
fn owner_that_is_killed() {
    let Some(folder) = std::env::var_os(OWNED_FOLDER) else { return };
    let place = Place { folder: folder.into(), address: [127, 0, 101, 6].into() };
    let cluster = Cluster::start(&place, &Shape::default()).unwrap();
    cluster.kubectl(&["create", "configmap", "old"]).unwrap();
    std::fs::write(place.folder.with_extension("ready"), "").unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "builds and starts Kubernetes: cargo xtask test"]
fn what_a_killed_owner_left_is_ended_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(&folder, 6);
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_that_is_killed", "--include-ignored", "--nocapture"])
        .env(OWNED_FOLDER, &place.folder)
        .spawn()
        .unwrap();
    while !place.folder.with_extension("ready").exists() {
        assert_eq!(owner.try_wait().unwrap(), None, "it ended before its time");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(is_open(&place), "it had no chance to end what it had started");
    let cluster = Cluster::start(&place, &Shape::default()).unwrap();
    assert!(cluster.kubectl(&["get", "configmap", "old"]).is_err(), "this is another cluster");
    drop(cluster);
    assert!(!is_open(&place) && !place.folder.exists());
}
