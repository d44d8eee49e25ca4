//! What a kubelet would report of a pod whose containers run. Pure but for the time of day.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// Whether a scheduler would bind the pod.
pub(super) fn may_be_bound(pod: &Pod) -> bool {
    let is_gated =
        pod.spec.as_ref().is_some_and(|spec| spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()));
    !is_gated && pod.metadata.deletion_timestamp.is_none() && !has_ended(pod)
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// The status that a bound pod is to get; `None` where it has it.
pub(super) fn due(pod: &Pod, is_ready: bool, next_address: impl FnOnce() -> Ipv4Addr) -> Option<Value> {
    if has_ended(pod) {
        return None;
    }
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let spec = pod.spec.as_ref()?;
    let conditions = conditions(pod, is_ready);
    let images = spec.containers.iter().map(|container| container.image.as_deref());
    let reported = status.container_statuses.iter().flatten();
    let is_current = status.phase.as_deref() == Some("Running")
        && status.pod_ip.is_some()
        && conditions.iter().all(|(name, is_true)| is_true_now(status, name) == Some(*is_true))
        && reported.clone().all(|container| container.ready == is_ready)
        && reported.map(|container| Some(container.image.as_str())).eq(images);
    if is_current {
        return None;
    }
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let started = status.start_time.as_ref().map_or(json!(now), |time| json!(time));
    let address = status.pod_ip.clone().unwrap_or_else(|| next_address().to_string());
    // Strategic patches merge conditions by their type, so that others' stay; those that hold keep their time.
    let changed = conditions.iter().filter(|(name, is_true)| is_true_now(status, name) != Some(*is_true));
    let changed: Vec<Value> = changed
        .map(|(name, is_true)| json!({"type": name, "status": if *is_true { "True" } else { "False" }, "lastTransitionTime": now}))
        .collect();
    let containers: Vec<Value> =
        spec.containers.iter().map(|container| container_status(container, is_ready, true, &started)).collect();
    let init_containers: Vec<Value> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| {
            // One that is restarted always is a sidecar and runs beside the others.
            let is_sidecar = container.restart_policy.as_deref() == Some("Always");
            container_status(container, true, is_sidecar, &started)
        })
        .collect();
    Some(json!({
        "phase": "Running",
        "hostIP": "10.0.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": started,
        "conditions": changed,
        "containerStatuses": containers,
        "initContainerStatuses": init_containers,
    }))
}

/// The conditions that a kubelet keeps, and whether each is true.
fn conditions(pod: &Pod, is_ready: bool) -> Vec<(&'static str, bool)> {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let mut gates = gates.map(|gate| pod.status.as_ref().and_then(|status| is_true_now(status, &gate.condition_type)));
    let is_let_in = gates.all(|gate| gate == Some(true));
    vec![
        ("PodReadyToStartContainers", true),
        ("Initialized", true),
        ("ContainersReady", is_ready),
        ("Ready", is_ready && is_let_in),
    ]
}

fn is_true_now(status: &PodStatus, name: &str) -> Option<bool> {
    let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == name)?;
    Some(condition.status == "True")
}

fn container_status(container: &Container, is_ready: bool, is_running: bool, started: &Value) -> Value {
    let image = container.image.as_deref().unwrap_or_default();
    let state = if is_running {
        json!({"running": {"startedAt": started}})
    } else {
        json!({"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": started, "finishedAt": started}})
    };
    json!({
        "name": container.name,
        "image": image,
        "imageID": format!("standin://{image}"),
        "containerID": format!("standin://{}", container.name),
        "ready": is_ready,
        "started": is_running,
        "restartCount": 0,
        "state": state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 7);

    fn pod(extra: &Value) -> Pod {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {
            "containers": [{"name": "main", "image": "main:1"}],
            "initContainers": [{"name": "once", "image": "once:1"}, {"name": "side", "image": "side:1", "restartPolicy": "Always"}],
        }});
        for (key, value) in extra.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    }

    /// The pod after the API server has taken a report; enough of a merge for what we send.
    fn reported(mut pod: Pod, status: Value) -> Pod {
        let old = pod.status.take().unwrap_or_default();
        let mut new: PodStatus = serde_json::from_value(status).unwrap();
        let conditions = new.conditions.get_or_insert_default();
        for condition in old.conditions.into_iter().flatten() {
            if conditions.iter().all(|newer| newer.type_ != condition.type_) {
                conditions.push(condition);
            }
        }
        pod.status = Some(new);
        pod
    }

    #[test]
    fn a_pod_gets_running_once_and_is_reported_again_only_when_its_readiness_changes() {
        let fresh = pod(&json!({}));
        let status = due(&fresh, true, || ADDRESS).unwrap();
        assert_eq!((&status["phase"], &status["podIP"]), (&json!("Running"), &json!("10.244.0.7")));
        assert_eq!(status["containerStatuses"][0]["image"], "main:1");
        assert!(status["initContainerStatuses"][0]["state"]["terminated"].is_object());
        assert!(status["initContainerStatuses"][1]["state"]["running"].is_object());
        let running = reported(fresh, status);
        assert_eq!(due(&running, true, || panic!("it has an address")), None);
        let status = due(&running, false, || panic!("it has an address")).unwrap();
        let changed: Vec<_> =
            status["conditions"].as_array().unwrap().iter().map(|c| (&c["type"], &c["status"])).collect();
        assert_eq!(changed, [(&json!("ContainersReady"), &json!("False")), (&json!("Ready"), &json!("False"))]);
        assert_eq!(status["containerStatuses"][0]["ready"], false);
        let held = reported(running, status);
        assert_eq!(due(&held, false, || ADDRESS), None);
        assert!(due(&held, true, || ADDRESS).is_some());
    }

    #[test]
    fn a_pod_with_a_readiness_gate_is_ready_only_when_somebody_opens_it() {
        let gated = pod(&json!({"readinessGates": [{"conditionType": "example.com/open"}]}));
        let ready = |pod: &Pod| conditions(pod, true).into_iter().find(|(name, _)| *name == "Ready").unwrap().1;
        assert!(!ready(&gated));
        let open = json!({"conditions": [{"type": "example.com/open", "status": "True"}]});
        assert!(ready(&reported(gated, open)));
    }

    #[test]
    fn pods_that_have_ended_or_are_held_by_a_gate_are_left_alone() {
        let ended = reported(pod(&json!({})), json!({"phase": "Succeeded"}));
        assert_eq!(due(&ended, true, || ADDRESS), None);
        assert!(!may_be_bound(&ended));
        assert!(!may_be_bound(&pod(&json!({"schedulingGates": [{"name": "example.com/wait"}]}))));
        assert!(may_be_bound(&pod(&json!({}))));
    }
}
