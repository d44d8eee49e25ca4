//! What runs in a place, for people and programs.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::error::Result;
use crate::files::Files;
use crate::options::{Place, Version};
use crate::part::Part;
use crate::state::State;

/// A cluster, if there is one. Its JSON form is a contract with other programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    #[serde(flatten)]
    cluster: Option<Running>,
    processes: Vec<Process>,
    /// Processes that were started and have ended, though nobody asked them to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dead: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Running {
    kubernetes: Version,
    node: bool,
    api_server: SocketAddr,
    kubeconfig: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Process {
    name: &'static str,
    pid: u32,
}

/// Looks at what runs in a place.
///
/// # Errors
/// [`Error`](crate::Error) where the state of the place cannot be read.
pub fn status(place: &Place) -> Result<Status> {
    Ok(Status::of(State::load(&place.folder)?.as_ref()))
}

impl Status {
    pub(crate) fn of(state: Option<&State>) -> Self {
        let mut status = Self { cluster: None, processes: vec![], dead: vec![] };
        let Some(state) = state else { return status };
        status.cluster = Some(Running {
            kubernetes: state.shape.version,
            node: state.shape.node,
            api_server: state.place.api_server(),
            kubeconfig: Files(&state.place.folder).kubeconfig(),
        });
        for &part in Part::all(&state.shape) {
            match state.processes.get(&part) {
                Some(process) if process.is_alive() => {
                    status.processes.push(Process { name: part.name(), pid: process.pid });
                }
                // One that is missing was not even started: the run that was to start it has been ended.
                _ => status.dead.push(part.name()),
            }
        }
        status
    }

    /// Whether every process that was started still runs.
    pub fn is_well(&self) -> bool {
        self.dead.is_empty()
    }

    /// The administrator's kubeconfig file and the version, where there is a cluster.
    pub fn kubeconfig(&self) -> Option<(PathBuf, Version)> {
        self.cluster.as_ref().map(|cluster| (cluster.kubeconfig.clone(), cluster.kubernetes))
    }

    /// The JSON form, in one line.
    pub fn json(&self) -> String {
        // Strings, numbers and a path that was text before: none of it can fail.
        serde_json::to_string(self).expect("a status is JSON")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Running { kubernetes, node, api_server, kubeconfig }) = &self.cluster else {
            return writeln!(f, "no cluster runs");
        };
        let with = if *node { "one node" } else { "control plane only" };
        writeln!(f, "Kubernetes {kubernetes}, {with}: https://{api_server}")?;
        writeln!(f, "KUBECONFIG={}", kubeconfig.display())?;
        for Process { name, pid } in &self.processes {
            writeln!(f, "{name}  pid {pid}")?;
        }
        self.dead.iter().try_for_each(|name| writeln!(f, "{name}  HAS ENDED"))
    }
}

#[cfg(test)]
mod tests {
    use tallyman_servers::Pid;

    use super::*;
    use crate::options::Shape;

    #[test]
    fn the_json_of_a_status_is_what_other_programs_rely_on() {
        let place = Place { folder: "/cache/cluster".into(), address: [127, 0, 100, 1].into() };
        let mut state = State::empty(&place, &Shape::default());
        let process = Pid::running(std::process::id()).unwrap();
        state.processes.insert(Part::Etcd, process);
        state.processes.insert(Part::ApiServer, process);
        let status = Status::of(Some(&state));
        let pid = process.pid;
        let expected = format!(
            r#"{{"kubernetes":"1.34","node":false,"api_server":"127.0.100.1:6443","kubeconfig":"/cache/cluster/kubeconfig.yaml","processes":[{{"name":"etcd","pid":{pid}}},{{"name":"kube-apiserver","pid":{pid}}}],"dead":["kube-controller-manager"]}}"#
        );
        assert_eq!(status.json(), expected);
        assert!(!status.is_well());
        assert!(status.to_string().contains("kube-controller-manager  HAS ENDED\n"), "{status}");
        state.processes.insert(Part::ControllerManager, process);
        assert!(Status::of(Some(&state)).is_well());
        let nothing = Status::of(None);
        assert_eq!((nothing.json().as_str(), nothing.is_well()), (r#"{"processes":[]}"#, true));
        assert_eq!(nothing.to_string(), "no cluster runs\n");
        assert_eq!(nothing.kubeconfig(), None);
    }
}
