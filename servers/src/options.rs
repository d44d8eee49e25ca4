//! What a set of servers is to be, and where.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::{cache, memcached};

/// Nodes that still fit into one machine's memory (about 1.1 GiB each) and patience.
const NODES_MAX: u16 = 9;
const MEMCACHED_MAX: u16 = 32;
const MEMORY_MIN_BYTES: u64 = 4 << 30;

/// Where a set of servers lives. Two sets never share a folder nor an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// State, data and logs; emptied when the set ends.
    pub folder: PathBuf,
    /// The first Cassandra node's loopback address; the others follow one by one. All memcached servers listen on it too.
    pub first_address: Ipv4Addr,
}

impl Place {
    /// The developer's own set: `$TALLYMAN_SERVERS_DIR` or `servers` in the cache folder, from 127.0.0.1 on.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no cache folder.
    pub fn default_place() -> Result<Self> {
        let folder = match std::env::var_os("TALLYMAN_SERVERS_DIR").filter(|folder| !folder.is_empty()) {
            // Servers run in folders of their own, where a relative path would lead elsewhere.
            Some(folder) => std::path::absolute(&folder).map_err(Error::file(folder.as_ref()))?,
            None => cache::folder()?.join("servers"),
        };
        Ok(Self { folder, first_address: Ipv4Addr::LOCALHOST })
    }

    /// A place of its own beside the developer's, such as a benchmark's. The third byte of the address, 127.0.N.1, is to be
    /// another for each name.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is no cache folder.
    pub fn named(name: &str, third_byte: u8) -> Result<Self> {
        Ok(Self::of(&cache::folder()?.join("servers-of"), name, third_byte))
    }

    /// The same for a test: its data, some tens of megabytes, is in memory where this machine has room for that. A disk that others
    /// write to makes servers stand still for seconds; of what a killed process wrote, memory keeps as much as a disk.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is neither that nor a cache folder.
    pub fn in_memory(name: &str, third_byte: u8) -> Result<Self> {
        let user = rustix::process::getuid();
        match memory() {
            Some(memory) => Ok(Self::of(&memory.join(format!("tallyman-servers-of-{user}")), name, third_byte)),
            None => Self::named(name, third_byte),
        }
    }

    fn of(places: &Path, name: &str, third_byte: u8) -> Self {
        Self { folder: places.join(name), first_address: Ipv4Addr::new(127, 0, third_byte, 1) }
    }
}

/// A file system in memory, unless it is a small one, as containers have. Not by what is free now: a place is where it was, so that
/// what an earlier run left there is found.
fn memory() -> Option<PathBuf> {
    let memory = PathBuf::from("/dev/shm");
    let size = rustix::fs::statvfs(&memory).ok()?;
    (size.f_blocks.saturating_mul(size.f_frsize) >= MEMORY_MIN_BYTES).then_some(memory)
}

/// When Cassandra's commit log is fsynced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitlogSync {
    /// Before each acknowledgement; what waits shares one fsync. A killed node loses nothing it acknowledged.
    #[default]
    Batch,
    /// As `Batch`, and each fsync waits 15 ms for company.
    Group,
    /// Every 10 s, acknowledged before, which is Cassandra's own default. A killed node forgets up to 10 s.
    Periodic,
}

/// What a set consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Cassandra nodes in each datacenter.
    pub nodes: u16,
    /// Datacenters: dc1, dc2, …
    pub datacenters: u16,
    /// Passwords and permissions are checked; superuser [`SUPERUSER`](crate::SUPERUSER).
    pub auth: bool,
    /// Clients must speak TLS, with a certificate authority made for this set.
    pub tls: bool,
    /// When the commit log is fsynced.
    pub commitlog_sync: CommitlogSync,
    /// memcached servers.
    pub memcached: u16,
}

impl Default for Shape {
    /// One Cassandra node that keeps what it acknowledges.
    fn default() -> Self {
        let commitlog_sync = CommitlogSync::default();
        Self { nodes: 1, datacenters: 1, auth: false, tls: false, commitlog_sync, memcached: 0 }
    }
}

impl Shape {
    /// Cassandra nodes in all datacenters.
    pub fn nodes_in_all(&self) -> u16 {
        self.nodes.saturating_mul(self.datacenters)
    }

    pub(crate) fn validate(&self, place: &Place) -> Result<()> {
        let refused = |field, value: String, allowed: String| Err(Error::Option { field, value, allowed });
        if self.datacenters == 0 {
            return refused("datacenters", "0".to_owned(), "at least 1".to_owned());
        }
        if self.nodes_in_all() > NODES_MAX {
            let value = format!("{} in each of {} datacenters", self.nodes, self.datacenters);
            return refused("nodes", value, format!("at most {NODES_MAX} in all; each takes about 1.1 GiB of memory"));
        }
        if self.memcached > MEMCACHED_MAX {
            return refused("memcached", self.memcached.to_string(), format!("at most {MEMCACHED_MAX}"));
        }
        if self.nodes == 0 && self.memcached == 0 {
            return refused("nodes", "0".to_owned(), "at least 1 where there is no memcached either".to_owned());
        }
        let first = place.first_address;
        if !first.is_loopback() || !self.node_addresses(place).all(|address| address.is_loopback()) {
            return refused("first address", first.to_string(), "loopback, 127.0.0.1 to 127.255.255.240".to_owned());
        }
        Ok(())
    }

    /// The addresses of all Cassandra nodes, datacenter by datacenter.
    pub(crate) fn node_addresses(&self, place: &Place) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let first = u32::from(place.first_address);
        (0..u32::from(self.nodes_in_all())).map(move |index| Ipv4Addr::from(first.saturating_add(index)))
    }

    /// The datacenter of a node, by its position among all.
    pub(crate) fn datacenter(&self, node: usize) -> String {
        format!("dc{}", node / usize::from(self.nodes.max(1)) + 1)
    }

    pub(crate) fn datacenter_names(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.datacenters).map(|number| format!("dc{number}"))
    }

    pub(crate) fn memcached_ports(&self) -> impl Iterator<Item = u16> + use<> {
        (0..self.memcached).map(|index| memcached::FIRST_PORT + index)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sync = format!("{:?}", self.commitlog_sync).to_lowercase();
        let Self { nodes, datacenters, auth, tls, memcached, .. } = self;
        write!(f, "{nodes} Cassandra per datacenter, {datacenters} datacenters, {memcached} memcached, ")?;
        let word = |is_on| if is_on { "on" } else { "off" };
        write!(f, "auth {}, TLS {}, commit log synced by {sync}", word(*auth), word(*tls))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(first_address: &str) -> Place {
        Place { folder: "/somewhere".into(), first_address: first_address.parse().unwrap() }
    }

    fn shape(nodes: u16, datacenters: u16, memcached: u16) -> Shape {
        Shape { nodes, datacenters, memcached, ..Shape::default() }
    }

    #[test]
    fn nodes_fill_one_datacenter_after_the_other_on_consecutive_addresses() {
        let shape = shape(2, 2, 0);
        let place = place("127.0.0.9");
        let addresses: Vec<_> = shape.node_addresses(&place).map(|address| address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.9", "127.0.0.10", "127.0.0.11", "127.0.0.12"]);
        let datacenters: Vec<_> = (0..4).map(|node| shape.datacenter(node)).collect();
        assert_eq!(datacenters, ["dc1", "dc1", "dc2", "dc2"]);
        assert_eq!(shape.datacenter_names().collect::<Vec<_>>(), ["dc1", "dc2"]);
    }

    #[test]
    fn a_tests_place_is_the_same_again_and_another_than_a_benchmarks() {
        let place = |name| Place::in_memory(name, 9).unwrap();
        assert_eq!(place("flights"), place("flights"));
        assert_ne!(place("flights").folder, place("faults").folder);
        assert!(place("flights").folder.ends_with("flights"));
        assert_eq!(memory().is_some(), place("flights").folder != Place::named("flights", 9).unwrap().folder);
    }

    #[test]
    fn an_impossible_shape_is_refused_with_what_is_possible() {
        let refused = |shape: Shape, first: &str| shape.validate(&place(first)).unwrap_err().to_string();
        assert_eq!(refused(shape(1, 0, 0), "127.0.0.1"), "datacenters: 0: at least 1");
        assert!(refused(shape(4, 3, 0), "127.0.0.1").starts_with("nodes: 4 in each of 3 datacenters: at most 9"));
        assert!(refused(shape(0, 1, 0), "127.0.0.1").starts_with("nodes: 0: at least 1"));
        assert!(refused(shape(1, 1, 33), "127.0.0.1").starts_with("memcached: 33: at most 32"));
        assert!(refused(shape(1, 1, 0), "10.0.0.1").starts_with("first address: 10.0.0.1: loopback"));
        assert!(refused(shape(2, 1, 0), "127.255.255.255").starts_with("first address"));
        shape(3, 3, 4).validate(&place("127.0.0.1")).unwrap();
        shape(0, 1, 1).validate(&place("127.0.0.1")).unwrap();
    }
}
