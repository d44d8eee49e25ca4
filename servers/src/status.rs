//! What runs in a place, for people and programs.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Serialize;

use crate::cassandra::{Certificates, NATIVE_PORT, SUPERUSER};
use crate::error::Result;
use crate::options::Place;
use crate::set::certificates_folder;
use crate::state::State;

/// The servers of a set. Its JSON form is a contract with other programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    cassandra: Vec<Cassandra>,
    memcached: Vec<Memcached>,
    /// Servers that were started and have ended, though nobody asked them to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dead: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    superuser: Option<Superuser>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Cassandra {
    address: Ipv4Addr,
    port: u16,
    datacenter: String,
    pid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Memcached {
    address: String,
    port: u16,
    pid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Superuser {
    name: &'static str,
    password: &'static str,
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
        let mut status = Self { cassandra: vec![], memcached: vec![], dead: vec![], ca_file: None, superuser: None };
        let Some(state) = state else { return status };
        for node in &state.nodes {
            let (address, datacenter) = (node.address, node.datacenter.clone());
            if node.process.is_alive() {
                status.cassandra.push(Cassandra { address, port: NATIVE_PORT, datacenter, pid: node.process.pid });
            } else {
                status.dead.push(format!("cassandra {address}:{NATIVE_PORT}"));
            }
        }
        for server in &state.memcached {
            let (address, port) = (server.address.ip().to_string(), server.address.port());
            if server.process.is_alive() {
                status.memcached.push(Memcached { address, port, pid: server.process.pid });
            } else {
                status.dead.push(format!("memcached {}", server.address));
            }
        }
        let certificates = state.shape.tls.then(|| Certificates::in_folder(&certificates_folder(&state.place)));
        status.ca_file = certificates.map(|certificates| certificates.ca_file());
        status.superuser = state.shape.auth.then_some(Superuser { name: SUPERUSER.0, password: SUPERUSER.1 });
        status
    }

    /// Whether every server that was started still runs.
    pub fn is_well(&self) -> bool {
        self.dead.is_empty()
    }

    /// The JSON form, in one line.
    pub fn json(&self) -> String {
        // Strings, numbers and a path that was text before: none of it can fail.
        serde_json::to_string(self).expect("a status is JSON")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cassandra.is_empty() && self.memcached.is_empty() && self.dead.is_empty() {
            return writeln!(f, "no servers run");
        }
        for Cassandra { address, port, datacenter, pid } in &self.cassandra {
            writeln!(f, "cassandra {address}:{port}  {datacenter}  pid {pid}")?;
        }
        for Memcached { address, port, pid } in &self.memcached {
            writeln!(f, "memcached {address}:{port}  pid {pid}")?;
        }
        for server in &self.dead {
            writeln!(f, "{server}  HAS ENDED")?;
        }
        if let Some(ca_file) = &self.ca_file {
            writeln!(f, "TLS: trust {}", ca_file.display())?;
        }
        if let Some(Superuser { name, password }) = &self.superuser {
            writeln!(f, "superuser {name}, password {password}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Shape;
    use crate::process::Pid;
    use crate::state;

    fn state(shape: Shape, process: Pid) -> State {
        let place = Place { folder: "/cache/servers".into(), first_address: Ipv4Addr::LOCALHOST };
        let mut state = State::empty(&place, &shape);
        for (node, address) in shape.node_addresses(&place).enumerate() {
            state.nodes.push(state::Node { address, datacenter: shape.datacenter(node), process });
        }
        for port in shape.memcached_ports() {
            state.memcached.push(state::Memcached { address: (Ipv4Addr::LOCALHOST, port).into(), process });
        }
        state
    }

    #[test]
    fn the_json_of_a_status_is_what_other_programs_rely_on() {
        let process = Pid::running(std::process::id()).unwrap();
        let pid = process.pid;
        let shape = Shape { nodes: 1, datacenters: 2, memcached: 1, ..Shape::default() };
        let expected = format!(
            r#"{{"cassandra":[{{"address":"127.0.0.1","port":9042,"datacenter":"dc1","pid":{pid}}},{{"address":"127.0.0.2","port":9042,"datacenter":"dc2","pid":{pid}}}],"memcached":[{{"address":"127.0.0.1","port":11311,"pid":{pid}}}]}}"#
        );
        let status = Status::of(Some(&state(shape, process)));
        assert_eq!(status.json(), expected);
        assert!(status.is_well());
        let nothing = Status::of(None);
        assert_eq!(nothing.json(), r#"{"cassandra":[],"memcached":[]}"#);
        assert_eq!(nothing.to_string(), "no servers run\n");
        assert!(nothing.is_well());
    }

    #[test]
    fn a_server_that_has_ended_is_told_apart_from_those_that_run() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let process = Pid::running(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let shape = Shape { memcached: 1, auth: true, tls: true, ..Shape::default() };
        let status = Status::of(Some(&state(shape, process)));
        assert!(!status.is_well());
        let expected = r#"{"cassandra":[],"memcached":[],"dead":["cassandra 127.0.0.1:9042","memcached 127.0.0.1:11311"],"ca_file":"/cache/servers/certificates/ca.pem","superuser":{"name":"cassandra","password":"cassandra"}}"#;
        assert_eq!(status.json(), expected);
        let text = status.to_string();
        assert!(text.contains("cassandra 127.0.0.1:9042  HAS ENDED\n"), "{text}");
        assert!(text.contains("superuser cassandra, password cassandra"), "{text}");
    }
}
