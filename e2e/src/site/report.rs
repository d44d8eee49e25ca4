//! What a failure may come from: events, conditions, and logs of those that are not well.

use std::fmt::Write;

use kube::api::ListParams;
use serde_json::Value;

use super::{Area, CASSANDRA_NAMESPACE, SYSTEM, Site, condition};

const EVENTS: usize = 15;
const LOG_LINES: usize = 15;

impl Site {
    /// What matters of an area, and of what it stands on. Does not fail: it is asked after a failure.
    pub async fn report(&self, area: &str) -> String {
        let mut report = String::new();
        for name in [area, SYSTEM, CASSANDRA_NAMESPACE] {
            report.push_str(&format!("== Kubernetes namespace {name}\n"));
            self.existing(name).report(&mut report).await;
        }
        report
    }
}

impl Area<'_> {
    async fn report(&self, report: &mut String) {
        for object in self.list_or_none("CounterNamespace").await {
            let _ = writeln!(report, "CounterNamespace {}: {}", name(&object), conditions(&object));
        }
        for pod in self.list_or_none("Pod").await {
            let is_well = condition(&pod, "Ready").is_some_and(|ready| ready["status"] == "True");
            let (state, restarts) = (if is_well { "ready" } else { "NOT READY" }, restarts(&pod));
            let _ = writeln!(report, "Pod {}: {state}, {restarts} restarts", name(&pod));
            // A Cassandra that is well has nothing to say, and says much.
            if is_well && restarts == 0 && self.name == CASSANDRA_NAMESPACE {
                continue;
            }
            for container in containers(&pod) {
                let log = self.log(&name(&pod), &container).await.unwrap_or_else(|error| error);
                let matters = |line: &&str| !line.contains(r#""level":"INFO""#);
                let lines: Vec<&str> = log.lines().filter(matters).collect();
                let _ = writeln!(report, "-- log of {} {container}", name(&pod));
                for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
                    let _ = writeln!(report, "{line}");
                }
            }
        }
        let mut events = self.list_or_none("Event").await;
        events.retain(|event| event["type"] != "Normal");
        events.sort_by_key(|event| event["metadata"]["creationTimestamp"].to_string());
        for event in &events[events.len().saturating_sub(EVENTS)..] {
            let of = &event["involvedObject"];
            let (reason, message) = (&event["reason"], &event["message"]);
            let _ = writeln!(report, "event of {} {}: {reason} {message}", of["kind"], of["name"]);
        }
    }

    async fn list_or_none(&self, kind: &str) -> Vec<Value> {
        let list = self.site.api(kind, Some(&self.name)).list(&ListParams::default()).await;
        let items = list.map(|list| list.items).unwrap_or_default();
        items.into_iter().filter_map(|object| serde_json::to_value(object).ok()).collect()
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn conditions(object: &Value) -> String {
    let text = |condition: &Value| {
        let (kind, status, reason) = (&condition["type"], &condition["status"], &condition["reason"]);
        format!("{kind}={status} {reason} {}", condition["message"])
    };
    object["status"]["conditions"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join("\n    ")
}

fn of_pod<'a>(object: &'a Value, fields: [&str; 2]) -> Vec<&'a Value> {
    fields.into_iter().flat_map(|field| object[field].as_array().into_iter().flatten()).collect()
}

fn containers(pod: &Value) -> Vec<String> {
    let containers = of_pod(&pod["spec"], ["initContainers", "containers"]);
    containers.into_iter().filter_map(|container| Some(container["name"].as_str()?.to_owned())).collect()
}

fn restarts(pod: &Value) -> u64 {
    let statuses = of_pod(&pod["status"], ["initContainerStatuses", "containerStatuses"]);
    statuses.into_iter().filter_map(|status| status["restartCount"].as_u64()).sum()
}
