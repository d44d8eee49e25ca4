//! The examples: everything renders and names images that there are, and each application counts each add once, whatever happens to its
//! sidecar.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tallyman_e2e::PATIENCE;
use tallyman_e2e::binaries::{Binaries, command};
use tallyman_e2e::packaging::{documents, printed, root, tool};
use tallyman_servers::Pid;

const APPLICATIONS: [&str; 3] = ["curl", "python", "go"];
/// Official images, which `cargo xtask images --examples` has stand-ins for.
const OFFICIAL: [&str; 2] = ["busybox:1.37", "cassandra:5.0"];
/// Enough for an application to begin its next add, and short enough for none to give up.
const MOMENT: Duration = Duration::from_millis(700);
const POLL: Duration = Duration::from_millis(20);
/// How long retries are safe in namespace `hasty`.
const HASTE: Duration = Duration::from_secs(1);
/// Each read has all adds before it, and retries are safe for longer than any of these tests take, but for one.
const NAMESPACES: &str = "\
apiVersion: tallyman.dev/v1alpha1
kind: CounterNamespace
metadata:
  name: video-plays
spec:
  counterType: Accurate
  cardinality: Low
  eventStore: {acceptLimit: 2m, writeTimeout: 500ms, maxClockSkew: 100ms}
---
apiVersion: tallyman.dev/v1alpha1
kind: CounterNamespace
metadata:
  name: hasty
spec:
  counterType: Accurate
  cardinality: Low
  eventStore: {acceptLimit: 1s, writeTimeout: 500ms, maxClockSkew: 100ms}
";

/// The files below a folder with this name's end.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

/// The values of all fields `image`.
fn images(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(images).collect(),
        Value::Object(fields) => {
            let own = fields.get("image").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(images)).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_image_that_an_example_names_is_one_that_we_build_or_an_official_one() {
    let mut ours = APPLICATIONS.map(|name| format!("ghcr.io/tallyman/example-{name}:{}", env!("CARGO_PKG_VERSION")));
    let mut named = Vec::new();
    for file in files(&root().join("examples"), ".yaml") {
        // Scripts of Helm and configurations of others have no fields of this name.
        named.extend(documents(&fs::read_to_string(file).unwrap()).iter().flat_map(images));
    }
    named.sort();
    named.dedup();
    ours.sort();
    let expected: Vec<String> = OFFICIAL.map(str::to_owned).into_iter().chain(ours).collect();
    assert_eq!(named, expected);
}

#[test]
#[ignore = "builds kubectl: cargo xtask test"]
fn every_folder_of_the_examples_renders() {
    let kustomizations = files(&root().join("examples"), "/kustomization.yaml");
    assert!(kustomizations.len() >= 9, "{kustomizations:?}");
    for file in kustomizations {
        let rendered = documents(&printed(tool("kubectl").arg("kustomize").arg(file.parent().unwrap())));
        assert!(!rendered.is_empty(), "{}", file.display());
        for object in &rendered {
            assert!(object["kind"].is_string() && object["metadata"]["name"].is_string(), "{}", file.display());
        }
    }
}

/// An unpacked image.
struct Image {
    root: PathBuf,
    config: Value,
}

impl Image {
    /// That of an application; all are built first.
    fn of(application: &str) -> Self {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let folder = BUILT.get_or_init(|| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
            if folder.exists() {
                fs::remove_dir_all(&folder).unwrap();
            }
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            printed(
                Command::new(cargo).args(["xtask", "images", "--examples", "--out"]).arg(&folder).current_dir(root()),
            );
            for application in APPLICATIONS {
                let image = folder.join(application);
                unpack(&folder.join(format!("example-{application}.tar")), &image);
                let manifest = json(&image.join("manifest.json"));
                for layer in manifest[0]["Layers"].as_array().unwrap() {
                    unpack(&image.join(layer.as_str().unwrap()), &image.join("root"));
                }
                // What a container has.
                for mounted in ["proc", "dev"] {
                    fs::create_dir_all(image.join("root").join(mounted)).unwrap();
                }
            }
            folder
        });
        let image = folder.join(application);
        let config = json(&image.join(json(&image.join("manifest.json"))[0]["Config"].as_str().unwrap()));
        Self { root: image.join("root"), config: config["config"].clone() }
    }

    fn words(&self, field: &str) -> Vec<&str> {
        self.config[field].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
    }
}

fn unpack(archive: &Path, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    printed(Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("--directory").arg(folder));
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// What the containers of a pod share, a loopback of their own, where a server takes the place of the sidecar.
struct Pod {
    folder: tempfile::TempDir,
    /// Holds the network for as long as the pod is there.
    network: Child,
    server: Option<Child>,
}

impl Pod {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("namespaces.yaml"), NAMESPACES).unwrap();
        let script = "ip link set lo up && echo up && exec sleep infinity";
        let mut holder = Command::new("unshare");
        let mut network = holder.args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(network.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut pod = Self { folder, network, server: None };
        assert_eq!(line, "up\n", "a network of its own needs root");
        pod.start_server();
        pod
    }

    /// A program in the pod's network.
    fn command(&self) -> Command {
        let mut nsenter = command("nsenter".into());
        nsenter.arg(format!("--net=/proc/{}/ns/net", self.network.id())).stdin(Stdio::null());
        nsenter
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn start_server(&mut self) {
        let mut server = self.command();
        server.arg(Binaries::built().tallyman()).arg("standalone");
        server.arg("--namespaces").arg(self.folder.path().join("namespaces.yaml"));
        server.arg("--data-dir").arg(self.folder.path().join("data")).arg("--unix-socket").arg(self.socket());
        self.server = Some(server.stdout(Stdio::null()).args(["--log-level", "warn"]).spawn().unwrap());
        for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
            if self.count("nobody").is_ok() {
                return;
            }
            sleep(POLL);
        }
        panic!("the server does not answer");
    }

    fn kill_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    fn server(&self) -> Pid {
        Pid::running(self.server.as_ref().unwrap().id()).unwrap()
    }

    /// A counter by HTTP, read from outside of the pod.
    fn count(&self, counter: &str) -> std::io::Result<u64> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let path = format!("/v1/namespaces/video-plays/counters/{counter}");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let body: Value =
            serde_json::from_str(body).map_err(|error| std::io::Error::other(format!("{error}: {answer}")))?;
        Ok(body["count"].as_str().map_or(0, |count| count.parse().unwrap()))
    }

    fn wait_for_count(&self, counter: &str, least: u64) {
        for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
            if self.count(counter).unwrap() >= least {
                return;
            }
            sleep(POLL);
        }
        panic!("{counter} does not count to {least}");
    }

    /// Starts an application as its image says: its program and variables, as nobody, in a root that has nothing else.
    fn run(&self, application: &str, variables: &[&str]) -> Child {
        let image = Image::of(application);
        let mounted =
            "mount --rbind /proc \"$0/proc\" && mount --rbind /dev \"$0/dev\" && exec env --ignore-environment \"$@\"";
        let mut command = self.command();
        command.args(["unshare", "--mount", "sh", "-c", mounted]).arg(&image.root);
        command.args(image.words("Env")).args(variables);
        command.args(["chroot", &format!("--userspec={}", image.config["User"].as_str().unwrap())]).arg(&image.root);
        command.args(image.words("Entrypoint"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for child in self.server.iter_mut().chain([&mut self.network]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What an application printed, once it has ended well.
fn lines(application: &str, mut child: Child) -> Vec<String> {
    if Pid::running(child.id()).is_some_and(|process| !process.ends_within(PATIENCE)) {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{application} ended with {}: {errors}", output.status);
    assert!(errors.is_empty(), "{application}: {errors}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What it prints that has counted this far: no add is missing, and none was counted twice.
fn counted(application: &str, to: u64) -> Vec<String> {
    (1..=to).map(|count| format!("{application} added 1, count {count}")).collect()
}

#[test]
#[ignore = "builds images, and needs root for chroot: cargo xtask test"]
fn every_application_counts_each_add_once_though_its_server_is_killed_with_an_add_in_flight() {
    let mut pod = Pod::start();
    let running = APPLICATIONS.map(|name| (name, pod.run(name, &["TIMES=20", "INTERVAL=0.2"])));
    for application in APPLICATIONS {
        pod.wait_for_count(application, 5);
    }
    // All have an add in flight.
    pod.server().pause().unwrap();
    sleep(MOMENT);
    pod.kill_server();
    sleep(MOMENT);
    pod.start_server();
    for application in APPLICATIONS {
        assert!(pod.count(application).unwrap() < 20, "{application} was done before the server was killed");
    }
    for (application, child) in running {
        assert_eq!(lines(application, child), counted(application, 20));
        assert_eq!(pod.count(application).unwrap(), 20, "{application}");
    }
}

#[test]
#[ignore = "builds images, and needs root for chroot: cargo xtask test"]
fn an_application_that_is_asked_to_end_finishes_the_add_in_flight() {
    let pod = Pod::start();
    for application in APPLICATIONS {
        let child = pod.run(application, &["INTERVAL=0.1"]);
        pod.wait_for_count(application, 3);
        let server = pod.server();
        server.pause().unwrap();
        sleep(MOMENT);
        let process = Pid::running(child.id()).unwrap();
        process.terminate().unwrap();
        assert!(!process.ends_within(MOMENT), "{application} did not wait for its add");
        server.resume().unwrap();
        let lines = lines(application, child);
        assert_eq!(lines, counted(application, pod.count(application).unwrap()));
    }
}

#[test]
#[ignore = "builds images, and needs root for chroot: cargo xtask test"]
fn an_application_whose_add_came_too_late_says_that_an_attempt_before_may_have_counted() {
    let mut pod = Pod::start();
    let start = |name| {
        let mut child = pod.run(name, &["COUNTER_NAMESPACE=hasty", "INTERVAL=0.2"]);
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{name} added 1, count 1\n"));
        // Read no more of, but held: nobody can print to what is closed.
        (name, child, output)
    };
    let running = APPLICATIONS.map(start);
    // All have an add in flight, which is lost, or not.
    pod.server().pause().unwrap();
    sleep(MOMENT);
    pod.kill_server();
    sleep(2 * HASTE);
    pod.start_server();
    for (name, mut child, _output) in running {
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with(&format!("{name} was refused, and an attempt before may have counted: ")), "{line}");
        assert!(line.contains("generation_time lies "), "{line}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
#[ignore = "builds images, and needs root for chroot: cargo xtask test"]
fn an_application_that_is_refused_says_why_and_ends_promptly_when_asked_to() {
    let pod = Pod::start();
    for application in APPLICATIONS {
        let mut child = pod.run(application, &["COUNTER_NAMESPACE=unheard-of", "INTERVAL=30"]);
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with(&format!("{application} was refused: ")), "{line}");
        assert!(line.contains("`unheard-of` is not served here"), "{line}");
        let process = Pid::running(child.id()).unwrap();
        process.terminate().unwrap();
        assert!(process.ends_within(Duration::from_secs(5)), "{application} does not end");
        assert!(child.wait().unwrap().success(), "{application}");
    }
}
