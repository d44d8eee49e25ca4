//! The machine that a node's processes believe to be on: namespaces of its own for network, mounts and processes, in which a first
//! process holds them all. What runs in there, and what it mounted, goes with that process, also after a crash.
//!
//! The machine is connected with ours by a pair of virtual interfaces, and with nothing else: its default route leads to our end,
//! and we answer there for one address only.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tallyman_servers::process::{copy, now, run};
use tallyman_servers::{Pid, debian};

use crate::error::{Error, Result};
use crate::options::Place;

/// Documentation addresses (RFC 5737): a node is reached by one of them, from this machine alone.
pub(crate) const NODES: [u8; 3] = [192, 0, 2];
/// Where programs keep things outside the folder of a place: each machine has its own, in memory.
pub(crate) const OWN_FOLDERS: [&str; 4] = ["/run", "/var/log", "/var/lib/cni", "/var/lib/kubelet"];
/// What runs as the first process.
const FIRST_PROCESS: &str = "tini";
/// How long the system may take to make namespaces.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);
/// What a kubelet sets of the kernel that no namespace has for itself, and what it sets it to (`pkg/kubelet/cm` of Kubernetes).
const KERNEL_SETTINGS: [(&str, u32); 6] = [
    ("vm/overcommit_memory", 1),
    ("vm/panic_on_oom", 0),
    ("kernel/panic", 10),
    ("kernel/panic_on_oops", 1),
    ("kernel/keys/root_maxkeys", 1_000_000),
    ("kernel/keys/root_maxbytes", 25_000_000),
];
const CGROUPS: &str = "/sys/fs/cgroup";
/// A machine's name for its end of the pair.
const INSIDE: &str = "eth0";

/// What holds a machine. Its child is the machine's first process, and is what to end.
pub(crate) fn command() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    // A first process has to take note of the ends of those that lost their parent.
    command.args([FIRST_PROCESS, "--", "sleep", "infinity"]);
    command
}

/// Refuses who could not start a machine.
pub(crate) fn ensure_possible() -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let ourselves = Path::new("/proc/self");
    let is_root = ourselves.metadata().map_err(Error::file(ourselves))?.uid() == 0;
    if is_root { Ok(()) } else { Err(Error::NotRoot) }
}

/// The process that a program started by [`command`] or [`Entry::Everything`] is: such programs wait for their one child.
pub(crate) fn child_of(parent: Pid) -> Option<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.pid)).ok()?;
    Pid::running(children.split_whitespace().next()?.parse().ok()?)
}

/// How far a process goes into a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Sees its network, and our files and processes. The program itself has the started process's id.
    Network,
    /// Sees nothing else. The program is a child of the started process.
    Everything,
}

/// The same command, in the machine whose first process this is.
pub(crate) fn inside(machine: Pid, entry: Entry, command: &Command) -> Command {
    let mut inside = Command::new("nsenter");
    inside.arg(format!("--target={}", machine.pid)).arg("--net");
    if entry == Entry::Everything {
        inside.args(["--mount", "--pid"]);
    }
    inside.arg("--").arg(command.get_program());
    copy(command, inside)
}

/// Gives a new machine folders of its own and its connection with ours, and the further addresses that are to be its own.
pub(crate) fn prepare(machine: Pid, place: &Place, more: &[Ipv4Addr]) -> Result<()> {
    ensure_begun(machine)?;
    // What is mounted from here on stays in here, whatever this system does by default.
    within(machine, Entry::Everything, "mount", &["--make-rprivate", "/"])?;
    let (node, peer, outside) = (place.address.to_string(), peer(place.address).to_string(), interface(place.address));
    for folder in OWN_FOLDERS {
        // What something is to be mounted on has to be there, and stays, empty.
        std::fs::create_dir_all(folder).map_err(Error::file(folder.as_ref()))?;
        within(machine, Entry::Everything, "mount", &["-t", "tmpfs", "tmpfs", folder])?;
    }
    keep_kernel_settings(machine)?;
    let network = format!("/proc/{}/ns/net", machine.pid);
    let mut pair = ip(&["link", "add", &outside, "type", "veth", "peer", "name", INSIDE, "netns", &network]);
    run(&format!("connecting the network of {node} (does another cluster with this address run?)"), &mut pair)?;
    let outer = |arguments: &[&str]| run("preparing our end of the network", &mut ip(arguments));
    outer(&["link", "set", &outside, "alias", &alias(place)])?;
    outer(&["address", "add", &peer, "peer", &node, "dev", &outside])?;
    outer(&["link", "set", &outside, "up"])?;
    let inner = |arguments: &[&str]| within(machine, Entry::Network, "ip", arguments);
    inner(&["link", "set", "lo", "up"])?;
    inner(&["address", "add", &node, "peer", &peer, "dev", INSIDE])?;
    inner(&["link", "set", INSIDE, "up"])?;
    inner(&["route", "add", "default", "dev", INSIDE])?;
    for address in more {
        inner(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    // These settings are each network namespace's own.
    within(machine, Entry::Network, "sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
}

/// Removes the connection with a machine that has ended, if it is this place's. The system would, but in its own time, and until then the
/// address cannot be used again.
pub(crate) fn disconnect(place: &Place) {
    let outside = interface(place.address);
    let found = std::fs::read_to_string(format!("/sys/class/net/{outside}/ifalias")).unwrap_or_default();
    if found.trim_end() == alias(place) {
        // It fails where the system was faster.
        let _ = run("removing a connection", &mut ip(&["link", "delete", &outside]));
    }
}

/// Removes the control groups of containers that have ended with their machine. Those of another machine have processes, and stay.
pub(crate) fn remove_cgroups() {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    };
    // One hierarchy, or one for each controller.
    for hierarchy in folders(CGROUPS.as_ref()).into_iter().chain([PathBuf::from(CGROUPS)]) {
        let containers = hierarchy.join("k8s.io");
        for container in folders(&containers).into_iter().chain([containers]) {
            // What cannot be removed is in use.
            let _ = std::fs::remove_dir(container);
        }
    }
}

/// Waits until the machine's first process is itself: until then, its namespaces are being made.
fn ensure_begun(machine: Pid) -> Result<()> {
    let path = PathBuf::from(format!("/proc/{}/comm", machine.pid));
    let deadline = now() + PATIENCE;
    loop {
        let name = std::fs::read_to_string(&path).map_err(Error::file(&path))?;
        if name.trim() == FIRST_PROCESS && machine.is_alive() {
            return Ok(());
        }
        if now() >= deadline {
            return Err(Error::file(&path)(std::io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(POLL);
    }
}

/// Kubelets change settings of the whole kernel that are not as they want them. Ours sees them as wanted, in files of the machine's own.
fn keep_kernel_settings(machine: Pid) -> Result<()> {
    let mut script = "set -e; mkdir /run/kernel".to_owned();
    for (setting, wanted) in KERNEL_SETTINGS {
        let own = format!("/run/kernel/{}", setting.replace('/', "."));
        let _ = write!(script, "; echo {wanted} > {own}; mount --bind {own} /proc/sys/{setting}");
    }
    within(machine, Entry::Everything, "sh", &["-c", &script])
}

fn within(machine: Pid, entry: Entry, program: &str, arguments: &[&str]) -> Result<()> {
    let found = debian::find(program).unwrap_or_else(|| PathBuf::from(program));
    let mut command = inside(machine, entry, Command::new(found).args(arguments));
    Ok(run(&format!("preparing a machine of our own: {program} {}", arguments.join(" ")), &mut command)?)
}

fn ip(arguments: &[&str]) -> Command {
    let mut command = Command::new(debian::find("ip").unwrap_or_else(|| PathBuf::from("ip")));
    command.args(arguments);
    command
}

/// Our address on the connection with a node.
fn peer(node: Ipv4Addr) -> Ipv4Addr {
    let [a, b, c, d] = node.octets();
    [a, b, c, d - 1].into()
}

/// Our end of the pair: each node has another.
fn interface(node: Ipv4Addr) -> String {
    format!("tallyman-{}", node.octets()[3])
}

/// Whose a connection is: two places may want the same address.
fn alias(place: &Place) -> String {
    place.folder.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_a_connection_of_its_own() {
        let (one, other) = ([192, 0, 2, 10].into(), [192, 0, 2, 12].into());
        assert_eq!(peer(one), Ipv4Addr::from([192, 0, 2, 9]));
        assert_eq!(interface(one), "tallyman-10");
        assert_ne!(peer(other), one);
        // The kernel's limit on names of interfaces.
        assert!(interface([192, 0, 2, 254].into()).len() <= 15);
    }

    #[test]
    fn a_command_keeps_its_folder_and_its_variables_inside() {
        let machine = Pid::running(std::process::id()).unwrap();
        let mut command = Command::new("program");
        command.args(["--flag", "value"]).env("A", "b").current_dir("/tmp");
        let inside = inside(machine, Entry::Network, &command);
        let arguments: Vec<String> = inside.get_args().map(|part| part.to_string_lossy().into_owned()).collect();
        assert_eq!(arguments, [&format!("--target={}", machine.pid), "--net", "--", "program", "--flag", "value"]);
        assert_eq!(inside.get_current_dir(), Some(Path::new("/tmp")));
        assert!(inside.get_envs().any(|(name, value)| name == "A" && value.is_some_and(|value| value == "b")));
    }
}
