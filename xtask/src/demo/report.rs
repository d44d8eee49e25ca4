//! What a failure may come from: conditions that are not true, pods that are not ready with the end of their logs, warnings.

use std::fmt::Write;

use serde_json::Value;

use super::counts::{APPLICATIONS_NAMESPACE, COUNTERS};
use super::tools::Tools;

const EVENTS: usize = 10;
const LOG_LINES: &str = "--tail=5";

/// What matters of all that runs. Does not fail: it is asked after a failure.
pub fn text(tools: &Tools) -> String {
    let list = |what: &[&str]| tools.list(&[what, &["--all-namespaces"]].concat()).unwrap_or_default();
    let mut report = String::new();
    for object in list(&["counternamespaces"]) {
        let _ = writeln!(report, "CounterNamespace {}", conditions(&object));
    }
    let pods = list(&["pods"]);
    let unready: Vec<&Value> = pods.iter().filter(|pod| !is_ready(pod)).collect();
    for pod in &unready {
        let _ = writeln!(report, "Pod {}, not ready: {}", name(pod), waiting(pod));
        let (namespace, name) = (text_of(&pod["metadata"]["namespace"]), text_of(&pod["metadata"]["name"]));
        report.push_str(&log(tools, namespace, name));
    }
    let mut warnings = list(&["events", "--field-selector=type=Warning"]);
    warnings.retain(|event| is_of_interest(event, &unready));
    warnings.sort_by_key(|event| time(event).to_owned());
    for event in &warnings[warnings.len().saturating_sub(EVENTS)..] {
        let _ = writeln!(report, "{}", warning(event));
    }
    report
}

/// The end of what those print that write these counters.
pub fn logs(tools: &Tools, counters: &[&str]) -> String {
    let writers = COUNTERS.into_iter().filter(|(name, _)| counters.contains(name));
    writers.map(|(_, of)| log(tools, APPLICATIONS_NAMESPACE, &format!("deployment/{of}"))).collect()
}

fn log(tools: &Tools, namespace: &str, of: &str) -> String {
    let arguments = ["logs", "--namespace", namespace, of, "--all-containers", "--prefix", LOG_LINES];
    let log = tools.kubectl(&arguments).unwrap_or_default();
    log.lines().fold(String::new(), |lines, line| lines + "    " + line + "\n")
}

fn conditions(object: &Value) -> String {
    let conditions = object["status"]["conditions"].as_array();
    let Some(conditions) = conditions else { return format!("{}: no conditions yet", name(object)) };
    if is_ready(object) {
        return format!("{}: ready", name(object));
    }
    let text = |condition: &Value| {
        let [kind, status, reason, message] = ["type", "status", "reason", "message"].map(|of| text_of(&condition[of]));
        let is_good = status == "True";
        if is_good { format!("{kind}={status}") } else { format!("{kind}={status} {reason}: {message}") }
    };
    let text: Vec<String> = conditions.iter().map(text).collect();
    format!("{}: {}", name(object), text.join("\n    "))
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// What the containers of a pod wait for, and how often they were started again.
fn waiting(pod: &Value) -> String {
    let statuses = ["initContainerStatuses", "containerStatuses"].map(|of| pod["status"][of].as_array());
    let text = |status: &Value| {
        let state = status["state"].as_object().and_then(|state| state.iter().next());
        let (state, detail) = state.map_or(("unknown", &Value::Null), |(state, detail)| (state.as_str(), detail));
        let reason = detail["reason"].as_str().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{} {state}{reason}, {} restarts", text_of(&status["name"]), status["restartCount"])
    };
    let texts: Vec<String> = statuses.into_iter().flatten().flatten().map(text).collect();
    if texts.is_empty() { text_of(&pod["status"]["phase"]).to_owned() } else { texts.join("; ") }
}

/// What was wrong with a pod that is ready by now, or gone, is not what is looked for.
fn is_of_interest(event: &Value, unready: &[&Value]) -> bool {
    let of = &event["involvedObject"];
    of["kind"] != "Pod" || unready.iter().any(|pod| pod["metadata"]["uid"] == of["uid"])
}

/// When it was seen last. Who reports it, by which of two APIs, decides where that stands.
fn time(event: &Value) -> &str {
    let times = [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"]];
    times.into_iter().find_map(Value::as_str).unwrap_or_default()
}

fn warning(event: &Value) -> String {
    let of = &event["involvedObject"];
    let [kind, name, reason, message] = [&of["kind"], &of["name"], &event["reason"], &event["message"]].map(text_of);
    format!("warning of {kind} {name}: {reason}: {}", message.trim_end())
}

/// With its Kubernetes namespace.
fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!("{}/{}", text_of(&metadata["namespace"]), text_of(&metadata["name"]))
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_that_is_not_true_says_why() {
        let mut object = json!({"metadata": {"namespace": "shop", "name": "plays"}});
        assert_eq!(conditions(&object), "shop/plays: no conditions yet");
        object["status"] = json!({"conditions": [
            {"type": "Accepted", "status": "True", "reason": "Valid", "message": "it is valid"},
            {"type": "Ready", "status": "False", "reason": "NoStore", "message": "Cassandra does not answer"}]});
        assert_eq!(
            conditions(&object),
            "shop/plays: Accepted=True\n    Ready=False NoStore: Cassandra does not answer"
        );
        object["status"]["conditions"][1]["status"] = json!("True");
        assert_eq!(conditions(&object), "shop/plays: ready");
    }

    #[test]
    fn a_pod_says_what_each_container_waits_for() {
        let mut pod = json!({"status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}});
        assert!(!is_ready(&pod));
        assert_eq!(waiting(&pod), "Pending");
        pod["status"]["initContainerStatuses"] =
            json!([{"name": "sidecar", "restartCount": 0, "state": {"running": {"startedAt": "now"}}}]);
        pod["status"]["containerStatuses"] =
            json!([{"name": "curl", "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]);
        assert_eq!(waiting(&pod), "sidecar running, 0 restarts; curl waiting (CrashLoopBackOff), 3 restarts");
        assert!(is_ready(&json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})));
    }

    #[test]
    fn warnings_of_pods_that_are_well_by_now_are_left_out() {
        let unready = json!({"metadata": {"uid": "7"}});
        let of = |kind: &str, uid: &str| json!({"involvedObject": {"kind": kind, "uid": uid}});
        let seen = [("Pod", "7"), ("Pod", "8"), ("ReplicaSet", "9")];
        assert_eq!(seen.map(|(kind, uid)| is_of_interest(&of(kind, uid), &[&unready])), [true, false, true]);
    }

    #[test]
    fn an_event_has_its_time_in_one_of_three_places() {
        let scheduler = json!({"eventTime": "2026-01-31T12:00:00.5Z", "lastTimestamp": null, "series": null});
        assert_eq!(time(&scheduler), "2026-01-31T12:00:00.5Z");
        let kubelet = json!({"eventTime": null, "lastTimestamp": "2026-01-31T12:00:01Z"});
        assert_eq!(time(&kubelet), "2026-01-31T12:00:01Z");
    }

    #[test]
    fn a_warning_is_one_line() {
        let event =
            json!({"involvedObject": {"kind": "Pod", "name": "curl-1"}, "reason": "Failed", "message": "no image\n"});
        assert_eq!(warning(&event), "warning of Pod curl-1: Failed: no image");
    }
}
