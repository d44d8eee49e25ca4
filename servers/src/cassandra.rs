//! One Cassandra node: its files, its process, and whether it is up.

mod certificates;
mod configuration;
mod cql;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) use self::certificates::Certificates;
pub(crate) use self::configuration::{JVM_OPTIONS, LOGBACK};
use self::configuration::{rackdc, yaml};
use self::cql::{Connection, Consistency};
use crate::error::{Error, Result};
use crate::install;
use crate::options::{CommitlogSync, Shape};
use crate::process::{Pid, end_of, now};

/// The port of every node's native protocol.
pub const NATIVE_PORT: u16 = 9042;
/// Where TLS is on, [`NATIVE_PORT`] speaks nothing else, and this one is for our own questions.
const PLAIN_PORT: u16 = 9041;
/// The port on which nodes speak with each other.
const STORAGE_PORT: u16 = 7000;
/// Name and password of the superuser where passwords are checked.
pub const SUPERUSER: (&str, &str) = ("cassandra", "cassandra");

/// The jar that measures objects for Cassandra.
pub(crate) const AGENT: &str = "jamm-0.4.0.jar";
const HEAP_MEBIBYTES: u16 = 600;
/// How long a node may take to start or to be seen by the others. On an idle machine it takes 12 s.
const PATIENCE: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(200);

/// What a node needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub folder: PathBuf,
    pub address: Ipv4Addr,
    /// The first node of the set.
    pub seed: Ipv4Addr,
    pub datacenter: String,
    pub auth: bool,
    pub commitlog_sync: CommitlogSync,
    pub certificates: Option<Certificates>,
}

impl Settings {
    /// Writes the node's configuration into its folder.
    pub(crate) fn write(&self) -> Result<()> {
        let conf = self.folder.join("conf");
        fs::create_dir_all(&conf).map_err(Error::file(&conf))?;
        for (path, text) in [
            (self.folder.join("cassandra.yaml"), yaml(self)),
            (conf.join("cassandra-rackdc.properties"), rackdc(&self.datacenter)),
            (conf.join("logback.xml"), LOGBACK.to_owned()),
        ] {
            fs::write(&path, text).map_err(Error::file(&path))?;
        }
        Ok(())
    }

    /// The ports that this node binds.
    pub(crate) fn binds(&self) -> Vec<SocketAddr> {
        let plain = self.certificates.is_some().then_some(PLAIN_PORT);
        let ports = [NATIVE_PORT, STORAGE_PORT].into_iter().chain(plain);
        ports.map(|port| (self.address, port).into()).collect()
    }
}

/// Where a node's output goes.
pub(crate) fn log(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// The command of a node whose files [`Settings::write`] has written.
pub(crate) fn command(folder: &Path, installed: &install::Cassandra) -> Command {
    let mut command = Command::new(&installed.java);
    command
        .arg(format!("-Xmx{HEAP_MEBIBYTES}m"))
        .arg(format!("-Xms{HEAP_MEBIBYTES}m"))
        .arg(format!("-javaagent:{}", installed.lib.join(AGENT).display()))
        .arg(format!("-Dcassandra.config=file:{}", folder.join("cassandra.yaml").display()))
        .arg(format!("-Dcassandra.storagedir={}", folder.display()))
        .args(JVM_OPTIONS)
        .arg("-cp")
        .arg(format!("{}:{}/*", folder.join("conf").display(), installed.lib.display()))
        .arg("org.apache.cassandra.service.CassandraDaemon")
        .current_dir(folder);
    command
}

/// A node that has been started.
#[derive(Debug)]
pub(crate) struct Running {
    pub folder: PathBuf,
    pub address: Ipv4Addr,
    pub pid: Pid,
    pub auth: bool,
    pub tls: bool,
}

impl Running {
    fn name(&self) -> String {
        format!("Cassandra on {}", self.address)
    }

    fn connect(&self) -> std::result::Result<Connection, String> {
        let port = if self.tls { PLAIN_PORT } else { NATIVE_PORT };
        Connection::open((self.address, port).into(), self.auth.then_some(SUPERUSER))
    }

    /// Waits until the node answers its clients, which it does once it has joined the ring.
    pub(crate) fn wait_until_up(&self) -> Result<()> {
        self.wait(|connection| connection.query("SELECT key FROM system.local", Consistency::One))
    }

    /// The same, and until the node sees all others up.
    pub(crate) fn wait_until_whole(&self) -> Result<()> {
        // This keyspace lies on every node, so that reading all of it from all its replicas needs every node. Where it has
        // just been given more replicas, reading it is also what brings the rows there.
        self.wait(|connection| connection.query("SELECT * FROM system_auth.roles", Consistency::All))
    }

    /// Gives logins a replica on every node, so that they survive any one of them.
    pub(crate) fn spread_logins(&self, shape: &Shape) -> Result<()> {
        let replicas: String = shape.datacenter_names().map(|name| format!(", '{name}': {}", shape.nodes)).collect();
        let alter =
            format!("ALTER KEYSPACE system_auth WITH replication = {{'class': 'NetworkTopologyStrategy'{replicas}}}");
        self.wait(|connection| connection.query(&alter, Consistency::One))
    }

    fn wait(&self, mut ask: impl FnMut(&mut Connection) -> std::result::Result<(), String>) -> Result<()> {
        let deadline = now() + PATIENCE;
        let log = log(&self.folder);
        loop {
            let answer = self.connect().and_then(|mut connection| ask(&mut connection));
            let Err(last) = answer else { return Ok(()) };
            if !self.pid.is_alive() {
                return Err(Error::Died { server: self.name(), log: end_of(&log) });
            }
            if now() >= deadline {
                return Err(Error::NotReady { server: self.name(), patience: PATIENCE, last, log: end_of(&log) });
            }
            std::thread::sleep(POLL);
        }
    }
}
