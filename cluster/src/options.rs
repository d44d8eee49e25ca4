//! What a cluster is to be, and where.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tallyman_servers::cache;

use crate::error::{Error, Result};
use crate::machine;

/// Port of the API server.
const API_SERVER_PORT: u16 = 6443;
/// A socket's path has at most 107 bytes (`unix(7)`), and containerd adds `/containerd.sock.ttrpc`.
const NODE_FOLDER_BYTES_MAX: usize = 107 - 22;

/// Where a cluster lives. Two clusters never share a folder nor an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// State, data, keys and logs; emptied when the cluster ends.
    pub folder: PathBuf,
    /// The loopback address on which all its processes listen; with a node, the node's own address.
    pub address: Ipv4Addr,
}

impl Place {
    /// The developer's own cluster: `$TALLYMAN_CLUSTER_DIR` or `cluster` in the cache folder, on 127.0.100.1, or on 192.0.2.10 with
    /// a node.
    ///
    /// # Errors
    /// Where there is no cache folder.
    pub fn default_place(shape: &Shape) -> Result<Self> {
        let folder = match std::env::var_os("TALLYMAN_CLUSTER_DIR").filter(|folder| !folder.is_empty()) {
            // Programs run in folders of their own, where a relative path would lead elsewhere.
            Some(folder) => std::path::absolute(&folder).map_err(Error::file(folder.as_ref()))?,
            None => cache::folder()?.join("cluster"),
        };
        let address = if shape.node { Ipv4Addr::new(192, 0, 2, 10) } else { Ipv4Addr::new(127, 0, 100, 1) };
        Ok(Self { folder, address })
    }

    /// A place of its own beside the developer's, such as a test's. The third byte of the address, 127.0.N.1, is to be another
    /// for each name.
    ///
    /// # Errors
    /// Where there is no cache folder.
    pub fn named(name: &str, third_byte: u8) -> Result<Self> {
        let folder = cache::folder()?.join("clusters-of").join(name);
        Ok(Self { folder, address: Ipv4Addr::new(127, 0, third_byte, 1) })
    }

    /// The same for a cluster with a node, at 192.0.2.N: an even number, another for each name.
    ///
    /// # Errors
    /// Where there is no cache folder.
    pub fn of_node(name: &str, last_byte: u8) -> Result<Self> {
        Ok(Self { address: Ipv4Addr::new(192, 0, 2, last_byte), ..Self::named(name, 0)? })
    }

    /// Where the API server listens.
    pub fn api_server(&self) -> SocketAddr {
        (self.address, API_SERVER_PORT).into()
    }

    pub(crate) fn validate(&self, shape: &Shape) -> Result<()> {
        if !cfg!(target_os = "linux") {
            return Err(Error::System(std::env::consts::OS));
        }
        let refused =
            |field, value: String, allowed: &str| Err(Error::Option { field, value, allowed: allowed.to_owned() });
        let [network @ .., last] = self.address.octets();
        if shape.node {
            // The odd one below is our end of the connection.
            if network != machine::NODES || last < 2 || last % 2 != 0 {
                let allowed = "with a node an even one of 192.0.2.2 to 192.0.2.254";
                return refused("address", self.address.to_string(), allowed);
            }
            if machine::OWN_FOLDERS.iter().any(|own| self.folder.starts_with(own)) {
                let allowed =
                    format!("with a node not in one of {}, which it has for itself", machine::OWN_FOLDERS.join(", "));
                return refused("folder of the cluster", self.folder.display().to_string(), &allowed);
            }
            let folder = self.folder.as_os_str().as_encoded_bytes();
            // Options of the node's programs take sockets as URLs, and flags as lists.
            let is_plain = folder.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"/._-+@".contains(&byte));
            if !is_plain || folder.len() > NODE_FOLDER_BYTES_MAX {
                let allowed = format!(
                    "with a node at most {NODE_FOLDER_BYTES_MAX} bytes, as it has sockets there, of letters, digits and /._-+@"
                );
                return refused("folder of the cluster", self.folder.display().to_string(), &allowed);
            }
        } else if !self.address.is_loopback() {
            return refused("address", self.address.to_string(), "loopback, 127.0.0.1 to 127.255.255.254");
        }
        Ok(())
    }
}

/// A Kubernetes that can be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Version {
    /// The oldest that we support.
    #[default]
    #[serde(rename = "1.34")]
    V1_34,
    /// The newest.
    #[serde(rename = "1.36")]
    V1_36,
}

impl Version {
    /// All of them, the oldest first.
    pub const ALL: [Self; 2] = [Self::V1_34, Self::V1_36];

    /// With its patch, such as `1.34.4`.
    pub fn full(self) -> &'static str {
        match self {
            Self::V1_34 => "1.34.4",
            Self::V1_36 => "1.36.3",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_34 => "1.34",
            Self::V1_36 => "1.36",
        })
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|version| version.to_string() == text);
        found.ok_or_else(|| {
            let allowed = Self::ALL.map(|version| version.to_string()).join(" or ");
            Error::Option { field: "Kubernetes version", value: text.to_owned(), allowed }
        })
    }
}

/// What a cluster consists of: always etcd, one API server and one controller manager.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shape {
    /// The Kubernetes that runs.
    pub version: Version,
    /// Whether there is a node that runs pods, on a machine of its own.
    pub node: bool,
}

impl Shape {
    /// Without a node.
    pub fn control_plane(version: Version) -> Self {
        Self { version, node: false }
    }

    /// With a node.
    pub fn with_node(version: Version) -> Self {
        Self { version, node: true }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, node } = self;
        let what = if *node { "node" } else { "control plane" };
        write!(f, "{what} of Kubernetes {version}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_it_is_written_and_others_are_refused_with_what_is_possible() {
        for version in Version::ALL {
            assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
            assert!(version.full().starts_with(&format!("{version}.")));
            assert_eq!(serde_json::to_string(&version).unwrap(), format!("\"{version}\""));
        }
        let refused = "1.20".parse::<Version>().unwrap_err().to_string();
        assert_eq!(refused, "Kubernetes version: 1.20: 1.34 or 1.36");
    }

    #[test]
    fn a_cluster_is_never_put_where_others_can_reach_it() {
        let refused = |address: [u8; 4], shape: &Shape| {
            let place = Place { folder: "/somewhere".into(), address: address.into() };
            place.validate(shape).unwrap_err().to_string()
        };
        let (without, with) = (Shape::default(), Shape::with_node(Version::default()));
        assert_eq!(refused([192, 0, 2, 1], &without), "address: 192.0.2.1: loopback, 127.0.0.1 to 127.255.255.254");
        for address in [[127, 0, 100, 1], [192, 0, 2, 11], [192, 0, 2, 0], [192, 168, 2, 10]] {
            assert!(refused(address, &with).ends_with("with a node an even one of 192.0.2.2 to 192.0.2.254"));
        }
        Place { folder: "/somewhere".into(), address: [127, 0, 100, 1].into() }.validate(&without).unwrap();
        Place { folder: "/somewhere".into(), address: [192, 0, 2, 10].into() }.validate(&with).unwrap();
    }

    #[test]
    fn a_node_is_not_put_where_its_sockets_cannot_be() {
        let check = |folder: &str| {
            let place = Place { folder: folder.into(), address: [192, 0, 2, 10].into() };
            place.validate(&Shape::with_node(Version::default())).map_err(|error| error.to_string())
        };
        let long = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
        check(&long(85)).unwrap();
        for folder in [long(86), "/home/me/my cluster".to_owned(), "/home/jos\u{e9}/cluster".to_owned()] {
            let refused = check(&folder).unwrap_err();
            assert!(
                refused.starts_with(&format!("folder of the cluster: {folder}: with a node at most 85 bytes")),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_node_is_not_put_where_it_would_not_see_its_own_files() {
        let place = Place { folder: "/run/user/0/cluster".into(), address: [192, 0, 2, 10].into() };
        let refused = place.validate(&Shape::with_node(Version::default())).unwrap_err().to_string();
        assert!(refused.starts_with("folder of the cluster: /run/user/0/cluster: "), "{refused}");
    }
}
