//! A cluster: started, asked, hurt part by part, ended.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tallyman_servers::process::{self, end_of, now};
use tallyman_servers::progress::Task;
use tallyman_servers::{Lock, Pid};

use crate::audit::AuditLog;
use crate::command::{self, NodePrograms, Programs};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::install;
use crate::kubeconfig::{self, Credentials};
use crate::machine;
use crate::node::{self, NodeFiles};
use crate::options::{Place, Shape};
use crate::part::{Health, Part};
use crate::readiness;
use crate::state::State;

/// How long a part may take to start. On an idle machine they all take 5 s.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(100);
/// How long parts may take to end when asked to, before they are killed.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Outlives every test.
const TOKEN_DURATION: &str = "24h";

/// What [`Cluster::up`] had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Up {
    /// Nothing ran before.
    Started,
    /// Just this ran already.
    RanAlready,
    /// Just this was started before, and some processes had ended; they run again, with their data.
    Revived,
}

/// A cluster that ends with this value.
#[derive(Debug)]
pub struct Cluster {
    state: State,
    programs: Programs,
    children: Vec<Child>,
    /// What runs on behind us has sessions of its own; others hear what our terminal says, such as Ctrl-C.
    is_detached: bool,
    _lock: Lock,
}

impl Cluster {
    /// Starts a cluster that runs on until [`down`](Self::down), installing what is missing.
    ///
    /// # Errors
    /// [`Error::OtherShape`] where another cluster runs in this place; whatever keeps this one from starting.
    pub fn up(place: &Place, shape: &Shape) -> Result<Up> {
        let mut cluster = Self::locked(place, shape, true)?;
        if let Some(running) = State::load(&place.folder)? {
            if running.place == *place && running.shape == *shape && running.is_complete() {
                cluster.state = running;
                return cluster.revive();
            }
            if running.processes().any(Pid::is_alive) {
                let describe = |place: &Place, shape: &Shape| format!("{shape} on {}", place.address);
                return Err(Error::OtherShape {
                    folder: place.folder.clone(),
                    running: describe(&running.place, &running.shape),
                    asked: describe(place, shape),
                });
            }
        }
        if let Err(error) = cluster.start_all() {
            // What the error does not tell is in the logs, which stay until the next run.
            end(&cluster.state)?;
            // Nothing of it is left that could be started again.
            State::empty(place, shape).save()?;
            return Err(error);
        }
        Ok(Up::Started)
    }

    /// Starts a cluster that ends with the returned value. What an earlier run left in this place is ended first; one that still
    /// goes on is waited for.
    ///
    /// # Errors
    /// Whatever keeps it from starting.
    pub fn start(place: &Place, shape: &Shape) -> Result<Self> {
        let mut cluster = Self::locked(place, shape, false)?;
        if let Some(left) = State::load(&place.folder)? {
            end(&left)?;
        }
        cluster.start_all()?;
        Ok(cluster)
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
        place.validate(shape)?;
        if shape.node {
            machine::ensure_possible()?;
        }
        let programs = Programs {
            etcd: install::etcd()?,
            kubernetes: install::kubernetes(shape.version)?,
            node: shape.node.then(install::node).transpose()?,
        };
        let lock = Lock::take(&place.folder)?;
        Ok(Self { state: State::empty(place, shape), programs, children: Vec::new(), is_detached, _lock: lock })
    }

    /// Where it lives.
    pub fn place(&self) -> &Place {
        &self.state.place
    }

    /// The administrator's kubeconfig file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.files().kubeconfig()
    }

    /// A kubeconfig file for a user of this name in these groups, known by a certificate. It may do what its name and groups are
    /// granted; members of `system:masters` may do everything.
    ///
    /// # Errors
    /// [`Error`] where the file cannot be made.
    pub fn user(&self, name: &str, groups: &[&str]) -> Result<PathBuf> {
        let path = self.files().kubeconfigs().join(kubeconfig::file_name(name));
        self.write_user(&path, name, groups)?;
        Ok(path)
    }

    /// A kubeconfig file for a ServiceAccount that exists, known by a token that the API server gives for 24 h.
    ///
    /// # Errors
    /// [`Error`] where there is no such ServiceAccount.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", name, "--namespace", namespace, "--duration", TOKEN_DURATION])?;
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let path = self.files().kubeconfigs().join(kubeconfig::file_name(&user));
        self.write_kubeconfig(&path, &user, &Credentials::Token { token: token.trim().to_owned() })?;
        Ok(path)
    }

    /// Runs kubectl as administrator; what it printed.
    ///
    /// # Errors
    /// [`tallyman_servers::Error::Failed`] with what it complained of.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.kubectl_command();
        self.output(command.args(arguments).stdin(Stdio::null()))
    }

    /// Creates or changes objects, as YAML or JSON.
    ///
    /// # Errors
    /// [`tallyman_servers::Error::Failed`] with what the API server complained of.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let path = self.state.place.folder.join("applied.yaml");
        fs::write(&path, manifest).map_err(Error::file(&path))?;
        let mut command = self.kubectl_command();
        self.output(command.arg("apply").arg("--filename").arg(&path).stdin(Stdio::null()))?;
        Ok(())
    }

    /// kubectl as administrator, for those who need more than [`kubectl`](Self::kubectl).
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.programs.kubernetes.join("kubectl"));
        command.env("KUBECONFIG", self.kubeconfig()).current_dir(&self.state.place.folder);
        command
    }

    /// Brings docker-archives of images to the node, so that pods with `imagePullPolicy: IfNotPresent` have them.
    ///
    /// # Errors
    /// [`Error::NoNode`]; [`tallyman_servers::Error::Failed`] with what containerd complained of.
    pub fn load_images(&self, archives: &[PathBuf]) -> Result<()> {
        bring(&self.state, self.node_programs()?, archives)
    }

    /// The API server's account of who asked for what.
    pub fn audit_log(&self) -> AuditLog {
        AuditLog { path: self.files().audit_log() }
    }

    /// A part's process.
    pub fn process(&self, part: Part) -> Pid {
        // All parts have been started before anybody gets hold of a cluster.
        self.state.processes[&part]
    }

    /// Where a part's log is.
    pub fn log(&self, part: Part) -> PathBuf {
        self.files().log(part)
    }

    /// Kills a part (SIGKILL). What etcd holds stays.
    ///
    /// # Errors
    /// Where it cannot be signalled or does not end.
    pub fn kill(&mut self, part: Part) -> Result<()> {
        self.kill_process(self.process(part))
    }

    /// Stops a part in its tracks (SIGSTOP); its connections stay open and silent.
    ///
    /// # Errors
    /// Where it cannot be signalled.
    pub fn pause(&self, part: Part) -> Result<()> {
        Ok(self.process(part).pause()?)
    }

    /// Lets a paused part go on (SIGCONT).
    ///
    /// # Errors
    /// Where it cannot be signalled.
    pub fn resume(&self, part: Part) -> Result<()> {
        Ok(self.process(part).resume()?)
    }

    /// Starts a part again, killing it first if it runs, and waits until it is ready.
    ///
    /// # Errors
    /// [`Error::Died`], [`Error::NotReady`], or whatever keeps its process from starting.
    pub fn restart(&mut self, part: Part) -> Result<()> {
        self.kill(part)?;
        self.spawn(part)?;
        self.wait_until_ready(part)
    }

    fn start_all(&mut self) -> Result<()> {
        // An earlier run's may stay where it ended in a panic.
        empty(&self.state.place.folder)?;
        // From here on the folder is known as ours.
        self.state.save()?;
        let files = self.files();
        for folder in [files.keys(), files.kubeconfigs()] {
            fs::create_dir_all(&folder).map_err(Error::file(&folder))?;
        }
        files.write_audit_policy().map_err(Error::file(files.0))?;
        let addresses = [self.state.place.address, node::API_SERVICE].map(|address| address.to_string());
        let mut certificates = self.certificates("cluster");
        self.output(certificates.arg(files.keys()).args(addresses))?;
        self.write_user(&files.kubeconfig(), "admin", &["system:masters"])?;
        self.write_user(&files.controller_manager_kubeconfig(), "system:kube-controller-manager", &[])?;
        let shape = self.state.shape.clone();
        if shape.node {
            self.write_node_files()?;
        }
        let task = Task::begin(format!("starting the {shape} on {}", self.state.place.address));
        for &part in Part::all(&shape) {
            if !shape.node {
                ensure_free(part, &self.state.place)?;
            }
            self.spawn(part)?;
            self.wait_until_ready(part)?;
            match part {
                Part::Machine => machine::prepare(self.process(part), &self.state.place, &[node::DNS])?,
                Part::Containerd => self.load_images(std::slice::from_ref(&self.node_programs()?.pause_image))?,
                _ => {}
            }
        }
        task.done();
        Ok(())
    }

    fn node_programs(&self) -> Result<&NodePrograms> {
        self.programs.node.as_ref().ok_or(Error::NoNode)
    }

    fn write_node_files(&self) -> Result<()> {
        let files = NodeFiles(&self.state.place.folder);
        files.write(&self.state.place)?;
        let node = format!("system:node:{}", node::NAME);
        let users: [(&str, &str, &[&str]); 4] = [
            ("scheduler", "system:kube-scheduler", &[]),
            ("kubelet", &node, &["system:nodes"]),
            ("proxy", "system:kube-proxy", &[]),
            // There is no role of Kubernetes' own for it; it reads Services, pods and namespaces.
            ("coredns", "coredns", &["system:masters"]),
        ];
        for (of, user, groups) in users {
            self.write_user(&files.kubeconfig(of), user, groups)?;
        }
        Ok(())
    }

    /// Starts those parts again that have ended.
    fn revive(mut self) -> Result<Up> {
        let mut up = Up::RanAlready;
        for &part in Part::all(&self.state.shape.clone()) {
            if !self.process(part).is_alive() {
                self.restart(part)?;
                up = Up::Revived;
            }
        }
        Ok(up)
    }

    fn spawn(&mut self, part: Part) -> Result<()> {
        let State { place, shape, processes } = &self.state;
        let machine = processes.get(&Part::Machine).copied();
        if part == Part::Machine && machine.is_some() {
            return Err(Error::MachineEnded(place.folder.clone()));
        }
        let start = command::start(part, place, shape, &self.programs, machine);
        let (mut child, mut process) = process::spawn(&start.command, &self.log(part), self.is_detached)?;
        if start.is_child {
            process = readiness::child_of(process, &mut child)
                .ok_or_else(|| Error::Died { part: part.name(), log: end_of(&self.log(part)) })?;
        }
        self.children.push(child);
        self.state.processes.insert(part, process);
        self.state.save()
    }

    fn wait_until_ready(&self, part: Part) -> Result<()> {
        let deadline = now() + PATIENCE;
        let end_of_log = || end_of(&self.log(part));
        loop {
            let Err(last) = self.ask(part) else { return Ok(()) };
            if !self.process(part).is_alive() {
                return Err(Error::Died { part: part.name(), log: end_of_log() });
            }
            if now() >= deadline {
                return Err(Error::NotReady { part: part.name(), patience: PATIENCE, last, log: end_of_log() });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Whether a part is ready, or why not.
    fn ask(&self, part: Part) -> std::result::Result<(), String> {
        let text = |error: Error| error.to_string();
        match part.health(&self.state.place) {
            Health::Running => Ok(()),
            Health::Http(address, path, sign) => readiness::ask(address, path, sign),
            Health::Https(address, path) => {
                let server = format!("https://{address}");
                self.kubectl(&["--request-timeout=5s", "--server", &server, "get", "--raw", path]).map_err(text)?;
                if part == Part::ControllerManager {
                    // Without it no pod can be created; it is the work of a controller.
                    self.kubectl(&["get", "serviceaccount", "default", "--namespace", "default"]).map_err(text)?;
                }
                Ok(())
            }
            Health::Containerd => {
                let mut command = ctr(&self.state, self.node_programs().map_err(text)?);
                self.output(command.arg("version")).map(drop).map_err(text)
            }
            Health::NodeReady(kubelet) => {
                readiness::ask(kubelet, "/healthz", " 200 ")?;
                let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")]}";
                let ready = self.kubectl(&["get", "node", node::NAME, "--output", condition]).map_err(text)?;
                if ready.contains(r#""status":"True""#) { Ok(()) } else { Err(ready) }
            }
        }
    }

    fn write_user(&self, path: &Path, name: &str, groups: &[&str]) -> Result<()> {
        let mut command = self.certificates("user");
        let text = self.output(command.arg(self.files().keys()).arg(name).args(groups))?;
        let credentials: Credentials = serde_json::from_str(&text).map_err(Error::answer("certificates", ""))?;
        self.write_kubeconfig(path, name, &credentials)
    }

    fn write_kubeconfig(&self, path: &Path, user: &str, credentials: &Credentials) -> Result<()> {
        let authority = self.output(self.certificates("authority").arg(self.files().keys()))?;
        let text = kubeconfig::text(&self.state.place, authority.trim(), user, credentials);
        fs::write(path, text).map_err(Error::file(path))
    }

    fn certificates(&self, what: &str) -> Command {
        let mut command = Command::new(self.programs.kubernetes.join("certificates"));
        command.arg(what).stdin(Stdio::null());
        command
    }

    fn output(&self, command: &mut Command) -> Result<String> {
        let program = command.get_program().display().to_string();
        let failed = |source| tallyman_servers::Error::Program { program: program.clone(), source };
        let output = command.output().map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(tallyman_servers::Error::Failed { what: program, status: output.status, output: printed }.into())
    }

    fn kill_process(&mut self, process: Pid) -> Result<()> {
        process.kill()?;
        // A child that has ended is not gone before its parent has asked for it.
        if let Some(child) = self.children.iter().position(|child| child.id() == process.pid) {
            let _ = self.children.swap_remove(child).wait();
        }
        Ok(())
    }

    fn files(&self) -> Files<'_> {
        Files(&self.state.place.folder)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_detached {
            return;
        }
        for process in self.state.processes().collect::<Vec<_>>() {
            if let Err(error) = self.kill_process(process) {
                eprintln!("warning: {error}");
            }
        }
        if self.state.shape.node {
            machine::disconnect(&self.state.place);
            machine::remove_cgroups();
        }
        let folder = &self.state.place.folder;
        if std::thread::panicking() {
            eprintln!("logs of the cluster stay in {} until the next run", folder.display());
        } else if let Err(error) = empty(folder) {
            eprintln!("warning: {error}");
        }
    }
}

/// Brings docker-archives of images to the node of the cluster that runs in a place, whoever started it.
///
/// # Errors
/// [`Error::NoCluster`], [`Error::NoNode`]; [`tallyman_servers::Error::Failed`] with what containerd complained of.
pub fn load_images(place: &Place, archives: &[PathBuf]) -> Result<()> {
    let state = State::load(&place.folder)?.ok_or(Error::NoCluster)?;
    if !state.shape.node {
        return Err(Error::NoNode);
    }
    bring(&state, &install::node()?, archives)
}

fn bring(state: &State, programs: &NodePrograms, archives: &[PathBuf]) -> Result<()> {
    for archive in archives {
        let mut command = ctr(state, programs);
        command.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
        process::run(&format!("loading {}", archive.display()), &mut command)?;
    }
    Ok(())
}

/// What talks to the containerd of a node.
fn ctr(state: &State, programs: &NodePrograms) -> Command {
    let mut command = Command::new(&programs.ctr);
    command.arg("--address").arg(NodeFiles(&state.place.folder).containerd_socket());
    command
}

/// Asks each to end, the last started first, and kills those that do not.
fn end(state: &State) -> Result<()> {
    for process in state.processes() {
        process.terminate()?;
        if !process.ends_within(END_PATIENCE) {
            process.kill()?;
        }
    }
    if state.shape.node {
        machine::disconnect(&state.place);
        machine::remove_cgroups();
    }
    Ok(())
}

/// Removes a place's folder, if it is one: a folder with other things in it was named by mistake.
fn empty(folder: &Path) -> Result<()> {
    let is_in_use = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if is_in_use && State::load(folder)?.is_none() {
        let allowed = "a folder that holds nothing else, as all in it is removed".to_owned();
        return Err(Error::Option { field: "folder of the cluster", value: folder.display().to_string(), allowed });
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file(folder)(error)),
        _ => Ok(()),
    }
}

/// A process that cannot listen says so late and in many words.
fn ensure_free(part: Part, place: &Place) -> Result<()> {
    for address in part.binds(place) {
        TcpListener::bind(address).map_err(|source| Error::AddressTaken { address, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_holds_anything_else_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let precious = folder.path().join("thesis.tex");
        fs::write(&precious, "…").unwrap();
        let refused = empty(folder.path()).unwrap_err().to_string();
        assert!(refused.starts_with("folder of the cluster: "), "{refused}");
        let place = Place { folder: folder.path().to_owned(), address: [127, 0, 100, 2].into() };
        assert!(!Cluster::down(&place).unwrap());
        assert!(precious.exists());
    }

    #[test]
    fn an_address_in_use_is_refused_before_a_process_is_started() {
        let place = Place { folder: "/nowhere".into(), address: [127, 0, 100, 3].into() };
        let listener = TcpListener::bind(place.api_server()).unwrap();
        let error = ensure_free(Part::ApiServer, &place).unwrap_err().to_string();
        assert!(error.starts_with("127.0.100.3:6443: in use by another program"), "{error}");
        drop(listener);
        ensure_free(Part::ApiServer, &place).unwrap();
    }
}
