//! A set of servers: started together, hurt one by one, ended together.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use crate::cassandra::{self, Certificates, Running, Settings};
use crate::error::{Error, Result};
use crate::options::{Place, Shape};
use crate::process::{self, Pid, now};
use crate::progress::Task;
use crate::state::{Lock, Memcached, Node, State};
use crate::{install, memcached};

/// How long servers may take to end when asked to, before they are killed.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// What [`Set::up`] had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Up {
    /// Nothing ran before.
    Started,
    /// Just this ran already.
    RanAlready,
    /// Just this was started before, and some servers had ended; they run again, with their data.
    Revived,
}

/// A set of servers that ends with this value.
///
/// Nodes and memcached servers are named by their position, from 0.
#[derive(Debug)]
pub struct Set {
    state: State,
    programs: Programs,
    children: Vec<Child>,
    /// Servers that run on behind us have a session of their own; others hear what our terminal says, such as Ctrl-C.
    is_detached: bool,
    _lock: Lock,
}

/// What servers are started from.
#[derive(Debug, Default)]
struct Programs {
    cassandra: Option<install::Cassandra>,
    memcached: Option<PathBuf>,
}

impl Programs {
    fn cassandra(&mut self) -> Result<&install::Cassandra> {
        if self.cassandra.is_none() {
            self.cassandra = Some(install::cassandra()?);
        }
        // It was set just above.
        Ok(self.cassandra.as_ref().expect("Cassandra is installed"))
    }

    fn memcached(&mut self) -> Result<&Path> {
        if self.memcached.is_none() {
            self.memcached = Some(install::memcached()?);
        }
        // It was set just above.
        Ok(self.memcached.as_deref().expect("memcached is installed"))
    }
}

impl Set {
    /// Starts servers that run on until [`down`](Self::down), installing what is missing.
    ///
    /// # Errors
    /// [`Error::OtherShape`] where other servers run in this place; whatever keeps servers from starting.
    pub fn up(place: &Place, shape: &Shape) -> Result<Up> {
        shape.validate(place)?;
        let mut set = Self::locked(place, shape, true)?;
        if let Some(running) = State::load(&place.folder)? {
            let is_same = running.place == *place && running.shape == *shape && running.is_complete();
            if is_same {
                set.state = running;
                return set.revive();
            }
            if running.processes().any(Pid::is_alive) {
                let describe = |place: &Place, shape: &Shape| format!("{shape}, from {} on", place.first_address);
                return Err(Error::OtherShape {
                    folder: place.folder.clone(),
                    running: describe(&running.place, &running.shape),
                    asked: describe(place, shape),
                });
            }
        }
        set.start_all()?;
        Ok(Up::Started)
    }

    /// Starts servers that end with the returned value. What an earlier run left in this place is ended first; one that still
    /// goes on is waited for.
    ///
    /// # Errors
    /// Whatever keeps servers from starting.
    pub fn start(place: &Place, shape: &Shape) -> Result<Self> {
        shape.validate(place)?;
        let mut set = Self::locked(place, shape, false)?;
        if let Some(left) = State::load(&place.folder)? {
            end(&left)?;
        }
        set.start_all()?;
        Ok(set)
    }

    /// Ends what runs in a place and removes its data; whether there was anything.
    ///
    /// # Errors
    /// [`Error`] where processes cannot be ended or files not be removed.
    pub fn down(place: &Place) -> Result<bool> {
        let _lock = Lock::take(&place.folder)?;
        let state = State::load(&place.folder)?;
        if let Some(state) = &state {
            end(state)?;
            empty(&place.folder)?;
        }
        Ok(state.is_some())
    }

    fn locked(place: &Place, shape: &Shape, is_detached: bool) -> Result<Self> {
        let lock = Lock::take(&place.folder)?;
        let state = State::empty(place, shape);
        Ok(Self { state, programs: Programs::default(), children: Vec::new(), is_detached, _lock: lock })
    }

    /// The Cassandra nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.state.nodes
    }

    /// The memcached servers.
    pub fn memcached(&self) -> &[Memcached] {
        &self.state.memcached
    }

    /// Where Cassandra's clients connect: `127.0.0.1:9042,127.0.0.2:9042`.
    pub fn contact_points(&self) -> String {
        let points: Vec<String> = self.nodes().iter().map(|node| node.contact_point().to_string()).collect();
        points.join(",")
    }

    /// Certificate of the authority that clients are to trust, where TLS is on.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.certificates().map(|certificates| certificates.ca_file())
    }

    /// Where a node's log is.
    pub fn node_log(&self, node: usize) -> PathBuf {
        cassandra::log(&self.node_folder(node))
    }

    /// Kills a node (SIGKILL). Its data stay.
    ///
    /// # Errors
    /// [`Error::Signal`], [`Error::Unstoppable`].
    pub fn kill_node(&mut self, node: usize) -> Result<()> {
        self.kill(self.state.nodes[node].process)
    }

    /// Stops a node in its tracks (SIGSTOP); its connections stay open and silent.
    ///
    /// # Errors
    /// [`Error::Signal`], [`Error::Unstoppable`].
    pub fn pause_node(&self, node: usize) -> Result<()> {
        self.state.nodes[node].process.pause()
    }

    /// Lets a paused node go on (SIGCONT).
    ///
    /// # Errors
    /// [`Error::Signal`].
    pub fn resume_node(&self, node: usize) -> Result<()> {
        self.state.nodes[node].process.resume()
    }

    /// Starts a node again on its data, killing it first if it runs, and waits until it is up.
    ///
    /// # Errors
    /// [`Error::Died`], [`Error::NotReady`], or whatever keeps its process from starting.
    pub fn restart_node(&mut self, node: usize) -> Result<()> {
        self.kill_node(node)?;
        self.spawn_node(node)?;
        self.wait_until_up(node)
    }

    /// Waits until a node answers its clients and sees every other one up that runs.
    ///
    /// # Errors
    /// [`Error::Died`], [`Error::NotReady`].
    pub fn wait_until_up(&self, node: usize) -> Result<()> {
        let is_whole = self.nodes().iter().all(|node| node.process.is_alive());
        let running = self.running(node);
        if is_whole { running.wait_until_whole() } else { running.wait_until_up() }
    }

    /// Kills a memcached server (SIGKILL).
    ///
    /// # Errors
    /// [`Error::Signal`], [`Error::Unstoppable`].
    pub fn kill_memcached(&mut self, server: usize) -> Result<()> {
        self.kill(self.state.memcached[server].process)
    }

    /// Starts a memcached server again, empty, killing it first if it runs.
    ///
    /// # Errors
    /// [`Error::Died`], [`Error::NotReady`], or whatever keeps its process from starting.
    pub fn restart_memcached(&mut self, server: usize) -> Result<()> {
        self.kill_memcached(server)?;
        self.spawn_memcached(server, self.state.memcached[server].address)
    }

    /// Makes a memcached server forget everything (`flush_all`).
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn flush_memcached(&self, server: usize) -> Result<()> {
        memcached::flush(self.state.memcached[server].address)
    }

    fn start_all(&mut self) -> Result<()> {
        let started = self.try_start_all();
        if started.is_err() {
            // What went wrong at first is worth more than what goes wrong while clearing up.
            let _ = self.end_now();
        }
        started
    }

    fn try_start_all(&mut self) -> Result<()> {
        let State { place, shape, .. } = self.state.clone();
        empty(&place.folder)?;
        // From here on the folder is known as ours.
        self.state.save()?;
        if shape.tls && shape.nodes > 0 {
            let java = self.programs.cassandra()?.java.clone();
            Certificates::make(&certificates_folder(&place), &java, shape.node_addresses(&place))?;
        }
        for (node, address) in shape.node_addresses(&place).enumerate() {
            let datacenter = shape.datacenter(node);
            let name = format!("Cassandra {} of {} on {address}", node + 1, shape.nodes_in_all());
            self.programs.cassandra()?;
            let task = Task::begin(format!("starting {name} ({datacenter})"));
            let settings = Settings {
                folder: self.node_folder(node),
                address,
                seed: place.first_address,
                datacenter: datacenter.clone(),
                auth: shape.auth,
                commitlog_sync: shape.commitlog_sync,
                certificates: self.certificates(),
            };
            settings.binds().into_iter().try_for_each(ensure_free)?;
            settings.write()?;
            self.spawn_node_at(node, address, datacenter)?;
            self.running(node).wait_until_up()?;
            task.done();
        }
        if shape.auth && shape.nodes_in_all() > 1 {
            self.running(0).spread_logins(&shape)?;
        }
        for node in 0..self.nodes().len() {
            self.running(node).wait_until_whole()?;
        }
        for (server, port) in shape.memcached_ports().enumerate() {
            let address = (place.first_address, port).into();
            ensure_free(address)?;
            self.spawn_memcached(server, address)?;
        }
        Ok(())
    }

    /// Starts those servers again that have ended.
    fn revive(mut self) -> Result<Up> {
        let mut up = Up::RanAlready;
        for node in 0..self.nodes().len() {
            if !self.nodes()[node].process.is_alive() {
                let task = Task::begin(format!("starting Cassandra on {} again", self.nodes()[node].address));
                self.restart_node(node)?;
                task.done();
                up = Up::Revived;
            }
        }
        for server in 0..self.memcached().len() {
            if !self.memcached()[server].process.is_alive() {
                self.restart_memcached(server)?;
                up = Up::Revived;
            }
        }
        Ok(up)
    }

    fn spawn_node(&mut self, node: usize) -> Result<()> {
        let Node { address, datacenter, .. } = self.state.nodes[node].clone();
        self.spawn_node_at(node, address, datacenter)
    }

    fn spawn_node_at(&mut self, node: usize, address: std::net::Ipv4Addr, datacenter: String) -> Result<()> {
        let folder = self.node_folder(node);
        let command = cassandra::command(&folder, self.programs.cassandra()?);
        let process = self.spawn(&command, &cassandra::log(&folder))?;
        replace_or_push(&mut self.state.nodes, node, Node { address, datacenter, process });
        self.state.save()
    }

    fn spawn_memcached(&mut self, server: usize, address: SocketAddr) -> Result<()> {
        let command = memcached::command(self.programs.memcached()?, address);
        let log = self.state.place.folder.join(format!("memcached-{}.log", server + 1));
        let process = self.spawn(&command, &log)?;
        replace_or_push(&mut self.state.memcached, server, Memcached { address, process });
        self.state.save()?;
        memcached::wait_until_up(address, process, &log)
    }

    fn spawn(&mut self, command: &Command, log: &Path) -> Result<Pid> {
        let (child, process) = process::spawn(command, log, self.is_detached)?;
        self.children.push(child);
        Ok(process)
    }

    fn kill(&mut self, process: Pid) -> Result<()> {
        process.kill()?;
        // A child that has ended is not gone before its parent has asked for it.
        if let Some(child) = self.children.iter().position(|child| child.id() == process.pid) {
            let _ = self.children.swap_remove(child).wait();
        }
        Ok(())
    }

    /// Kills all and removes all.
    fn end_now(&mut self) -> Result<()> {
        for process in self.state.processes().collect::<Vec<_>>() {
            self.kill(process)?;
        }
        empty(&self.state.place.folder)
    }

    fn running(&self, node: usize) -> Running {
        let Node { address, process, .. } = &self.state.nodes[node];
        let Shape { auth, tls, .. } = self.state.shape;
        Running { folder: self.node_folder(node), address: *address, pid: *process, auth, tls }
    }

    fn node_folder(&self, node: usize) -> PathBuf {
        self.state.place.folder.join(format!("cassandra-{}", node + 1))
    }

    fn certificates(&self) -> Option<Certificates> {
        self.state.shape.tls.then(|| Certificates::in_folder(&certificates_folder(&self.state.place)))
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        if self.is_detached {
            return;
        }
        for process in self.state.processes().collect::<Vec<_>>() {
            if let Err(error) = self.kill(process) {
                eprintln!("warning: {error}");
            }
        }
        let folder = &self.state.place.folder;
        if std::thread::panicking() {
            eprintln!("logs of the servers stay in {} until the next run", folder.display());
        } else if let Err(error) = empty(folder) {
            eprintln!("warning: {error}");
        }
    }
}

pub(crate) fn certificates_folder(place: &Place) -> PathBuf {
    place.folder.join("certificates")
}

fn replace_or_push<T>(list: &mut Vec<T>, index: usize, value: T) {
    match list.get_mut(index) {
        Some(old) => *old = value,
        None => list.push(value),
    }
}

/// Asks all to end, and kills those that do not.
fn end(state: &State) -> Result<()> {
    state.processes().try_for_each(Pid::terminate)?;
    let deadline = now() + END_PATIENCE;
    for process in state.processes() {
        if !process.ends_within(deadline.saturating_duration_since(now())) {
            process.kill()?;
        }
    }
    Ok(())
}

/// Removes a place's folder, if it is one: a folder with other things in it was named by mistake.
fn empty(folder: &Path) -> Result<()> {
    let is_in_use = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if is_in_use && State::load(folder)?.is_none() {
        let allowed = "a folder that holds nothing else, as all in it is removed".to_owned();
        return Err(Error::Option { field: "folder of the servers", value: folder.display().to_string(), allowed });
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file(folder)(error)),
        _ => Ok(()),
    }
}

/// A server that cannot listen says so late and in many words.
fn ensure_free(address: SocketAddr) -> Result<()> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::AddressTaken { address, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_holds_anything_else_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("thesis.tex");
        fs::write(&precious, "…").unwrap();
        let place = Place { folder: folder.path().to_owned(), first_address: std::net::Ipv4Addr::LOCALHOST };
        let shape = Shape { nodes: 0, memcached: 1, ..Shape::default() };
        let refused = Set::start(&place, &shape).unwrap_err().to_string();
        assert!(refused.starts_with("folder of the servers: "), "{refused}");
        assert!(!Set::down(&place).unwrap());
        assert!(precious.exists());
    }

    #[test]
    fn an_address_in_use_is_refused_before_a_server_is_started() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let error = ensure_free(address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{address}: in use by another program")), "{error}");
        drop(listener);
        ensure_free(address).unwrap();
    }
}
