//! Keeps count of what the pods of [`counting`](crate::application::counting) say that they added, from their first line to their last,
//! and of how their containers came and went.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{LogParams, Patch, PatchParams};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};
use serde_json::json;
use tallyman_e2e::PATIENCE;
use tallyman_e2e::convergence::read_accurately;
use tallyman_e2e::site::{Area, Forward};
use tokio::task::{JoinHandle, JoinSet};

const POLL: Duration = Duration::from_millis(50);
const SIDECAR: &str = "tallyman-sidecar";
/// What the application's lines begin with, and those of adds go on with.
const COUNTER: &str = "total";
const ADDED: &str = "total added 1, ";

/// What was seen of a pod.
#[derive(Debug, Default, Clone)]
struct Seen {
    added: u64,
    /// Lines that are no adds.
    complaints: Vec<String>,
    last: Option<Pod>,
}

type Pods = Arc<Mutex<BTreeMap<String, Seen>>>;

/// Listens until it is [finished](Self::finish).
pub struct Tally {
    pods: Pods,
    task: JoinHandle<()>,
}

/// What it came to.
pub struct Total {
    /// Adds that were acknowledged.
    pub added: u64,
    /// Pods that said so.
    pub pods: usize,
    last: Vec<(String, Pod)>,
}

impl Tally {
    /// Begins to listen, before there are pods.
    pub fn begin(area: &Area<'_>) -> Self {
        let pods = Pods::default();
        let task = tokio::spawn(listen(area.pods(), Arc::clone(&pods)));
        Self { pods, task }
    }

    /// How many adds were acknowledged by now.
    pub fn so_far(&self) -> u64 {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).values().map(|seen| seen.added).sum()
    }

    /// Waits until so many more adds were acknowledged.
    pub async fn wait_for_more(&self, area: &Area<'_>, adds: u64) {
        let wanted = self.so_far() + adds;
        area.wait_for(&format!("{adds} more adds"), async || {
            let so_far = self.so_far();
            if so_far >= wanted { Ok(()) } else { Err(format!("{so_far} of {wanted}, {:?}", self.complaints())) }
        })
        .await;
    }

    fn complaints(&self) -> Vec<String> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.values().flat_map(|seen| seen.complaints.iter().rev().take(2).cloned()).collect()
    }

    /// Has the application end, hears it out, and says what it came to. No add may have been refused.
    pub async fn finish(self, area: &Area<'_>) -> Total {
        let none = Patch::Merge(json!({"spec": {"replicas": 0}}));
        let deployments: Api<k8s_openapi::api::apps::v1::Deployment> =
            Api::namespaced(area.site.client.clone(), &area.name);
        area.site.answered(async || deployments.patch("counting", &PatchParams::default(), &none).await).await;
        tokio::time::timeout(PATIENCE, self.task).await.expect("the application's pods do not end").unwrap();
        let pods = std::mem::take(&mut *self.pods.lock().unwrap());
        for (name, Seen { complaints, .. }) in &pods {
            assert!(complaints.is_empty(), "{name}: {complaints:?}");
        }
        for (name, Seen { last, .. }) in &pods {
            let status = last.as_ref().and_then(|pod| pod.status.as_ref());
            let statuses = status.map(|status| [&status.init_container_statuses, &status.container_statuses]);
            let mut containers = statuses.into_iter().flatten().flatten().flatten();
            // What an instance of the application before it said is not heard, and no sidecar may have died of anything.
            assert!(containers.all(|container| container.restart_count == 0), "{name}: {status:?}");
        }
        Total {
            added: pods.values().map(|seen| seen.added).sum(),
            pods: pods.len(),
            last: pods.into_iter().filter_map(|(name, seen)| Some((name, seen.last?))).collect(),
        }
    }
}

impl Total {
    /// Asserts that the counter has just this, and waits until everybody is shown it, never more.
    pub async fn is_counted(&self, area: &Area<'_>, counter_namespace: &str, reader: &Forward) {
        let (client, added) = (reader.client(), i64::try_from(self.added).unwrap());
        assert!(added > 0);
        let reading = read_accurately(client.clone(), counter_namespace.to_owned(), COUNTER.to_owned());
        assert_eq!(reading.await, (COUNTER.to_owned(), added), "adds that were acknowledged");
        area.wait_for("the counter to show what was added", async || {
            let count = client.get(counter_namespace, COUNTER, None).await.map_err(|error| error.to_string())?.count;
            assert!(count <= added, "{count} is counted, {added} were added");
            if count == added { Ok(()) } else { Err(format!("{count} of {added}")) }
        })
        .await;
    }

    /// Asserts that in every pod the sidecar was up before the application, ended after it, and both ended well.
    pub fn sidecars_were_there_all_the_time(&self) {
        assert_eq!(self.last.len(), self.pods);
        for (name, pod) in &self.last {
            let status = pod.status.as_ref().unwrap();
            let of = |statuses: &Option<Vec<ContainerStatus>>, container: &str| {
                let found = statuses.iter().flatten().find(|status| status.name == container);
                let state = found.and_then(|found| found.state.clone()).and_then(|state| state.terminated);
                state.unwrap_or_else(|| panic!("{name}: {container} was not seen to end: {status:?}"))
            };
            let (sidecar, main) =
                (of(&status.init_container_statuses, SIDECAR), of(&status.container_statuses, "main"));
            assert_eq!((sidecar.exit_code, main.exit_code), (0, 0), "{name}");
            assert!(sidecar.started_at <= main.started_at, "{name}: {sidecar:?} {main:?}");
            assert!(sidecar.finished_at >= main.finished_at, "{name}: {sidecar:?} {main:?}");
        }
    }
}

/// Follows every pod, until none is left after there was one. Watched: what a pod was like when it went is told nowhere else.
async fn listen(api: Api<Pod>, pods: Pods) {
    let mut following = JoinSet::new();
    let (mut there, mut listed) = (BTreeSet::new(), BTreeSet::new());
    let mut events = pin!(watcher(api.clone(), watcher::Config::default().labels("app=counting")));
    while let Some(event) = events.next().await {
        let pod = match event {
            Ok(Event::Apply(pod)) => {
                there.insert(pod.name_any());
                pod
            }
            Ok(Event::Delete(pod)) => {
                there.remove(&pod.name_any());
                pod
            }
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(pod)) => {
                listed.insert(pod.name_any());
                there.insert(pod.name_any());
                pod
            }
            Ok(Event::InitDone) => {
                there.clone_from(&listed);
                let was_there = !pods.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
                if there.is_empty() && was_there {
                    break;
                }
                continue;
            }
            // It begins again by itself.
            Err(_) => continue,
        };
        let name = pod.name_any();
        let mut known = pods.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = known.entry(name.clone()).or_insert_with(|| {
            following.spawn(follow(api.clone(), name, Arc::clone(&pods)));
            Seen::default()
        });
        seen.last = Some(pod);
        if there.is_empty() {
            break;
        }
    }
    following.join_all().await;
}

/// Hears a pod's application out. A stream that breaks off is begun again, and heard from the first line.
async fn follow(api: Api<Pod>, name: String, pods: Pods) {
    let parameters = LogParams { container: Some("main".to_owned()), follow: true, ..LogParams::default() };
    loop {
        // Before the stream: one that is begun after the end has everything.
        let has_ended = match api.get_opt(&name).await {
            Ok(Some(pod)) => has_ended(&pod),
            Ok(None) => return,
            Err(_) => false,
        };
        if let Ok(lines) = api.log_stream(&name, &parameters).await {
            let (mut lines, mut added, mut complaints) = (lines.lines(), 0, Vec::new());
            let is_whole = loop {
                match lines.try_next().await {
                    Ok(Some(line)) if line.contains(ADDED) => added += 1,
                    Ok(Some(line)) if line.starts_with(COUNTER) => complaints.push(line),
                    // The kubelet's own words, when the container is being removed. What was heard before stays.
                    Ok(Some(_)) => break false,
                    Ok(None) => break true,
                    Err(_) => break false,
                }
                let mut pods = pods.lock().unwrap_or_else(PoisonError::into_inner);
                let seen = pods.get_mut(&name).unwrap();
                seen.added = seen.added.max(added);
                if complaints.len() > seen.complaints.len() {
                    seen.complaints.clone_from(&complaints);
                }
            };
            if has_ended && is_whole {
                return;
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

fn has_ended(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let main = statuses.and_then(|statuses| statuses.iter().find(|status| status.name == "main"));
    main.and_then(|main| main.state.as_ref()).is_some_and(|state| state.terminated.is_some())
}
